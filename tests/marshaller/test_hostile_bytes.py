"""Bytes from anywhere: a message, or `BadMessage`; nothing else, however they were made."""

import json
import pickle
from decimal import Decimal

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshaller_strategies import Circle, Node, Square

from dingo.errors import BadArguments, BadMessage, BadReturn
from dingo.marshaller import JsonMarshaller, MsgpackMarshaller, PickleMarshaller
from dingo.marshaller.tags import INT_BITS
from dingo.message.report import Report, Status
from dingo.message.task import Header, TaskMessage

HEADER = Header("id-1", "work")
TYPED = [JsonMarshaller(), MsgpackMarshaller()]
each_typed = pytest.mark.parametrize("marshaller", TYPED, ids=lambda each: each.key)


def anything(*args, **kwargs): ...


def typed(shape: Circle | Square, node: Node, *rest: int) -> Circle | Square: ...


def packed(marshaller, tree):
    return json.dumps(tree).encode() if marshaller.key == "json" else msgpack.packb(tree)


def read_all_ways(marshaller, data):
    """Read bytes as a call and as a report, with and without a function: only dingo's own errors come out."""
    for fn in (None, anything, typed):
        for read in (marshaller.decode_task, marshaller.decode_report):
            try:
                read(fn, HEADER, data)
            except (BadMessage, BadArguments, BadReturn):
                continue


@each_typed
@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes(marshaller, data):
    read_all_ways(marshaller, data)


@settings(max_examples=200, deadline=None)
@given(text=st.text('[]{}",:~0123456789.eE-+ntufalsrmdic\\ ', max_size=40))
def test_any_text_of_json_characters(text):
    read_all_ways(TYPED[0], text.encode())


TAGS = [
    *("~tuple", "~set", "~frozenset", "~dict", "~bytes", "~datetime", "~date", "~time", "~timedelta"),
    *("~uuid", "~decimal", "~float", "~int", "~str", "~member", "~unknown", "~"),
]
trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(
        ["Circle", "Square", "P1D", "2024-01-01", "12:00", "QUI=", "0xff", "nan", "1e999999999999999999"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*TAGS, "size", "value", "children"]), inner, max_size=3)
        | st.builds(lambda tag, tree: {tag: tree}, st.sampled_from(TAGS), inner)
    ),
    max_leaves=10,
)


@each_typed
@settings(max_examples=300, deadline=None)
@given(tree=trees)
def test_any_tags_around_anything(marshaller, tree):
    read_all_ways(marshaller, packed(marshaller, tree))
    read_all_ways(marshaller, packed(marshaller, [[tree, tree], {"rest": tree}]))
    read_all_ways(marshaller, packed(marshaller, [6, tree, None, None, 1, 1.0]))


@each_typed
@settings(max_examples=100, deadline=None)
@given(status=trees, failure=trees, progress=trees, attempt=trees, time=trees)
def test_any_fields_of_a_report(marshaller, status, failure, progress, attempt, time):
    read_all_ways(marshaller, packed(marshaller, [status, 1, failure, progress, attempt, time]))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b" ", b"[", b"[[1]", b"[[1],", b"[[1]]x", b"[[1]] []", b"null", b"1", b'"x"', b"{}", b"[]"),
        *(b"[1]", b"[{}]", b"[[1],[2]]", b'[[1],{"a":1},3]', b"[[1],null]"),
        *(b"\xff\xfe", b'[["\xff"]]', "[[1]]".encode("utf-16"), b"\xef\xbb\xbf[[1]]", b"[[1,]]", b"[[01]]"),
        *(b"[[NaN]]", b"[[Infinity]]", b"[[-Infinity]]", b"[[" + b"9" * 5000 + b"]]"),
        *(b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'[[{"a":' * 50_000),
        *(b"[" * 75 + b"]" * 75, b'{"a":' * 75 + b"1" + b"}" * 75),
        *(b'[[1],{"a":1,"a":2}]', b'[[{"x":{"a":1,"a":1}}]]', b'[[{"~tuple":[1],"~tuple":[2]}]]'),
        *(b'[[{"~nothing":1}]]', b'[[{"~tuple":1}]]', b'[[{"~set":[1,1]}]]', b'[[{"~set":[[1]]}]]'),
        b'[[{"~dict":[[1]]}]]',
        b'[[{"~dict":[[1,2],[1,3]]}]]',
        b'[[{"~dict":[[[],1]]}]]',
        b'[[{"~dict":5}]]',
        *(b'[[{"~bytes":"x"}]]', b'[[{"~bytes":"QR=="}]]', b'[[{"~bytes":5}]]', b'[[{"~str":"x"}]]'),
        *(b'[[{"~datetime":"x"}]]', b'[[{"~datetime":["2024-01-01","../../etc/passwd",0]}]]'),
        *(b'[[{"~datetime":["2024-01-01","UTC",7]}]]', b'[[{"~time":[]}]]', b'[[{"~date":"2024-13-01"}]]'),
        *(b'[[{"~timedelta":"P1Y"}]]', b'[[{"~timedelta":"P' + b"9" * 30 + b'D"}]]', b'[[{"~uuid":"x"}]]'),
        b'[[{"~decimal":"x"}]]',
        b'[[{"~float":"1.5"}]]',
        b'[[{"~float":1}]]',
        b'[[{"~int":"zz"}]]',
        b'[[{"~int":1}]]',
        *(b'[[{"~member":1}]]', b'[[{"~member":[1,2]}]]', b'[[{"~member":["a"]}]]'),
    ],
    ids=lambda data: data[:30].decode("latin-1"),
)
def test_json_refuses(data):
    with pytest.raises(BadMessage, match=r"work\(\): "):
        TYPED[0].decode_task(anything, HEADER, data)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xc1", b"\x91", b"\x91\x91\x01\x01", b"\x01", b"\x90", b"\x80", b"\x91\x01"),
        *(b"\x91\x91\xa2\xff\xff", b"\x91" * 100_000 + b"\x01", b"\x91" * 75 + b"\x01"),
        *(b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\x7f\xff\xff\xff"),
        *(b"\x91\x91\x82\xa1a\x01\xa1a\x02", b"\x91\x91\x81\x01\x02", b"\x91\x91\x81\xc4\x01a\x02"),
        *(b"\x91\x91\x81\x91\x01\x02", b"\x91\x91\x81\xa2~x\x01", b"\x92\x90\x81\x01\x02"),
    ],
    ids=lambda data: data[:8].hex(),
)
def test_msgpack_refuses(data):
    with pytest.raises(BadMessage, match=r"work\(\): "):
        TYPED[1].decode_task(anything, HEADER, data)


def whole(number: int): ...


def exact(number: Decimal): ...


@each_typed
def test_integers_are_carried_up_to_a_size_that_costs_no_time(marshaller):
    most, limit = 2**INT_BITS - 1, f"{INT_BITS} "
    for number in (most, -most):
        data = marshaller.encode_task(whole, TaskMessage(HEADER, (number,)))
        assert marshaller.decode_task(whole, HEADER, data).args == (number,)
    for number in (most + 1, -most - 1):
        with pytest.raises(BadArguments, match=limit):
            marshaller.encode_task(whole, TaskMessage(HEADER, (number,)))
        with pytest.raises(BadReturn, match=limit):
            marshaller.encode_report(whole, Report("1", "work", Status.SUCCESS, number))
    with pytest.raises(BadMessage, match=limit):
        marshaller.decode_task(exact, HEADER, packed(marshaller, [[{"~int": "0x" + "f" * 900_000}]]))


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 400 + b".0", b"1E+99999999999999999999"])
def test_a_number_beyond_all_floats_is_no_whole_number(number):
    with pytest.raises(BadArguments):
        TYPED[0].decode_task(whole, HEADER, b"[[" + number + b"]]")


@each_typed
@pytest.mark.parametrize("fn", [whole, exact, typed, anything])
@pytest.mark.parametrize("text", ["1E+999999999", "1E-999999999", "9" * 900_000])
def test_decimals_of_any_size_cost_no_time(marshaller, fn, text):
    """Turned into an integer, they would take hours and gigabytes."""
    data = packed(marshaller, [[{"~decimal": text}]])
    try:
        assert marshaller.decode_task(fn, HEADER, data).args == (Decimal(text),)
    except BadArguments:
        assert fn in (whole, typed)


@each_typed
@pytest.mark.parametrize(
    "tree",
    [
        *([], [6], [6, 1, None, None, 1], {}, None),
        *([True, 1, None, None, 1, 1.0], [99, 1, None, None, 1, 1.0], ["6", 1, None, None, 1, 1.0]),
        *([6, 1, [], None, 1, 1.0], [7, 1, ["NO_CODE", "", "", ""], None, 1, 1.0], [7, 1, "x", None, 1, 1.0]),
        *([4, 1, None, ["x", None, None], 1, 1.0], [4, 1, None, [1, None, 2], 1, 1.0]),
        *([6, 1, None, None, 1.5, 1.0], [6, 1, None, None, 1, "now"], [6, 1, None, None, True, 1.0]),
    ],
    ids=str,
)
def test_a_report_of_the_wrong_shape_is_refused(marshaller, tree):
    with pytest.raises(BadMessage, match="holds no report"):
        marshaller.decode_report(None, HEADER, packed(marshaller, tree))


@each_typed
def test_what_a_newer_version_adds_to_a_report_is_left_out(marshaller):
    report = marshaller.decode_report(None, HEADER, packed(marshaller, [6, 5, None, None, 1, 1.0, 0.25, {"new": 1}]))
    assert (report.value, report.attempt, report.time) == (5, 1, 1.0)


@each_typed
def test_an_unknown_member_of_a_union_is_left_to_the_correction(marshaller):
    data = packed(marshaller, [[{"~member": ["Triangle", {"size": 1}]}, {"value": "1"}]])
    assert marshaller.decode_task(typed, HEADER, data).args == (Circle(1.0), Node(1, []))


@each_typed
def test_a_member_mark_where_no_union_is_leaves_no_trace(marshaller):
    def keep(value, shape: Circle | Square): ...

    inner = [[{"~member": ["Circle", {"size": 1.0}]}], {"~member": ["Square", {"size": 1.0}]}]
    data = packed(marshaller, [inner])
    assert marshaller.decode_task(keep, HEADER, data).args == ([{"size": 1.0}], Square(1.0))


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=40).filter(lambda data: b"c" not in data and b"i" not in data))
def test_any_bytes_that_are_no_pickle(data):
    read_all_ways(PickleMarshaller(), data)


class Explosive:
    def __reduce__(self):
        return (int, ("not a number",))


@pytest.mark.parametrize(
    "value",
    [
        *(1, (), ((), {}, 1), ([], {}), ((), []), ((), {1: 2}), Explosive()),
        *((True, 1, None, None, 1, 1.0), (6, 1, "failure", None, 1, 1.0), (6, 1, None, None, 1, None)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_pickle_refuses_another_shape(value):
    data = pickle.dumps(value)
    for read in (PickleMarshaller().decode_task, PickleMarshaller().decode_report):
        with pytest.raises(BadMessage):
            read(None, HEADER, data)
