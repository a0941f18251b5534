"""Event loops for `async def` tasks."""

from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code, Context, Status


def test_thousands_of_async_tasks_wait_at_once_on_one_thread(app):
    waiting = []
    go = None

    @app.task
    async def wait_for_all(n: int) -> str:
        nonlocal go
        go = go or asyncio.Event()
        waiting.append(n)
        if len(waiting) == 2000:
            go.set()
        await go.wait()
        return threading.current_thread().name

    results = wait_for_all.call_many([(n,) for n in range(2000)])
    assert len({result.result(PATIENCE) for result in results}) == 1


def test_a_slow_async_task_blocks_no_other(app):
    release = []

    @app.task
    async def slow() -> str:
        event = asyncio.Event()
        release.append((asyncio.get_running_loop(), event))
        await event.wait()
        return "slow"

    @app.task
    async def quick() -> str:
        return "quick"

    first = slow.call()
    assert quick.call().result(PATIENCE) == "quick"
    loop, event = release[0]
    loop.call_soon_threadsafe(event.set)
    assert first.result(PATIENCE) == "slow"


def test_async_tasks_call_each_other(app):
    @app.task
    async def count(n: int) -> int:
        return 0 if n == 0 else 1 + await app.call("count", n - 1)

    assert count.call(1000).result(PATIENCE) == 1000


def test_async_tasks_use_gather_as_completed_and_reports(app):
    app.register("inner", lambda n: n)

    @app.task
    async def outer() -> int:
        total = sum(await dingo.gather(*app.call_many("inner", [(n,) for n in range(10)])))
        async for result in dingo.as_completed(app.call_many("inner", [(n,) for n in range(10)])):
            total += result.result()
        async for report in app.call("inner", 10).reports():
            total += report.value
        return total

    assert outer.call().result(PATIENCE) == 100


def test_each_async_task_has_a_context_of_its_own(app):
    @app.task
    async def look(context: Context) -> bool:
        before = dingo.current().id
        await asyncio.sleep(0)
        in_thread = await asyncio.to_thread(lambda: dingo.current().id)
        return context.id == before == dingo.current().id == in_thread

    results = look.call_many([()] * 100)
    assert all(result.result(PATIENCE) for result in results)


def test_an_async_task_that_runs_out_of_time_is_stopped_and_retried(app):
    attempts = []

    @app.task(timeout=0.01, retry=dingo.Retry(max=2, base=0))
    async def hang(context: Context) -> str:
        attempts.append(context.attempt)
        if context.attempt < 3:
            await asyncio.Event().wait()
        return "at last"

    assert hang.call().result(PATIENCE) == "at last"
    assert attempts == [1, 2, 3]


def test_an_async_task_that_will_not_be_stopped_still_ends_for_its_caller(app):
    @app.task
    async def stubborn(context: Context) -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                refused.set()

    release, refused = threading.Event(), threading.Event()
    result = stubborn.call()
    assert result.wait(PATIENCE, until=Status.STARTED)
    result.cancel()
    assert refused.wait(PATIENCE)
    assert result.status is Status.CANCELLED
    release.set()


def test_a_task_that_cancels_itself_has_failed_and_is_not_cancelled(app):
    @app.task
    async def give_up() -> None:
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    error = give_up.call().exception(PATIENCE)
    assert (error.failure.code, error.failure.type) == (Code.EXCEPTION, "CancelledError")


@pytest.mark.parametrize("drain", [True, False])
def test_close_lets_running_async_tasks_end(app, drain):
    release = []
    running = threading.Event()

    @app.task
    async def hold() -> str:
        event = asyncio.Event()
        release.append((asyncio.get_running_loop(), event))
        running.set()
        await event.wait()
        return "done"

    result = hold.call()
    assert running.wait(PATIENCE)
    closing = threading.Thread(target=app.close, kwargs={"drain": drain})
    closing.start()
    loop, event = release[0]
    loop.call_soon_threadsafe(event.set)
    closing.join(PATIENCE)
    assert result.result(0) == "done"


def test_calls_that_come_while_the_loops_of_a_name_stop_are_answered(app):
    @app.task
    async def quick(n: int) -> int:
        return n

    results = []
    for n in range(100):
        handle = app.allocate("quick", 1)
        results += [quick.call(n) for _ in range(5)]
        handle.stop()
        results += [quick.call(n) for _ in range(5)]
    assert [result.result(PATIENCE) for result in results] == [n for n in range(100) for _ in range(10)]
