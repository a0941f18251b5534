"""Threads, processes and event loops side by side in one worker: alike in every mode."""

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code, Status
from dingo.worker import loops

LONG = 60.0  # processes take their time to start on a busy machine


def where() -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


async def where_async() -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


def facts(context: dingo.Context) -> dict[str, object]:
    """All that a task knows of its call."""
    return {
        "id": context.id, "name": context.name, "attempt": context.attempt, "retries_left": context.retries_left,
        "headers": dict(context.headers), "queue": context.queue, "eta": context.eta, "cancelled": context.cancelled,
        "previous": context.previous, "deadline": context.deadline is not None,
        "current": dingo.current().id == context.id,
    }  # fmt: skip


def die(path: str) -> None:
    with Path(path).open("ab") as marks:
        marks.write(b"x")
    os._exit(3)


def sleep_once(path: str) -> str:
    """Sleep for ever at the first run."""
    with Path(path).open("ab") as marks:
        marks.write(b"x")
    if Path(path).stat().st_size == 1:
        time.sleep(1000)
    return "again"


def say(context: dingo.Context) -> int:
    for done in range(3):
        context.progress(done, 3)
    context.save({"half": 1})
    return 3


@pytest.fixture(scope="module")
def registered(both):
    """The tasks of this module, in pools of each kind."""
    tasks = {f"{fn.__name__}": both.task(fn, pool="process") for fn in (where, facts, die, sleep_once, say)}
    tasks["thread"], tasks["async"] = both.task(where), both.task(where_async)
    tasks["facts in a thread"] = both.task(facts)
    return tasks


def test_each_kind_of_pool_serves_its_tasks_in_one_worker(registered):
    (in_thread, thread), (in_process, _), (on_loop, loop) = (
        registered[one].call().result(LONG) for one in ("thread", "where", "async")
    )
    assert in_thread == on_loop == os.getpid() != in_process
    assert thread != loop


@pytest.mark.parametrize("kind", ["facts", "facts in a thread"])
def test_a_task_knows_the_same_of_its_call_in_a_thread_and_in_a_process(both, registered, kind):
    task = registered[kind].options(headers={"k": 1}, retry=2, timeout=50, queue="other")
    result = task.call()
    assert result.result(LONG) == {
        "id": result.id, "name": task.name, "attempt": 1, "retries_left": 2, "headers": {"k": 1}, "queue": "other",
        "eta": None, "cancelled": False, "previous": None, "deadline": True, "current": True,
    }  # fmt: skip


def test_a_process_out_of_time_is_stopped_and_tried_again(registered, tmp_path):
    task = registered["sleep_once"].options(timeout=0.5, retry=dingo.Retry(max=1, base=0.0))
    assert task.call(str(tmp_path / "runs")).result(LONG) == "again"
    alone = registered["sleep_once"].options(timeout=0.5).call(str(tmp_path / "alone"))
    assert alone.exception(LONG).failure.code is Code.TIMEOUT


def test_a_call_whose_process_dies_is_run_again_and_ends_poisoned(registered, tmp_path):
    path = tmp_path / "runs"
    assert registered["die"].call(str(path)).exception(LONG).failure.code is Code.POISONED
    assert path.stat().st_size == 3


def test_a_call_that_must_not_run_twice_ends_worker_lost(registered, tmp_path):
    path = tmp_path / "runs"
    result = registered["die"].options(redeliver=False).call(str(path))
    assert result.exception(LONG).failure.code is Code.WORKER_LOST
    assert path.stat().st_size == 1


def test_progress_and_saved_values_come_from_a_process(registered):
    result = registered["say"].options(monitor_progress=True).call()
    assert result.result(LONG) == 3
    told = [(one.progress.done, one.progress.total) for one in result.reports() if one.progress]
    assert told == [(0, 3), (1, 3), (2, 3)]
    assert result.saved == {"half": 1}


def test_a_process_is_stopped_when_its_call_is_cancelled(both, registered, tmp_path):
    if not both.mode.finds:
        pytest.skip("RabbitMQ keeps nothing of single calls")
    path = tmp_path / "runs"
    result = registered["sleep_once"].options(monitor_progress=True).call(str(path))
    assert result.wait(LONG, until=Status.STARTED)
    assert result.cancel()
    with pytest.raises(dingo.Cancelled):
        result.result(LONG)
    assert registered["where"].call().result(LONG)[0] != os.getpid()


def test_an_async_task_out_of_time_is_stopped_and_tried_again(both):
    stopped = []

    async def task(context: dingo.Context) -> int:
        try:
            while context.attempt == 1:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            stopped.append(context.attempt)
            raise
        return context.attempt

    assert both.task(task, timeout=0.1, retry=dingo.Retry(max=1, base=0.0)).call().result(PATIENCE) == 2
    assert stopped == [1]


def test_an_async_task_that_swallows_its_cancellation_ends_all_the_same(both, monkeypatch):
    monkeypatch.setattr(loops, "STOPPING_SECONDS", 0.1)
    leave = threading.Event()

    async def task() -> None:
        while not leave.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    try:
        assert both.task(task, timeout=0.1).call().exception(PATIENCE).failure.code is Code.TIMEOUT
    finally:
        leave.set()


def test_hundreds_of_async_tasks_run_at_once(both):
    inside, all_in = [], threading.Event()

    async def task() -> None:
        inside.append(1)
        while len(inside) < 500:
            await asyncio.sleep(0.005)
        all_in.set()

    results = both.task(task).call_many([()] * 500)
    assert all_in.wait(LONG)
    assert dingo.wait(results, timeout=LONG).not_done == set()
