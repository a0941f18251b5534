"""Thread pools: nested calls never deadlock, a pool of one runs one task at a time, nothing kills a worker."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest
from conftest import PATIENCE, dingo_threads

import dingo
from dingo import Code, Context, Status


def same(value):
    return value


# -- nested calls ----------------------------------------------------------------------------------------------


def test_a_nested_call_with_one_worker_is_answered(single):
    single.register("inner", same)
    single.register("outer", lambda n: single.call("inner", n).result() + 1)
    assert [result.result(PATIENCE) for result in single.call_many("outer", [(n,) for n in range(100)])] == [
        n + 1 for n in range(100)
    ]


@pytest.mark.parametrize("timeout", [None, PATIENCE * 3])
def test_a_chain_of_a_thousand_nested_calls_with_one_worker(single, timeout):
    """With a timeout no waiting thread may run what it waits for, so each level needs one of its own."""
    depth = 1000 if timeout is None else 200

    def dig(n: int) -> int:
        return n if n == depth else single.call("dig", n + 1).result(timeout)

    assert single.register("dig", dig).call(0).result(PATIENCE * 3) == depth


def test_a_chain_of_nested_calls_under_limits_and_retries(single):
    def dig(n: int) -> int:
        return n if n == 100 else single.call("dig", n + 1).result()

    assert single.register("dig", dig, retry=2).call(0).result(PATIENCE) == 100


def test_two_names_with_one_worker_each_that_call_each_other(app):
    def ping(n: int) -> int:
        return n if n >= 200 else app.call("pong", n + 1).result()

    def pong(n: int) -> int:
        return n if n >= 200 else app.call("ping", n + 1).result()

    for fn in (ping, pong):
        app.register(fn.__name__, fn)
        app.allocate(fn.__name__, 1)
    assert app.call("ping", 0).result(PATIENCE) == 200


def test_threads_that_stood_in_leave_again(single):
    def dig(n: int) -> int:
        return n if n == 50 else single.call("dig", n + 1).result(PATIENCE)

    task = single.register("dig", dig)
    for _ in range(3):
        assert task.call(0).result(PATIENCE) == 50
    pool = single._session.caller._default
    for n in range(100):  # each takes one of the notes to leave, until none is left
        assert task.call(50).result(PATIENCE) == 50, n
    leaving = [thread for thread in dingo_threads() if thread.name.startswith("dingo-default")]
    while pool.threads > 1:
        leaving[0].join(0.01)
    assert pool.threads == 1


WAITS = {
    "result": lambda calls: [call.result() for call in calls],
    "result with a timeout": lambda calls: [call.result(PATIENCE) for call in calls],
    "exception": lambda calls: [call.exception() or call.result() for call in calls],
    "wait": lambda calls: [call.wait() and call.result() for call in calls],
    "reports": lambda calls: [list(call.reports())[-1].value for call in calls],
    "until": lambda calls: [call.wait(PATIENCE, until=Status.STARTED) and call.result() for call in calls],
    "dingo.wait": lambda calls: sorted(call.result(0) for call in dingo.wait(calls).done),
    "first completed": lambda calls: dingo.wait(calls, return_when="FIRST_COMPLETED") and [c.result() for c in calls],
    "as_completed": lambda calls: sorted(call.result(0) for call in dingo.as_completed(calls)),
    "as_completed with a timeout": lambda calls: sorted(call.result(0) for call in dingo.as_completed(calls, PATIENCE)),
    "gather on a loop of its own": lambda calls: asyncio.run(dingo.gather(*calls)),
}


@pytest.mark.parametrize("how", WAITS)
def test_every_way_to_wait_works_inside_a_task_of_a_single_worker(single, how):
    def outer() -> list[int]:
        return WAITS[how](single.call_many("inner", [(n,) for n in range(30)]))

    single.register("inner", same)
    assert single.register("outer", outer).call().result(PATIENCE) == list(range(30))


def test_as_completed_over_thousands_inside_a_task_of_a_single_worker(single):
    def outer() -> int:
        return sum(call.result() for call in dingo.as_completed(single.call_many("inner", [(1,)] * 5000)))

    single.register("inner", same)
    assert single.register("outer", outer).call().result(PATIENCE) == 5000


def test_a_map_inside_a_task_inside_a_map(single):
    single.register("square", lambda n: n * n)
    single.register("row", lambda n: sum(single.map("square", range(n))))
    assert list(single.map("row", range(30))) == [sum(i * i for i in range(n)) for n in range(30)]


def test_waiting_for_a_delayed_call_inside_a_task_of_a_single_worker(single):
    single.register("inner", same)
    single.register("outer", lambda: single.options(delay=0.01).call("inner", 5).result())
    assert single.call("outer").result(PATIENCE) == 5


def test_waiting_for_an_async_call_inside_a_task_and_the_other_way_about(single):
    async def asynchronous(n: int) -> int:
        return await single.call("plain", n)

    single.register("asynchronous", asynchronous)
    single.register("plain", same)
    single.register("outer", lambda: single.call("asynchronous", 5).result())
    assert single.call("outer").result(PATIENCE) == 5


def test_waiting_for_a_call_that_another_waits_for_too(single):
    shared = []

    def outer() -> int:
        return shared[0].result()

    single.register("inner", same)
    single.register("outer", outer)
    single.register("first", lambda: shared.append(single.call("inner", 7)) or [single.call("outer") for _ in "abc"])
    assert [one.result(PATIENCE) for one in single.call("first").result(PATIENCE)] == [7, 7, 7]


# -- one at a time ---------------------------------------------------------------------------------------------


class OneAtATime:
    """Notes whether two of the tasks were between two of their waits at the same time."""

    def __init__(self) -> None:
        self._inside = threading.Lock()
        self.overlaps = 0

    def __enter__(self) -> None:
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            self._inside.acquire(timeout=PATIENCE)

    def __exit__(self, *_) -> None:
        self._inside.release()

    def step(self) -> None:
        with self:
            for _ in range(5):
                os.sched_yield()


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_tasks_of_a_one_worker_name_never_run_at_the_same_time_also_around_nested_waits(app, timeout):
    """The helper's result makes the outer task come back while others of its name are in the queue."""
    serial = OneAtATime()

    def outer(n: int) -> int:
        serial.step()
        value = app.call("helper", n).result(timeout)
        serial.step()
        if n % 3:
            value += app.call("outer", n - 1).result(timeout)
        serial.step()
        return value

    app.register("helper", same)
    app.register("outer", outer)
    app.allocate("outer", 1)
    results = [app.call("outer", n) for n in range(60)]
    assert [result.result(PATIENCE) for result in results] == [
        n if n % 3 == 0 else 2 * n - 1 if n % 3 == 1 else 3 * n - 3 for n in range(60)
    ]
    assert serial.overlaps == 0


def test_the_state_of_a_one_worker_name_needs_no_lock(app):
    state = {"value": 0}

    def bump(depth: int) -> int:
        before = state["value"]
        os.sched_yield()
        state["value"] = before + 1
        if depth:
            app.call("bump", depth - 1).result(PATIENCE)
            before = state["value"]
            os.sched_yield()
            state["value"] = before + 1
        return state["value"]

    app.register("bump", bump)
    app.allocate("bump", 1)
    results = [app.call("bump", n % 4) for n in range(200)]
    for result in results:
        result.result(PATIENCE)
    expected = sum(1 + 2 * (n % 4) for n in range(200))
    assert state["value"] == expected


# -- a worker survives -----------------------------------------------------------------------------------------


def test_a_worker_survives_whatever_its_tasks_raise(single):
    def fail(error):
        raise error

    single.register("fail", fail)
    for error in (SystemExit(), KeyboardInterrupt(), GeneratorExit(), RecursionError(), ValueError()):
        assert single.call("fail", error).wait(PATIENCE)
    assert single._session.caller._default.threads == 1
    assert len([thread for thread in dingo_threads() if thread.name == "dingo-default-0"]) == 1


def test_infinite_recursion_in_a_task_is_its_failure(single):
    def recurse():
        return recurse()

    error = single.register("recurse", recurse).call().exception(PATIENCE)
    assert error.failure.type == "RecursionError"
    assert single.register("t", same).call(1).result(PATIENCE) == 1


def test_current_tells_the_call_that_runs_also_in_nested_ones(single):
    def inner() -> tuple[str, str]:
        return dingo.current().name, dingo.current().id

    def outer(context: Context) -> list[str]:
        nested = single.call("inner")
        name, its_id = nested.result()
        assert its_id == nested.id
        assert dingo.current().id == context.id
        return [name, dingo.current().name]

    single.register("inner", inner)
    assert single.register("outer", outer).call().result(PATIENCE) == ["inner", "outer"]
    assert dingo.current().id == ""


def test_a_worker_that_ran_out_of_time_is_replaced(single, gate):
    single.register("hang", gate.wait, timeout=0.01)
    result = single.call("hang", PATIENCE)
    assert result.exception(PATIENCE).failure.code is Code.TIMEOUT
    assert single.register("t", same).call(1).result(PATIENCE) == 1


def test_a_nested_call_that_hangs_beyond_its_time_gives_its_place_back(single, gate):
    """The waiting thread runs it itself; when its time is over the waiter goes on with other work."""
    single.register("hang", gate.wait, timeout=0.01)
    single.register("t", same)
    nested = []

    def outer() -> None:
        nested.append(single.call("hang", PATIENCE))
        nested[0].wait()

    outer_result = single.register("outer", outer).call()
    assert single.call("t", 1).result(PATIENCE) == 1
    assert nested[0].exception(PATIENCE).failure.code is Code.TIMEOUT
    gate.set()
    assert outer_result.wait(PATIENCE)


def test_priorities_come_first(single, gate):
    running = threading.Event()
    order = []
    single.register("hold", lambda: running.set() or gate.wait(PATIENCE)).call()
    assert running.wait(PATIENCE)
    single.register("t", order.append)
    results = [single.options(priority=priority).call("t", priority) for priority in (0, 4, 9, 4, 1)]
    gate.set()
    for result in results:
        result.result(PATIENCE)
    assert order == [9, 4, 4, 1, 0]


def test_pending_lists_what_waits_and_loses_nothing(single, gate):
    running = threading.Event()
    single.register("hold", lambda: running.set() or gate.wait(PATIENCE)).call()
    assert running.wait(PATIENCE)
    seen = []
    single.register("t", seen.append)
    results = [single.call("t", n) for n in range(20)]
    for _ in range(3):
        assert [info.name for info in single.pending()] == ["t"] * 20
    gate.set()
    for result in results:
        result.result(PATIENCE)
    assert seen == list(range(20))
    assert single.pending() == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_in_a_thread_may_run_an_event_loop_that_awaits_calls_of_its_own_pool(make_app, workers):
    app = make_app(workers=workers)
    app.register("inner", same)
    app.register("other", lambda n: app.call("inner", n).result())
    app.allocate("other", 1)

    async def main() -> list[int]:
        values = await dingo.gather(*app.call_many("inner", [(n,) for n in range(10)]))
        values += await asyncio.gather(*app.call_many("other", [(n,) for n in range(10)]))
        values += sorted([call.result() async for call in dingo.as_completed(app.call_many("other", [(7,), (8,)]))])
        async for report in app.call("inner", 9).reports():
            values.append(report.value)
        return values

    results = app.register("outer", lambda: asyncio.run(main())).call_many([()] * 5)
    expected = [*range(10), *range(10), 7, 8, 9]
    assert [result.result(PATIENCE) for result in results] == [expected] * 5


# -- the short way: what rarely comes to pass ---------------------------------------------------------------------


def test_a_watched_call_ends_timeout_never_early_and_another_thread_takes_its_place(single, gate):
    single.register("stuck", lambda: gate.wait(PATIENCE), timeout=0.5)
    single.register("quick", lambda: 1, timeout=60, retry=1, expires=60)
    assert single.call("quick").result(PATIENCE) == 1
    pool, begun = single._session.caller._default, time.monotonic()
    error = single.call("stuck").exception(PATIENCE)
    assert time.monotonic() - begun >= 0.5
    assert error.failure.code is dingo.Code.TIMEOUT
    assert single.call("quick").result(PATIENCE) == 1
    gate.set()
    single.close(PATIENCE)
    assert pool.threads == 0


def test_nobody_watches_when_nothing_is_timed_any_more(single):
    single.register("quick", lambda: 1, timeout=60)
    assert single.call("quick").result(PATIENCE) == 1
    pool = single._session.caller._default
    single._session.caller.timer.advance(1)
    assert not pool.watching
    assert single.call("quick").result(PATIENCE) == 1
    assert pool.watching


def test_a_call_of_the_short_way_expires_in_the_queue_and_its_followers_do_not(single, gate):
    started = threading.Event()
    single.register("hold", lambda: (started.set(), gate.wait(PATIENCE)))
    single.register("job", lambda: 1, expires=60)
    single.call("hold")
    assert started.wait(PATIENCE)
    late = single.call("job")
    single._session.caller.timer.advance(61)
    in_time = single.call("job")
    gate.set()
    assert late.exception(PATIENCE).failure.code is dingo.Code.EXPIRED
    assert in_time.result(PATIENCE) == 1


def test_a_call_of_the_short_way_that_fails_goes_on_by_the_full_way_and_others_stay_short(single):
    def flaky(context: dingo.Context, runs: int) -> int:
        if context.attempt < runs:
            raise OSError
        return context.attempt

    task = single.register("flaky", flaky, retry=dingo.Retry(max=3, base=0.0), timeout=60)
    assert task.call(3).result(PATIENCE) == 3
    assert task.call(1).result(PATIENCE) == 1
    assert task._plan.short
    assert not task._plan.full().short


def test_a_timed_task_that_waits_for_another_keeps_its_own_deadline(single):
    single.register("inner", lambda: 1)

    def outer(context: dingo.Context) -> bool:
        before = context.deadline
        single.call("inner").result()
        return abs((context.deadline - before).total_seconds()) < 0.1

    single.register("outer", outer, timeout=60)
    assert single.call("outer").result(PATIENCE) is True
