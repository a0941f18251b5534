"""Arguments and return values: corrected to their annotations or refused, alike in every mode."""

import datetime
import decimal
import enum
import pathlib
import typing
import uuid
from dataclasses import dataclass

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code


@dataclass
class Point:
    x: int
    y: float = 0.0


class Pair(typing.NamedTuple):
    a: int
    b: str


class Movie(typing.TypedDict):
    name: str


class Colour(enum.Enum):
    RED = "red"


class Index:
    """As NumPy's integers are."""

    def __index__(self):
        return 7


MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

CORRECTED = [
    (int, 2**80, 2**80), (float, 3, 3.0), (int, 3.0, 3), (int, Index(), 7), (int, True, True), (str, "ünï", "ünï"),
    (tuple[int, ...], [1, 2], (1, 2)), (set[int], [1, 2], {1, 2}), (frozenset[str], ["a"], frozenset("a")),
    (list[int], (1, 2), [1, 2]), (Point, {"x": 1}, Point(1)), (Point, Point(1, 2.0), Point(1, 2.0)),
    (Movie, {"name": "Up"}, {"name": "Up"}), (Pair, {"a": 1, "b": "x"}, Pair(1, "x")),
    (datetime.datetime, MOMENT.isoformat(), MOMENT), (datetime.datetime, MOMENT, MOMENT),
    (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)), (datetime.time, "03:04:05", datetime.time(3, 4, 5)),
    (datetime.timedelta, datetime.timedelta(days=1, microseconds=1), datetime.timedelta(days=1, microseconds=1)),
    (uuid.UUID, str(ID), ID), (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (pathlib.Path, "a/b", pathlib.Path("a/b")), (Colour, "red", Colour.RED), (Colour, Colour.RED, Colour.RED),
    (bytes, "/w==", b"\xff"), (bytes, b"\x00\xff", b"\x00\xff"), (int | None, None, None),
    (dict[str, list[Point]], {"k": [{"x": 1}]}, {"k": [Point(1)]}), (typing.Literal["a", 1], 1, 1),
    (typing.Annotated[int, "unit"], 5.0, 5), (int | str, "5", "5"),
    (typing.Any, (1, {2}, b"x", MOMENT, ID), (1, {2}, b"x", MOMENT, ID)), (None, (1, "two"), (1, "two")),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "given", "arrives"), CORRECTED)
def test_a_value_arrives_as_its_annotation_says_and_comes_back_so(both, annotation, given, arrives):
    arrived = []

    def task(value):
        arrived.append(value)
        return value

    if annotation is not None:
        task.__annotations__ = {"value": annotation, "return": annotation}
    value = both.task(task).call(given).result(PATIENCE)
    assert arrived == [arrives]
    assert type(arrived[0]) is type(arrives)
    assert (value, type(value)) == (arrives, type(arrives))


REFUSED = [
    (int, 3.9), (int, "2"), (int, None), (str, 1), (list[int], [1, "2"]), (dict[str, list[int]], {"k": [1, None]}),
    (Point, {"x": 1, "z": 2}), (set[int], [1, 1]), (Colour, "blue"), (uuid.UUID, "no"), (float, "1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "given"), REFUSED)
def test_a_value_that_does_not_fit_is_refused_at_the_call_and_never_sent(both, annotation, given):
    ran = []

    def task(value):
        ran.append(value)

    task.__annotations__ = {"value": annotation}
    task = both.task(task)
    with pytest.raises(dingo.BadArguments, match=r"value") as caught:
        task.call(given)
    assert isinstance(caught.value, TypeError)
    assert task.name in str(caught.value)
    assert ran == []


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"c": 1}), ((1,), {"a": 1, "b": 2})])
def test_missing_and_surplus_arguments_are_refused_at_the_call(both, args, kwargs):
    def task(a: int, b: int) -> None: ...

    with pytest.raises(dingo.BadArguments):
        both.caller.call(both.task(task).name, *args, **kwargs)


def test_every_kind_of_parameter_is_understood(both):
    def task(a: int, /, b: int, *more: int, key: str = "d", **rest: float) -> list[object]:
        return [a, b, list(more), key, rest]

    task = both.task(task)
    assert task.call(1, 2).result(PATIENCE) == [1, 2, [], "d", {}]
    assert task.call(1, 2, 3, 4, key="k", x=1).result(PATIENCE) == [1, 2, [3, 4], "k", {"x": 1.0}]


def test_what_only_the_worker_finds_wrong_ends_bad_arguments(own):
    """A rolling deploy: the caller's signature takes what the worker's does not."""
    both = own(unknown_task_seconds=0.0)
    if both.mode.local:
        pytest.skip("caller and worker are one")

    def newer(a: str) -> None: ...
    def older(a: int) -> None: ...

    both.caller.register("task", newer)
    both.worker.register("task", older)
    both.start()
    assert both.caller.call("task", "x").exception(PATIENCE).failure.code is Code.BAD_ARGUMENTS


@pytest.mark.parametrize("value", ["text", None, 1.5, [1]])
def test_a_returned_value_that_does_not_fit_ends_bad_return(both, value):
    def task() -> int:
        return value

    error = both.task(task).call().exception(PATIENCE)
    assert error.failure.code is Code.BAD_RETURN
    assert "returned" in error.failure.message


def test_a_bound_method_a_partial_and_a_callable_object_are_tasks(both):
    from functools import partial

    class Adder:
        def add(self, a: int) -> int:
            return a + 1

        def __call__(self, a: int) -> int:
            return a + 2

    for fn, wanted in ((Adder().add, 2), (Adder(), 3), (partial(pow, 2), 2)):
        assert both.task(fn).call(1).result(PATIENCE) == wanted
