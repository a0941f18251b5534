"""Limits and unique calls: alike in every mode that can count over all workers."""

import threading
import time

import pytest
from conftest import PATIENCE

import dingo
from dingo.kombu.abilities import Ability, abilities


@pytest.fixture
def limited(both):
    """The two apps, where limits can be had; where not, that is said at the call."""
    if not both.mode.local and Ability.LIMITS not in abilities(both.mode.url):
        task = both.task(lambda: 1, max_concurrency=1)
        with pytest.raises(dingo.NotAttached, match="redis"):
            task.call()
        pytest.skip("RabbitMQ counts nothing by itself")
    return both


@pytest.mark.parametrize("unique", [True, lambda key: f"key of {key}"])
def test_while_a_unique_call_is_on_its_way_another_has_its_id(limited, gate, unique):
    ran = []

    def task(key: str) -> str:
        ran.append(key)
        gate.enter()
        return key

    task = limited.task(task, unique=unique)
    first = task.call("a")
    gate.wait()
    again, other = task.call("a"), task.call("b")
    assert again.id == first.id != other.id
    gate.open.set()
    assert [one.result(PATIENCE) for one in (first, again, other)] == ["a", "a", "b"]
    assert sorted(ran) == ["a", "b"]


def test_after_its_end_the_key_of_a_unique_call_is_free(limited):
    task = limited.task(lambda: 1, unique=True)
    first = task.call()
    assert first.result(PATIENCE) == 1
    until = time.monotonic() + PATIENCE
    while (second := task.call()).id == first.id:
        assert time.monotonic() < until, "the key is still held"
        time.sleep(0.005)
    assert second.result(PATIENCE) == 1


def test_at_most_so_many_run_at_once(limited):
    lock, inside, most = threading.Lock(), [], []

    def task() -> None:
        with lock:
            inside.append(1)
            most.append(len(inside))
        time.sleep(0.01)
        with lock:
            inside.pop()

    results = limited.task(task, max_concurrency=2).call_many([()] * 12)
    assert dingo.wait(results, timeout=PATIENCE).not_done == set()
    assert [one.exception() for one in results] == [None] * 12
    assert max(most) <= 2


def test_no_more_than_so_many_start_in_a_second(limited):
    task = limited.task(time.monotonic, rate_limit="50/s")
    starts = sorted(one.result(PATIENCE) for one in task.call_many([()] * 16))
    late = 0.12  # over a broker workers that were late may catch up a little
    assert starts[-1] - starts[0] >= 15 / 50 - late


def test_a_limited_task_holds_up_no_other(limited, gate):
    held = limited.task(gate.enter, max_concurrency=1)
    waiting = held.call_many([()] * 20)
    gate.wait()
    assert limited.task(lambda: 1).call().result(PATIENCE) == 1
    gate.open.set()
    assert dingo.wait(waiting, timeout=PATIENCE).not_done == set()
