"""Limits, unique calls and paused queues: alike in every mode that can count, and refused in the others."""

import threading
import time

import pytest
from conftest import PATIENCE

import dingo

COUNTED = [{"max_concurrency": 1}, {"rate_limit": "20/s"}, {"unique": True}]


@pytest.fixture
def counting(both):
    if both.mode.name in {"amqp", "filesystem"}:  # which have no backend beside them here
        for option in COUNTED:
            task = both.caller.register(f"counted-{time.monotonic_ns()}", lambda: None, **option)
            with pytest.raises(dingo.NotAttached, match="backend="):
                task.call()
        with pytest.raises(dingo.NotAttached, match="backend="):
            both.caller.pause("other")
        pytest.skip("refused, as it should be")
    return both


def test_no_more_than_max_concurrency_run_at_once(counting):
    now, most, lock = [0], [0], threading.Lock()

    def task(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.002)
        with lock:
            now[0] -= 1
        return number

    task = counting.task(task, max_concurrency=2)
    assert [one.result(PATIENCE) for one in [task.call(number) for number in range(20)]] == list(range(20))
    assert most[0] <= 2


def test_starts_keep_to_the_rate(counting):
    starts = []
    task = counting.task(lambda: starts.append(time.monotonic()), rate_limit="20/s")
    for one in [task.call() for _ in range(8)]:
        one.result(PATIENCE)
    assert max(starts) - min(starts) >= 7 / 20 - 0.15  # what may be caught up with, and a first one that came late


def test_a_limited_task_leaves_room_for_others(counting, gate):
    held, free = counting.task(gate.enter, max_concurrency=1), counting.task(lambda number: number)
    waiting = [held.call() for _ in range(20)]
    gate.wait()
    assert [free.call(number).result(PATIENCE) for number in range(20)] == list(range(20))
    gate.open.set()
    for one in waiting:
        one.result(PATIENCE)


@pytest.mark.parametrize("unique", [True, lambda number: f"key of {number}"])
def test_a_unique_call_is_made_once_until_it_has_ended(counting, gate, unique):
    def task(number: int) -> int:
        gate.enter()
        return number

    task = counting.task(task, unique=unique)
    first, same, other = task.call(1), task.call(1), task.call(2)
    assert first.id == same.id != other.id
    gate.wait()
    assert task.call(1).id == first.id
    gate.open.set()
    assert [first.result(PATIENCE), same.result(PATIENCE), other.result(PATIENCE)] == [1, 1, 2]
    again = task.call(1)
    assert again.id != first.id
    assert again.result(PATIENCE) == 1


def test_nothing_of_a_paused_queue_starts(counting):
    task = counting.task(lambda: "ran", queue="other")
    counting.caller.pause("other")
    assert counting.caller.paused() == ["other"]
    until = time.monotonic() + PATIENCE
    while not counting.worker._session.here._paused:
        assert time.monotonic() < until
    result = task.call()
    assert not result.wait(0.7)  # longer than one claim waits
    counting.caller.resume("other")
    assert result.result(PATIENCE) == "ran"
