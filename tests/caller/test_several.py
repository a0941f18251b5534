"""wait, as_completed and gather: many results at once, in threads, on event loops and inside tasks."""

from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import PATIENCE

import dingo
from dingo import Cancelled, ResultTimeout, TaskFailed


@pytest.fixture
def gates(app):
    """Calls that end when their gate is opened: `calls[n]` waits for `gates[n]`."""
    events = [threading.Event() for _ in range(3)]
    app.allocate(app.register("hold", lambda n: events[n].wait(PATIENCE) and n).name, 3)
    yield events, [app.call("hold", n) for n in range(3)]
    for event in events:
        event.set()


def fail() -> None:
    raise ValueError("no")


def test_wait_for_all(gates):
    events, calls = gates
    done, not_done = dingo.wait(calls, timeout=0)
    assert (done, not_done) == (set(), set(calls))
    for event in events:
        event.set()
    assert dingo.wait(calls, timeout=PATIENCE).done == set(calls)


def test_wait_for_the_first(gates):
    events, calls = gates
    events[1].set()
    done, not_done = dingo.wait(calls, PATIENCE, return_when="FIRST_COMPLETED")
    assert (done, not_done) == ({calls[1]}, {calls[0], calls[2]})


def test_wait_for_the_first_exception(app, gates):
    events, calls = gates
    events[0].set()
    failing = app.register("fail", fail).call()
    waited = dingo.wait([*calls, failing], PATIENCE, return_when="FIRST_EXCEPTION")
    assert failing in waited.done
    assert calls[2] in waited.not_done


def test_wait_refuses_another_return_when(gates):
    with pytest.raises(ValueError, match="FIRST"):
        dingo.wait(gates[1], return_when="SOME")


def test_wait_for_nothing_and_for_the_same_twice(app):
    assert dingo.wait([]) == (set(), set())
    result = app.register("t", lambda: 1).call()
    assert dingo.wait([result, result], PATIENCE) == ({result}, set())


def test_as_completed_yields_each_once_in_the_order_they_end(gates):
    events, calls = gates
    completed = dingo.as_completed([*calls, calls[0]], timeout=PATIENCE)
    order = []
    for n in (2, 0, 1):
        events[n].set()
        order.append(next(completed))
    assert order == [calls[2], calls[0], calls[1]]
    assert list(completed) == []


def test_as_completed_on_a_loop(gates):
    events, calls = gates

    async def main():
        order = []
        events[2].set()
        async for result in dingo.as_completed(calls):
            order.append(result)
            events[(0, 1, 1)[len(order) - 1]].set()
        return order

    assert asyncio.run(main()) == [calls[2], calls[0], calls[1]]


def test_as_completed_runs_out_of_time(gates):
    _, calls = gates
    with pytest.raises(ResultTimeout, match="3 of 3"):
        list(dingo.as_completed(calls, timeout=0))

    async def main():
        async for _ in dingo.as_completed(calls, timeout=0.001):
            pass

    with pytest.raises(ResultTimeout):
        asyncio.run(main())


def test_abandoning_as_completed_leaves_nothing_behind_at_the_calls(gates):
    events, calls = gates
    events[0].set()
    for result in dingo.as_completed(calls, PATIENCE):
        assert result is calls[0]
        break
    assert all(not call._watch.latches for call in calls[1:])


def test_gather_gives_the_values_in_order(app):
    task = app.register("t", lambda n: n)

    async def main():
        results = [task.call(n) for n in range(100)]
        return await dingo.gather(*results, results[0]), await dingo.gather()

    assert asyncio.run(main()) == ([*range(100), 0], [])


def test_gather_raises_the_first_failure_without_waiting_for_the_rest(app, gates):
    _, calls = gates
    app.register("fail", fail)

    async def main():
        with pytest.raises(TaskFailed, match="no"):
            await dingo.gather(*calls, app.call("fail"))
        return [call.done() for call in calls]

    assert asyncio.run(main()) == [False] * 3


def test_gather_returns_exceptions_if_asked_to(app):
    app.register("fail", fail)
    app.register("t", lambda: 1)

    async def main():
        withdrawn = app.options(delay=1000).call("t")
        withdrawn.cancel()
        return await dingo.gather(app.call("fail"), app.call("t"), withdrawn, return_exceptions=True)

    failed, value, cancelled = asyncio.run(main())
    assert isinstance(failed, TaskFailed)
    assert value == 1
    assert isinstance(cancelled, Cancelled)


def test_cancelling_a_gather_leaves_the_calls_alone(gates):
    events, calls = gates

    async def main():
        waiting = asyncio.ensure_future(dingo.gather(*calls))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for event in events:
            event.set()
        return await dingo.gather(*calls)

    assert asyncio.run(main()) == [0, 1, 2]
