"""What arrives equals what was sent, in type and value, or the call is refused."""

import collections
import datetime as dt
import enum
import math
import threading
from collections.abc import Iterable, Set
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Optional
from zoneinfo import ZoneInfo

import pytest
from conftest import text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from marshaller_strategies import (
    Circle,
    Colour,
    Node,
    Point,
    Square,
    same,
    typed_values,
    union_values,
    untyped,
)

from dingo.errors import BadArguments, BadReturn
from dingo.marshaller import JsonMarshaller, MsgpackMarshaller, PickleMarshaller, binding_of
from dingo.message.report import Code, Failure, Progress, Report, Status
from dingo.message.task import Header, TaskMessage

HEADER = Header("id-1", "work")
MARSHALLERS = [JsonMarshaller(), MsgpackMarshaller(), PickleMarshaller()]
TYPED = MARSHALLERS[:2]
each_marshaller = pytest.mark.parametrize("marshaller", MARSHALLERS, ids=lambda each: each.key)
each_typed = pytest.mark.parametrize("marshaller", TYPED, ids=lambda each: each.key)


def task_of(annotation):
    def work(value):
        return value

    work.__annotations__ = {"value": annotation, "return": annotation}
    return work


def carried(marshaller, fn, *args, **kwargs):
    data = marshaller.encode_task(fn, TaskMessage(HEADER, args, kwargs))
    assert type(data) is bytes
    back = marshaller.decode_task(fn, HEADER, data)
    assert back.header is HEADER
    return back


def carried_value(marshaller, annotation, value):
    fn = task_of(annotation)
    binding = binding_of(fn)
    (value,), _ = binding.check(value)
    return carried(marshaller, fn, value).args[0]


def untyped_task(*args, **kwargs): ...


# --- properties


@each_marshaller
@settings(max_examples=120, deadline=None)
@given(value=untyped)
def test_a_value_without_annotation_arrives_as_it_was_sent(marshaller, value):
    assert same(carried(marshaller, untyped_task, value).args[0], value)


@each_marshaller
@settings(max_examples=80, deadline=None)
@given(value=untyped)
def test_a_value_arrives_as_it_was_sent_where_nobody_knows_the_function(marshaller, value):
    back = carried(marshaller, None, value, key=value)
    assert same(back.args[0], value)
    assert same(back.kwargs["key"], value)


@each_marshaller
@settings(max_examples=200, deadline=None)
@given(pair=typed_values())
def test_a_value_with_annotation_arrives_as_it_was_sent(marshaller, pair):
    annotation, value = pair
    assert same(carried_value(marshaller, annotation, value), value)


@each_marshaller
@settings(max_examples=120, deadline=None)
@given(pair=union_values())
def test_a_member_of_a_union_arrives_as_it_was_sent(marshaller, pair):
    annotation, value = pair
    assert same(carried_value(marshaller, annotation, value), value)


@each_marshaller
@settings(max_examples=80, deadline=None)
@given(pair=typed_values())
def test_a_returned_value_arrives_as_it_was_sent(marshaller, pair):
    annotation, value = pair
    fn = task_of(annotation)
    report = Report("id-1", "work", Status.SUCCESS, value, attempt=1)
    back = marshaller.decode_report(fn, HEADER, marshaller.encode_report(fn, report))
    assert same(back.value, value)


@each_marshaller
@settings(max_examples=60, deadline=None)
@given(args=st.lists(untyped, max_size=3), kwargs=st.dictionaries(st.text(), untyped, max_size=3))
def test_arguments_by_position_and_by_name_survive(marshaller, args, kwargs):
    back = carried(marshaller, untyped_task, *args, **kwargs)
    assert same(back.args, tuple(args))
    assert same(back.kwargs, kwargs)


reports = st.builds(
    Report,
    st.just("id-1"),
    st.just("work"),
    st.sampled_from(Status),
    untyped,
    st.none() | st.builds(Failure, st.sampled_from(Code), st.text(), st.text(st.characters()), st.text()),
    st.none()
    | st.builds(Progress, st.floats(allow_nan=False) | st.integers(), st.none() | st.integers(), st.none() | st.text()),
    st.integers(0, 100),
    st.floats(0, 1e11),
)


@each_marshaller
@settings(max_examples=100, deadline=None)
@given(report=reports)
def test_a_report_survives_whole(marshaller, report):
    back = marshaller.decode_report(None, HEADER, marshaller.encode_report(None, report))
    assert same(back.value, report.value)
    assert (back.failure, back.progress) == (report.failure, report.progress)
    assert (back.id, back.name, back.status, back.attempt, back.time) == (
        *("id-1", "work", report.status, report.attempt, report.time),
    )
    assert type(back.status) is Status


# --- the wire


def add(a: int, b: int = 0) -> int:
    return a + b


def test_json_writes_a_plain_call_as_it_looks():
    assert JsonMarshaller().encode_task(add, TaskMessage(HEADER, (2, 3))) == b"[[2,3]]"


def test_json_writes_keyword_arguments_beside():
    assert JsonMarshaller().encode_task(add, TaskMessage(HEADER, (2,), {"b": 3})) == b'[[2],{"b":3}]'


@pytest.mark.parametrize(
    "annotation, value, text",
    [
        (dt.datetime, dt.datetime(2024, 1, 2, 3, 4), '"2024-01-02T03:04:00"'),
        (dt.date, dt.date(2024, 1, 2), '"2024-01-02"'),
        (dt.time, dt.time(1, 2), '"01:02:00"'),
        (dt.timedelta, dt.timedelta(days=-1, seconds=5), '"-P0DT86395S"'),
        (bytes, b"AB", '"QUI="'),
        (Decimal, Decimal("1.50"), '"1.50"'),
        (Colour, Colour.RED, '"red"'),
        (tuple[int, ...], (1, 2), "[1,2]"),
        (set[int], {1}, "[1]"),
        (Point, Point(1, 2.0), '{"x":1,"y":2.0}'),
        (Optional[Point], Point(1, 2.0), '{"x":1,"y":2.0}'),
        (dict[dt.date, bytes], {dt.date(2024, 1, 2): b""}, '{"2024-01-02":""}'),
        (Any, dt.date(2024, 1, 2), '{"~date":"2024-01-02"}'),
        (str | dt.date, dt.date(2024, 1, 2), '{"~date":"2024-01-02"}'),
        (str | dt.date, "2024-01-02", '"2024-01-02"'),
        (Circle | Square, Square(1.0), '{"~member":["Square",{"size":1.0}]}'),
        (Any, (1, 2), '{"~tuple":[1,2]}'),
        (Any, {1: 2}, '{"~dict":[[1,2]]}'),
        (Any, {"~tuple": [1]}, '{"~dict":[["~tuple",[1]]]}'),
        (float, math.inf, '{"~float":"inf"}'),
    ],
)
def test_json_writes(annotation, value, text):
    data = JsonMarshaller().encode_task(task_of(annotation), TaskMessage(HEADER, (value,)))
    assert data.decode() == f"[[{text}]]"


def test_json_is_json_to_every_reader_also_with_nan():
    data = JsonMarshaller().encode_task(untyped_task, TaskMessage(HEADER, (math.nan, [math.inf])))
    assert b"NaN" not in data
    assert b"Infinity" not in data


def test_a_caller_that_knows_only_the_name_writes_what_the_worker_understands():
    def ship(when: dt.datetime, where: Point, colour: Colour, amounts: tuple[Decimal, ...]): ...

    marshaller = JsonMarshaller()
    args = ("2024-01-02T03:04:00", {"x": 1}, "red", ["1.5", "2"])
    data = marshaller.encode_task(None, TaskMessage(HEADER, args))
    assert marshaller.decode_task(ship, HEADER, data).args == (
        *(dt.datetime(2024, 1, 2, 3, 4), Point(1), Colour.RED, (Decimal("1.5"), Decimal(2))),
    )


def test_a_member_of_a_union_is_read_untyped_where_nobody_knows_the_union():
    marshaller = JsonMarshaller()
    data = marshaller.encode_task(task_of(Circle | Square), TaskMessage(HEADER, (Square(1.0),)))
    assert marshaller.decode_task(None, HEADER, data).args == ({"size": 1.0},)
    assert marshaller.decode_task(task_of(Circle), HEADER, data).args == (Circle(1.0),)
    assert marshaller.decode_task(task_of(Circle | Point), HEADER, data).args == (Circle(1.0),)


def test_message_may_have_space_around_it():
    assert JsonMarshaller().decode_task(add, HEADER, b"\n [ [1, 2] ] \n").args == (1, 2)


# --- particular values


@each_typed
@pytest.mark.parametrize(
    "value",
    [
        *(2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**4000, -(10**6000)),
        *(math.inf, -math.inf, math.nan, -0.0, 5e-324),
        *("\ud800", "\ud83d\ude00", "😀", "\x00", {"\udfff": "\udc00"}),
        *(dt.timedelta.min, dt.timedelta.max, dt.timedelta(microseconds=-1)),
        *(Decimal("-0"), Decimal("sNaN"), Decimal("1E+5000"), Decimal("Infinity")),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        dt.datetime(2024, 10, 27, 2, 30, fold=1),
        dt.time(2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(microseconds=1))),
        ((), [], {}, set(), frozenset()),
        {frozenset({(1, "a")}): {None: True}},
        {"~tuple": [1]},
        {"~": {"~": {"~": 1}}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_carries(marshaller, value):
    assert same(carried(marshaller, untyped_task, value).args[0], value)
    if not isinstance(value, tuple | dict):
        assert same(carried_value(marshaller, type(value), value), value)


def test_a_zone_stays_a_zone():
    paris = dt.datetime(2024, 7, 1, tzinfo=ZoneInfo("Europe/Paris"))
    assert carried_value(JsonMarshaller(), dt.datetime, paris).tzinfo is ZoneInfo("Europe/Paris")


@each_typed
@pytest.mark.parametrize(
    "annotation, value",
    [
        (collections.deque[int], collections.deque([1, 2])),
        (collections.OrderedDict[str, int], collections.OrderedDict(a=1)),
        (collections.Counter[str], collections.Counter("aab")),
        (Iterable[int], (1, 2)),
        (Iterable[int], {1, 2}),
        (Set[int], frozenset({1})),
        (Set[dt.date], {dt.date(2024, 1, 1)}),
        (list[Point | None], [None, Point(1)]),
        (set[tuple[int, str]], {(1, "a")}),
        (Literal[Colour.RED], Colour.RED),
        (dict[str, dict[str, Circle | Square]], {"a": {"b": Square(2.0)}}),
        (Node, Node(Decimal(1), [Node(Decimal(2))])),
        (int | None, True),
    ],
    ids=str,
)
def test_carries_by_annotation(marshaller, annotation, value):
    assert same(carried_value(marshaller, annotation, value), value)


# --- refused rather than changed


class Str(str):
    __slots__ = ()


class List(list):
    pass


@dataclass
class Fancy(Point):
    pass


class Named(NamedTuple):
    a: int


class Doubled(Named):
    def __new__(cls, a):
        return super().__new__(cls, a * 2)


class Choice(enum.Enum):
    LOCK = threading.Lock()


@dataclass
class Counted:
    value: int
    count: int = field(default=0, init=False)


@dataclass
class Hidden:
    value: int
    secret: InitVar[int]

    def __post_init__(self, secret):
        self.extra = secret


class Zone(dt.tzinfo):
    def utcoffset(self, when):
        return dt.timedelta(0)


@each_typed
@pytest.mark.parametrize(
    "annotation, value",
    [
        (Any, threading.Lock()),
        (Any, object()),
        (Any, Str("x")),
        (Any, List([1])),
        (Any, Colour.RED),
        (Any, Point(1)),
        (Any, Named(1)),
        (Any, collections.OrderedDict()),
        (Any, dt.datetime(2024, 1, 1, tzinfo=Zone())),
        (list[int], List([1])),
        (list, List([1])),
        (dict[str, int], collections.OrderedDict(a=1)),
        (Point, Fancy(1)),
        (Point, Point("text")),
        (Point, Point(1, 2)),
        (list[Point], [Point(1), Point(1, 2)]),
        (Choice, Choice.LOCK),
        (collections.deque[int], collections.deque([1], maxlen=3)),
        (Hidden, Hidden(1, 2)),
        (Doubled, Doubled(1)),
    ],
    ids=lambda value: text_of(value)[:40],
)
def test_refuses_what_would_not_arrive_as_it_is(marshaller, annotation, value):
    with pytest.raises(BadArguments):
        carried_value(marshaller, annotation, value)


@each_typed
def test_an_attribute_that_building_does_not_take_must_be_what_building_makes_it(marshaller):
    assert carried_value(marshaller, Counted, Counted(1)) == Counted(1)
    changed = Counted(1)
    changed.count = 7
    with pytest.raises(BadArguments, match="rebuild"):
        carried_value(marshaller, Counted, changed)


@each_typed
def test_the_refusal_names_the_path(marshaller):
    with pytest.raises(BadArguments) as caught:
        carried(marshaller, untyped_task, 1, {"x": [0, threading.Lock()]})
    assert str(caught.value) == (
        f"work(): args[1]['x'][1]: a lock cannot be carried by the {marshaller.key} marshaller"
    )


@each_typed
def test_the_refusal_names_the_field(marshaller):
    @dataclass
    class Box:
        x: Any

    with pytest.raises(BadArguments, match=r"args\[0\]\.x: a lock cannot be carried"):
        carried_value(marshaller, Box, Box(threading.Lock()))


@each_typed
def test_the_refusal_names_the_keyword(marshaller):
    with pytest.raises(BadArguments, match=r"kwargs\['x'\]: a lock cannot"):
        carried(marshaller, untyped_task, x=threading.Lock())


@each_typed
def test_a_class_that_an_annotation_would_carry_says_so(marshaller):
    with pytest.raises(BadArguments, match="a Point cannot be carried by the .* unless the annotation says so"):
        carried(marshaller, untyped_task, Point(1))


@each_typed
def test_a_value_that_contains_itself_is_refused(marshaller):
    endless = []
    endless.append(endless)
    with pytest.raises(BadArguments, match="64 deep"):
        carried(marshaller, untyped_task, endless)


@each_typed
def test_an_instance_that_contains_itself_is_refused(marshaller):
    node = Node(Decimal(1))
    node.children.append(node)
    with pytest.raises(BadArguments, match="64 deep"):
        carried_value(marshaller, Node, node)


@each_typed
def test_depth_up_to_the_limit_is_carried(marshaller):
    deep = 1
    for _ in range(64):
        deep = (deep,)
    assert same(carried(marshaller, untyped_task, deep).args[0], deep)


@each_typed
def test_arguments_that_were_never_checked_are_refused_not_mangled(marshaller):
    with pytest.raises(BadArguments):
        marshaller.encode_task(add, TaskMessage(HEADER, (object(), 1)))


@each_typed
def test_a_returned_value_that_cannot_be_carried_is_a_bad_return(marshaller):
    report = Report("id-1", "work", Status.SUCCESS, [threading.Lock()])
    with pytest.raises(BadReturn, match=r"work\(\): the returned value\[0\]: a lock cannot"):
        marshaller.encode_report(untyped_task, report)


def test_pickle_names_the_argument_that_cannot_be_pickled():
    with pytest.raises(BadArguments, match=r"args\[1\].*cannot pickle '_thread.lock'"):
        carried(PickleMarshaller(), untyped_task, 1, threading.Lock())


def test_pickle_refuses_a_returned_lock():
    report = Report("id-1", "work", Status.SUCCESS, threading.Lock())
    with pytest.raises(BadReturn, match="cannot be pickled"):
        PickleMarshaller().encode_report(untyped_task, report)


def test_pickle_carries_closures():
    base = 40
    fn = carried(PickleMarshaller(), untyped_task, lambda number: base + number).args[0]
    assert fn(2) == 42


# --- corrected again where they arrive


@each_marshaller
def test_what_does_not_fit_the_signature_here_is_refused(marshaller):
    data = marshaller.encode_task(None, TaskMessage(HEADER, ("two", 3)))
    with pytest.raises(BadArguments, match=r"add\(\): argument 'a': expected int, got 'two' \(str\)"):
        marshaller.decode_task(add, HEADER, data)


@each_marshaller
def test_a_missing_argument_is_refused(marshaller):
    data = marshaller.encode_task(None, TaskMessage(HEADER, ()))
    with pytest.raises(BadArguments, match="missing argument 'a'"):
        marshaller.decode_task(add, HEADER, data)


@each_marshaller
def test_arguments_are_corrected_on_arrival(marshaller):
    data = marshaller.encode_task(None, TaskMessage(HEADER, (2.0,), {"b": 3.0}))
    back = marshaller.decode_task(add, HEADER, data)
    assert same((back.args, back.kwargs), ((2,), {"b": 3}))


@each_marshaller
def test_a_returned_value_that_does_not_fit_here_is_a_bad_return(marshaller):
    data = marshaller.encode_report(None, Report("id-1", "work", Status.SUCCESS, "five"))
    with pytest.raises(BadReturn, match="expected int, got 'five'"):
        marshaller.decode_report(add, HEADER, data)


@each_marshaller
def test_a_saved_value_is_not_held_to_the_return_annotation(marshaller):
    report = Report("id-1", "work", Status.PROGRESS, {"so": ("far",)}, progress=Progress(1, 2.5, "half"))
    back = marshaller.decode_report(add, HEADER, marshaller.encode_report(add, report))
    assert same(back.value, report.value)
    assert back.progress == report.progress


@each_marshaller
def test_prepare_keeps_what_is_prepared(marshaller):
    marshaller.prepare("add", add)
    assert binding_of(add) is binding_of(add)
    assert carried(marshaller, add, 1, 2).args == (1, 2)
