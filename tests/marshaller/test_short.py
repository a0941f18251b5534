"""The short ways write what the long ones would have, and read it back; what is not plain they leave to those."""

import math
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingo.marshaller.json import JsonMarshaller
from dingo.message.report import Report, Status
from dingo.message.task import Header, TaskMessage

HEADER = Header("1", "task")
json = JsonMarshaller()
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def typed(number: int, text: str = "") -> int:
    return number


def bare(value, *rest):
    return value


def dated(day: date) -> date:
    return day


def either(value: int | date) -> int | date:
    return value


@given(st.lists(scalars, min_size=1, max_size=4))
def test_untyped_scalars_are_written_as_by_the_long_way_or_not_at_all(args):
    data = json.short_ways(bare).write_call(tuple(args))
    if data is not None:
        assert data == json.encode_task(bare, TaskMessage(HEADER, tuple(args)))
        assert json.decode_task(bare, HEADER, data).args == tuple(args)
        short = json.short_ways(bare).read_call(data)
        assert short is None or short == tuple(args)


@given(st.integers(), st.text())
def test_typed_arguments_go_and_come_by_the_short_way(number, text):
    ways = json.short_ways(typed)
    data = ways.write_call((number, text))
    if data is not None:
        assert data == json.encode_task(typed, TaskMessage(HEADER, (number, text)))
        read = ways.read_call(data)
        assert read == (number, text) or "{" in text


@given(scalars, st.integers(1, 9), st.floats(0, 2e9))
def test_a_success_is_written_as_by_the_long_way_or_not_at_all(value, attempt, time):
    data = json.short_ways(bare).write_value(value, attempt, time, None)
    if data is not None:
        assert data == json.encode_report(bare, Report("1", "task", Status.SUCCESS, value, attempt=attempt, time=time))
        read = json.short_ways(bare).read_value(data)
        assert read is None or read == (value, attempt, None)


def test_how_long_a_call_takes_travels_behind_the_report():
    ways = json.short_ways(typed)
    data = ways.write_value(5, 1, 2.5, 0.25)
    assert ways.read_value(data) == (5, 1, 0.25)
    assert json.decode_report(typed, HEADER, data).value == 5


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (bare, ((1, 2),)), (bare, ({1},)), (bare, (b"x",)), (bare, (math.nan,)), (bare, (math.inf,)),
        (bare, (10**6000,)), (bare, ("\ud800",)), (dated, (date(2026, 1, 1),)), (either, (5,)), (either, ("x",)),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_long_way(fn, args):
    assert json.short_ways(fn).write_call(args) is None
    assert json.short_ways(fn).write_calls([args]) is None
    assert json.short_ways(fn).write_value(args[0], 1, 1.0, None) is None
    assert json.short_ways(fn).write_values([args[0]], 1.0, None) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"[", b"{}", b"[[1]", b"[[1]]x", b'[["x"]]', b"[[]]", b"[[1,2,3]]", b"[1]", b"[[NaN]]", b"\xff", b"[[1],{}]",
     b"[" * 1000 + b"]" * 1000],
)  # fmt: skip
def test_calls_that_do_not_fit_are_left_to_the_long_way(data):
    assert json.short_ways(typed).read_call(data) is None


@pytest.mark.parametrize(
    "data",
    [b"[6]", b"[7,1,null,null,1,1.0]", b'[6,"x",null,null,1,1.0]', b"[6,1,[],null,1,1.0]", b"[6,1,null,null,1.5,1.0]",
     b'[6,1,null,null,1,1.0,"x"]', b"[6,1,null,null,1,1.0,0.1,1]", b"[6,1,null,null,1,1]"],
)  # fmt: skip
def test_reports_that_are_not_plain_are_left_to_the_long_way(data):
    assert json.short_ways(typed).read_value(data) is None


def test_several_calls_and_several_values_go_together():
    ways = json.short_ways(typed)
    data = ways.write_calls([(1, "a"), (2, "b")])
    assert ways.read_calls(data, 2) == [(1, "a"), (2, "b")]
    assert ways.read_calls(data, 3) is None
    assert ways.read_calls(b'[[1,"a"],[2,3]]', 2) is None
    assert ways.read_calls(b"[[1],2]", 2) is None
    told = ways.write_values([1, 2], 1.5, None)
    assert ways.read_values(told, 2) == ([1, 2], 1, None)
    assert ways.read_values(told, 3) is None
    assert ways.read_values(b'[6,[1,"x"],null,null,1,1.5]', 2) is None


def test_values_that_need_correction_get_it():
    def floats() -> list[float]:
        return []

    def anything() -> Any:
        return None

    assert repr(json.short_ways(floats).read_value(b"[6,[1,2.5],null,null,1,1.5]").value) == "[1.0, 2.5]"
    assert json.short_ways(anything).read_value(b"[6,[1],null,null,1,1.5]").value == [1]
