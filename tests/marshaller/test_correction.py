"""A value is corrected to its annotation where that loses nothing, and refused otherwise."""

import collections
import collections.abc
import copy
import datetime as dt
import enum
import fractions
import math
import pathlib
import subprocess
import sys
import typing
import uuid
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Callable,
    Generic,
    Iterable,
    Iterator,
    Literal,
    Mapping,
    NewType,
    NotRequired,
    Optional,
    Protocol,
    Required,
    Sequence,
    TypedDict,
    TypeVar,
    Union,
)

import numpy as np
import pytest
from conftest import text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from marshaller_strategies import (
    Address,
    Circle,
    Colour,
    Line,
    Node,
    Pair,
    Point,
    Right,
    Size,
    Square,
    same,
    typed_values,
)

from dingo.marshaller import Mismatch, Unresolved, correction
from dingo.marshaller.correction import MAX_DEPTH, shown
from dingo.marshaller.scalars import timedelta_from_text, timedelta_to_text

T = TypeVar("T")
Number = TypeVar("Number", int, str)
Whole = TypeVar("Whole", bound=int)
UserId = NewType("UserId", int)


def corrected(annotation, value):
    return correction(annotation).apply(value)


def refused(annotation, value):
    with pytest.raises(Mismatch) as caught:
        corrected(annotation, value)
    return caught.value


class Text(str):
    __slots__ = ()


class Level(enum.StrEnum):
    LOW = "low"


@dataclass
class Box(Generic[T]):
    content: T
    more: list[T] = field(default_factory=list)


@dataclass
class Scaled:
    value: int
    factor: InitVar[int]
    hidden: int = field(default=0, init=False)

    def __post_init__(self, factor):
        self.value *= factor


@dataclass
class Picky:
    value: int

    def __post_init__(self):
        if self.value < 0:
            raise ValueError("negative")


class Account(TypedDict, total=False):
    id: Required[int]
    since: dt.date


class Closed(Account):
    until: NotRequired[dt.date]


class Plain: ...


class Child(Plain): ...


class Sized(Protocol):
    def size(self) -> int: ...


@typing.runtime_checkable
class Named(Protocol):
    name: str


Json = typing.Union[None, bool, int, str, list["Json"]]

WHEN = dt.datetime(2024, 1, 2, 3, 4, 5)
ID = uuid.UUID(int=7)


@pytest.mark.parametrize(
    "annotation, value, expected",
    [
        # the contract's table, row by row
        (int, 5, 5),
        (str, "x", "x"),
        (float, 1.5, 1.5),
        (bool, True, True),
        (bytes, b"x", b"x"),
        (None, None, None),
        (float, 2, 2.0),
        (float, 2**60, float(2**60)),
        (float, np.float32(0.5), 0.5),
        (float, np.int64(2), 2.0),
        *((int, 3.0, 3), (int, np.int32(3), 3), (int, np.uint64(2**63), 2**63), (int, np.float32(3), 3)),
        *((int, 1e300, int(1e300)), (int, fractions.Fraction(6, 2), 3), (int, Size.LARGE, 2)),
        *((int, True, True), (bool, np.bool_(True), True)),
        *((tuple[int, ...], [1, 2], (1, 2)), (tuple[int, str], [1, "a"], (1, "a")), (tuple, [1], (1,))),
        *((set[int], [1, 2], {1, 2}), (frozenset[int], [1, 2], frozenset({1, 2})), (set, [1], {1})),
        *((list[int], (1, 2), [1, 2]), (list, (1,), [1])),
        (Point, {"x": 1}, Point(1)),
        (Pair, {"first": 1, "second": "2024-01-02"}, Pair(1, dt.date(2024, 1, 2))),
        (Account, {"id": 1.0, "since": "2024-01-02"}, {"id": 1, "since": dt.date(2024, 1, 2)}),
        (dt.datetime, "2024-01-02T03:04:05", WHEN),
        (dt.datetime, "2024-01-02T03:04:05Z", WHEN.replace(tzinfo=dt.UTC)),
        *((dt.date, "2024-01-02", WHEN.date()), (dt.time, "03:04:05", WHEN.time())),
        (dt.timedelta, "PT1H30M", dt.timedelta(hours=1.5)),
        (dt.timedelta, "1:30:00", dt.timedelta(hours=1.5)),
        *((uuid.UUID, str(ID), ID), (Decimal, "1.50", Decimal("1.50")), (Decimal, 3, Decimal(3))),
        (pathlib.Path, "a/b", pathlib.Path("a/b")),
        (pathlib.PurePosixPath, "a", pathlib.PurePosixPath("a")),
        (Colour, "red", Colour.RED),
        (Size, 2, Size.LARGE),
        (Level, "low", Level.LOW),
        (Right, 3, Right(3)),
        *((bytes, "QUI=", b"AB"), (bytes, "", b"")),
        # strings of a class of their own
        *((str, Text("x"), "x"), (str, Level.LOW, "low"), (str, np.str_("x"), "x")),
        # containers
        (list[float], [1, 2.5], [1.0, 2.5]),
        (list[list[int]], [[1.0]], [[1]]),
        (list[Point], [{"x": 1}], [Point(1)]),
        *((dict[str, int], {"a": 1.0}, {"a": 1}), (dict[dt.date, int], {"2024-01-02": 1}, {WHEN.date(): 1})),
        *((Mapping[str, Colour], {"a": "red"}, {"a": Colour.RED}), (dict, {1: 2}, {1: 2})),
        (Sequence[int], (1.0,), (1,)),
        (Sequence[int], [1.0], [1]),
        (Iterable[Colour], {"red"}, {Colour.RED}),
        (Sequence[str], "abc", "abc"),
        (collections.abc.Set[int], [1], {1}),
        (typing.MutableSequence[int], (1,), [1]),
        (collections.deque[int], [1.0], collections.deque([1])),
        (collections.deque[int], collections.deque([1.0], maxlen=3), collections.deque([1], maxlen=3)),
        (collections.OrderedDict[str, int], {"a": 1.0}, collections.OrderedDict(a=1)),
        (collections.Counter[str], {"a": 1}, collections.Counter(a=1)),
        (
            collections.defaultdict[str, int],
            collections.defaultdict(int, a=1.0),
            collections.defaultdict(int, a=1),
        ),
        (tuple[()], [], ()),
        (tuple[int, ...], [], ()),
        (typing.List[int], (1,), [1]),
        (typing.Tuple, [1], (1,)),
        # choices
        (int | None, None, None),
        (Optional[int], 1.0, 1),
        (float | None, 1, 1.0),
        (Optional[Point], {"x": 1}, Point(1)),
        (int | str, "1", "1"),
        (str | int, 1, 1),
        (float | int, 1, 1),
        (int | float, 1.0, 1.0),
        (int | bool, True, True),
        (str | dt.datetime, "2024-01-02", "2024-01-02"),
        (dt.datetime | int, "2024-01-02", dt.datetime(2024, 1, 2)),
        (list[float] | list[int], [1], [1]),
        (list[int] | tuple[int, ...], (1,), (1,)),
        (dt.date | dt.datetime, WHEN, WHEN),
        (Circle | Point, {"x": 1}, Point(1)),
        (Circle | Square, Square(1.0), Square(1.0)),
        (Point | dict, {"x": 1}, {"x": 1}),
        *((Literal[1, "a"], 1, 1), (Literal["a"], "a", "a"), (Literal[Colour.RED], Colour.RED, Colour.RED)),
        *((Literal[Colour.RED], "red", Colour.RED), (Literal[b"x"], b"x", b"x")),
        # what is seen through
        (Annotated[int, "positive"], 1.0, 1),
        (Annotated[int, []], 1.0, 1),
        (UserId, 1.0, 1),
        (T, "x", "x"),
        (Number, "x", "x"),
        (Whole, 1.0, 1),
        (Any, None, None),
        (object, 1, 1),
        (typing.Final[int], 1.0, 1),
        # records
        (Box[int], {"content": 1.0}, Box(1)),
        (Box[dt.date], {"content": "2024-01-02", "more": ()}, Box(WHEN.date())),
        (Scaled, {"value": 2, "factor": 3}, Scaled(2, 3)),
        (Closed, {"id": 1, "until": "2024-01-02"}, {"id": 1, "until": WHEN.date()}),
        (Line, {"start": {"x": 1}, "end": Point(2)}, Line(Point(1), Point(2))),
        (Node, {"value": "1", "children": [{"value": "2"}]}, Node(Decimal(1), [Node(Decimal(2))])),
        # everything else
        *((type[Plain], Child, Child), (type, int, int)),
        *((Callable, len, len), (Callable[[int], int], abs, abs), (typing.Hashable, 1, 1)),
        *((fractions.Fraction, fractions.Fraction(1, 2), fractions.Fraction(1, 2)), (complex, 1j, 1j)),
        *((Iterator[int], it := iter([1]), it), (Iterable[int], it, it)),
    ],
    ids=text_of,
)
def test_corrects(annotation, value, expected):
    assert same(corrected(annotation, value), expected)


@pytest.mark.parametrize(
    "annotation, value",
    [
        # the contract's table, row by row
        (int, 3.9),
        (int, "2"),
        (int, None),
        (str, None),
        (list[int], None),
        (Point, None),
        (dt.date, None),
        *((list[int], [1, "2"]), (dict[str, list[int]], {"a": [1, 2.5]}), (tuple[int, str], [1, 2])),
        *((Point, {"x": 1, "z": 2}), (Account, {"id": 1, "name": "x"}), (Pair, {"first": 1, "second": "x"})),
        *((set[int], [1, 1]), (frozenset[str], ["a", "a"]), (set[int], [1, 1.0])),
        # numbers
        (int, math.nan),
        (int, math.inf),
        (int, 1j),
        (int, np.array([1, 2])),
        (int, np.float64(0.5)),
        (int, Decimal(1)),
        (float, 2**53 + 1),
        (float, 10**400),
        (float, "1"),
        (float, Decimal(1)),
        (float, fractions.Fraction(1, 3)),
        (bool, 1),
        (bool, "true"),
        (bool, None),
        (str, 1),
        (str, b"x"),
        (bytes, bytearray(b"x")),
        (bytes, 1),
        (bytes, "x"),
        (bytes, "QR=="),
        (bytes, "QQ"),
        (bytes, "QUI=\n"),
        (bytes, "é"),
        (None, 0),
        (None, False),
        *((Decimal, 1.5), (Decimal, True), (Decimal, "x"), (Decimal, np.float64(1))),
        # texts
        (dt.datetime, "yesterday"),
        (dt.datetime, 0),
        (dt.datetime, dt.date(2024, 1, 2)),
        (dt.date, "2024-13-01"),
        (dt.time, "25:00"),
        (dt.timedelta, "P1Y"),
        (dt.timedelta, "P"),
        (dt.timedelta, "PT"),
        (dt.timedelta, 5),
        *((dt.timedelta, "P" + "9" * 12 + "D"), (dt.timedelta, "1:70:00"), (uuid.UUID, "x"), (uuid.UUID, 7)),
        (pathlib.Path, 1),
        (pathlib.Path, b"x"),
        (Colour, "blue"),
        (Colour, None),
        (Size, True),
        (Size, "1"),
        (Right, 99),
        # containers
        (list[int], {1}),
        (list[int], "12"),
        (list, iter([])),
        (tuple[int, ...], {1}),
        (tuple[int, str], [1]),
        *((tuple[()], [1]), (set[int], (1,)), (set[int], "1"), (set, [[]]), (set[Point], [{"x": 1}])),
        (dict, [(1, 2)]),
        (dict[str, int], {1: 1}),
        (dict[dt.date, int], {"2024-01-02": 1, WHEN.date(): 2}),
        (Sequence[int], {1}),
        (Sequence[int], "ab"),
        (Mapping[str, int], [1]),
        (Iterable[int], 5),
        (Iterable[int], ["x"]),
        (collections.abc.Set[int], [1, 1]),
        (collections.deque[int], (1,)),
        (collections.Counter[str], {"a": "x"}),
        *((collections.defaultdict[str, int], {"a": 1}), (list[float], type("L", (list,), {})([1]))),
        # choices
        (int | str, 1.5),
        (int | None, "x"),
        (Literal[1], True),
        (Literal[1], 1.0),
        (Literal["red"], Colour.RED),
        (Literal[Colour.RED], "green"),
        (Literal[True], 1),
        (Circle | Square, {"x": 1}),
        (Circle | None, {"x": 1}),
        *((Number, 1.5), (Whole, "x"), (UserId, "x"), (Annotated[int, 1], "x")),
        # records
        *((Point, {}), (Point, [1, 2]), (Point, {"x": "1"}), (Point, {1: 2}), (Account, {}), (Account, [])),
        *((Scaled, {"value": 1}), (Scaled, {"value": 1, "factor": 1, "hidden": 1}), (Picky, {"value": -1})),
        (Box[int], {"content": "x"}),
        (Box[int], {"content": 1, "more": ["x"]}),
        (Node, {"value": "1", "children": [{}]}),
        # everything else
        (Plain, object()),
        (Plain, Child),
        (Plain, {}),
        (Child, Plain()),
        (type[Plain], int),
        (type[Plain], Plain()),
        (type, 1),
        *((Callable, 1), (Callable[[int], int], lambda: 0), (Named, object()), (Sized, object())),
        *((fractions.Fraction, 0.5), (Iterator[int], [1]), (typing.Hashable, [])),
    ],
    ids=text_of,
)
def test_refuses(annotation, value):
    refused(annotation, value)


# --- properties


@settings(max_examples=150, deadline=None)
@given(pair=typed_values())
def test_what_fits_comes_back_as_the_same_object(pair):
    annotation, value = pair
    assert corrected(annotation, value) is value


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["red", "2024-01-02", "P1D", "QUI=", "1.5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["x", "y", "value", "children", "start", "end", "street"]), inner, max_size=3)
    ),
    max_leaves=8,
)
annotations = st.recursive(
    st.sampled_from(
        [
            int,
            float,
            str,
            bytes,
            dt.date,
            Decimal,
            Colour,
            Size,
            Point,
            Node,
            Line,
            Address,
            Pair,
            Any,
            dt.timedelta,
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda each: list[each]),
        inner.map(lambda each: tuple[each, ...]),
        inner.map(lambda each: dict[str, each]),
        inner.map(lambda each: Optional[each]),
        inner.map(lambda each: Sequence[each]),
        st.tuples(inner, inner).map(lambda each: Union[each]),
        st.tuples(inner, inner).map(lambda each: tuple[each]),
    ),
    max_leaves=3,
)


@settings(max_examples=400, deadline=None)
@given(annotation=annotations, value=values)
def test_correction_is_idempotent_and_never_changes_what_it_is_given(annotation, value):
    before = copy.deepcopy(value)
    try:
        once = corrected(annotation, value)
    except Mismatch as mismatch:
        assert str(mismatch)
        assert same(value, before)
        return
    assert same(value, before)
    assert corrected(annotation, once) is once


@given(delta=st.timedeltas())
def test_durations_survive_their_texts(delta):
    assert timedelta_from_text(timedelta_to_text(delta)) == delta
    assert timedelta_from_text(str(delta)) == delta


@pytest.mark.parametrize(
    "text, expected",
    [
        ("PT0S", dt.timedelta(0)),
        ("P1W", dt.timedelta(weeks=1)),
        ("-P1DT2S", -dt.timedelta(days=1, seconds=2)),
        ("+PT1M", dt.timedelta(minutes=1)),
        ("PT1.5S", dt.timedelta(seconds=1.5)),
        ("PT0,000001S", dt.timedelta(microseconds=1)),
        ("-1 day, 23:59:59", -dt.timedelta(seconds=1)),
    ],
)
def test_durations(text, expected):
    assert corrected(dt.timedelta, text) == expected


# --- what is not touched


def test_the_same_object_comes_back_where_nothing_changes():
    for annotation, value in [
        (list[int], [1]),
        (dict[str, list[str]], {"a": ["b"]}),
        (Account, {"id": 1}),
        (list[Point], [Point(1)]),
    ]:
        assert corrected(annotation, value) is value


def test_unchanged_parts_of_a_changed_container_stay_the_same():
    keep = [1]
    made = corrected(list[list[int]], [keep, [2.0]])
    assert made[0] is keep


def test_instances_are_not_looked_into():
    point = Point("text")
    assert corrected(Point, point) is point


def test_subclasses_of_containers_that_fit_are_kept():
    class Numbers(list): ...

    numbers = Numbers([1])
    assert corrected(list[int], numbers) is numbers


def test_an_iterator_is_not_consumed():
    iterator = iter(["not a number"])
    assert corrected(Iterable[int], iterator) is iterator
    assert next(iterator) == "not a number"


# --- exact


@pytest.mark.parametrize(
    "annotation, exact",
    [
        (int, int),
        (str, str),
        (float, float),
        (bool, bool),
        (bytes, bytes),
        (None, type(None)),
        (Plain, Plain),
        (dt.datetime, dt.datetime),
        (Colour, Colour),
        (Point, Point),
        (list, list),
        (list[Any], list),
        (dict, dict),
        (list[int], None),
        (int | None, None),
        (Any, None),
        (Account, None),
        (Literal[1], None),
        (Sequence, None),
    ],
    ids=str,
)
def test_exact(annotation, exact):
    assert correction(annotation).exact is exact


@pytest.mark.parametrize("annotation", [Any, object, T, Annotated[Any, 1]], ids=str)
def test_what_accepts_everything_has_no_fix(annotation):
    assert correction(annotation).fix is None


def test_one_correction_per_annotation():
    assert correction(list[int]) is correction(list[int])


def test_unions_that_differ_in_order_differ():
    assert corrected(Circle | Square, {"size": 1}) == Circle(1.0)
    assert corrected(Square | Circle, {"size": 1}) == Square(1.0)


# --- messages


@pytest.mark.parametrize(
    "annotation, value, message",
    [
        (int, "2", "expected int, got '2' (str)"),
        (int, None, "expected int, got None"),
        (list[Point], [{"x": 1}, {"x": "1"}], "at [1].x: expected int, got '1' (str)"),
        (dict[str, list[int]], {"a": [1, "x"]}, "at ['a'][1]: expected int, got 'x' (str)"),
        (dict[int, int], {"a": 1}, "at <key 'a'>: expected int, got 'a' (str)"),
        (Optional[int], "x", "expected int | None, got 'x' (str)"),
        (Optional[list[int]], ["x"], "at [0]: expected int, got 'x' (str)"),
        (tuple[int, str], [1], "expected tuple[int, str], got [1] (list): 2 elements, not 1"),
        (
            Point,
            {"x": 1, "z": 2},
            "expected Point, got {'x': 1, 'z': 2} (dict): unknown key 'z', its keys are 'x', 'y'",
        ),
        (Point, {}, "expected Point, got {} (dict): missing 'x'"),
        (Picky, {"value": -1}, "expected Picky, got {'value': -1} (dict): ValueError: negative"),
        (Colour, "blue", "expected Colour, got 'blue' (str): its values are 'red' (str), 'green' (str)"),
        (set[int], [1, 1], "expected set[int], got [1, 1] (list): an element is there twice"),
        (Literal["a", 1], 2, "expected Literal['a', 1], got 2 (int)"),
        (float, 2**53 + 1, "expected float, got 9007199254740993 (int): no float has exactly this value"),
    ],
)
def test_message(annotation, value, message):
    assert str(refused(annotation, value)) == message


def test_a_mismatch_in_the_only_member_that_came_close_is_told():
    assert str(refused(int | list[int], ["x"])) == "at [0]: expected int, got 'x' (str)"


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [Unprintable(), [Unprintable()], 10**5000, "x" * 1000, list(range(1000))],
    ids=lambda value: type(value).__name__,
)
def test_showing_a_value_never_raises_and_is_short(value):
    assert len(shown(value)) < 120


# --- recursion


def test_a_value_that_contains_itself_is_refused():
    endless = {"value": "1", "children": []}
    endless["children"].append(endless)
    mismatch = refused(Node, endless)
    assert f"nested more than {MAX_DEPTH} deep" in mismatch.hint
    assert len(str(mismatch)) < 500


def test_a_class_that_refers_to_itself_inside_a_function():
    @dataclass
    class Tree:
        left: "Tree | None" = None

    assert corrected(Tree, {"left": {"left": None}}) == Tree(Tree())


def test_a_field_whose_type_does_not_exist_is_told_when_it_is_needed():
    @dataclass
    class Broken:
        part: "Nowhere"  # noqa: F821

    assert corrected(Broken, Broken(1)) == Broken(1)
    assert "'Nowhere', the type of one of its fields, does not exist" in str(refused(Broken, {"part": 1}))


def test_a_forward_reference_must_be_resolved_first():
    with pytest.raises(Unresolved):
        correction("Point")


def test_aliases_may_refer_to_themselves():
    from typing_extensions import TypeAliasType

    tree = TypeAliasType("tree", Union[int, "list[tree]"])
    made = TypeAliasType("made", list[Optional[Point]])
    assert corrected(made, [{"x": 1}, None]) == [Point(1), None]
    assert correction(tree).fix is not None


# --- typeguard is the judge of the rest


def test_protocols_are_judged():
    class Person:
        name = "x"

        def size(self) -> int:
            return 1

    assert corrected(Named, person := Person()) is person
    assert corrected(Sized, person) is person


def test_importing_and_correcting_is_light():
    code = """
import sys
before = set(sys.modules)
import dingo.marshaller.json, dingo.marshaller.pickle, dingo.marshaller.msgpack
from dingo.marshaller import correction
correction(dict[str, list[int]]).fix({"a": [1.0]})
heavy = {"typeguard", "pydantic", "numpy", "msgspec", "attr", "attrs", "msgpack", "cloudpickle", "zoneinfo"}
print(sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
