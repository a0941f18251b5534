"""call_many and map."""

from __future__ import annotations

import itertools
import threading

import pytest
from conftest import PATIENCE

from dingo import BadArguments, ResultTimeout, TaskFailed
from dingo.caller.bulk import WINDOW


def add(a: int, b: int = 10) -> int:
    return a + b


def test_call_many_returns_a_result_for_each_in_order(app):
    results = app.register("add", add).call_many([(1, 2), [3, 4], (5,)])
    assert [result.result(PATIENCE) for result in results] == [3, 7, 15]
    assert app.call_many("add", []) == []
    assert len(app.call_many("add", ((n, n) for n in range(1000)))) == 1000


@pytest.mark.parametrize("wrong", [("1",), (1, 2, 3), (), 5, "ab", None])
def test_call_many_checks_all_arguments_before_the_first_is_sent(app, wrong):
    ran = []

    def note(a: int, b: int = 0) -> None:
        ran.append(a)

    app.register("note", note)
    with pytest.raises(BadArguments):
        app.call_many("note", [(1,), (2,), wrong])
    app.close(PATIENCE)
    assert ran == []


def test_map_yields_the_values_in_order(app):
    app.register("add", add)
    assert list(app.map("add", range(3000), itertools.count())) == [2 * n for n in range(3000)]
    assert list(app.map("add", [1, 2, 3], [1])) == [2]
    assert list(app.map("add", [])) == []
    assert list(app.map("add")) == []


def test_map_streams_an_endless_input(app):
    taken = itertools.count()
    values = app.register("t", lambda n: n).map(taken)
    assert [next(values) for _ in range(100)] == list(range(100))
    assert next(taken) <= WINDOW + 200
    values.close()


def test_map_sends_at_once(app):
    ran = threading.Event()
    values = app.register("t", lambda n: ran.set()).map([1])
    assert ran.wait(PATIENCE)
    assert list(values) == [None]


def test_map_raises_the_failure_of_a_call_and_withdraws_the_rest(single, gate):
    started = []

    def work(n: int) -> None:
        started.append(n)
        if n == 0:
            raise ValueError("no")
        gate.wait(PATIENCE)

    values = single.register("t", work).map(range(100))
    with pytest.raises(TaskFailed, match="no"):
        next(values)
    gate.set()
    single.close(PATIENCE)
    assert len(started) <= 2


def test_map_runs_out_of_time(app, gate):
    values = app.register("t", gate.wait).map([PATIENCE], timeout=0.01)
    with pytest.raises(ResultTimeout):
        next(values)


def test_map_refuses_bad_arguments(app):
    with pytest.raises(BadArguments):
        list(app.register("add", add).map(["a"]))


def test_map_inside_a_task_of_the_same_single_worker(single):
    single.register("add", add)
    total = single.register("total", lambda: sum(single.map("add", range(500), range(500))))
    assert total.call().result(PATIENCE) == sum(2 * n for n in range(500))
