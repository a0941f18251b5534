"""Result: a future, the channel of its reports, and what its callbacks are promised."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import gc
import pickle
import threading
import weakref

import pytest
from conftest import PATIENCE

import dingo
from dingo import (
    BadArguments,
    Cancelled,
    Code,
    Context,
    ReportIgnored,
    Result,
    ResultTimeout,
    Status,
    TaskFailed,
)


@pytest.fixture
def held(app, gate):
    """A call that runs, until the gate opens."""
    running = threading.Event()

    @app.task
    def hold(value: object = "value") -> object:
        running.set()
        gate.wait(PATIENCE)
        return value

    result = hold.call()
    assert running.wait(PATIENCE)
    return result


@pytest.fixture
def queued(single, gate):
    """A call that waits, for its one worker is busy until the gate opens."""
    running = threading.Event()
    ran = []

    @single.task
    def hold() -> None:
        running.set()
        gate.wait(PATIENCE)

    hold.call()
    assert running.wait(PATIENCE)
    result = single.register("t", ran.append).call("ran")
    result_of_test[result] = ran
    return result


result_of_test: weakref.WeakKeyDictionary[Result, list[str]] = weakref.WeakKeyDictionary()


# -- as a future -----------------------------------------------------------------------------------------------


def test_a_result_tells_where_it_stands(held, gate):
    assert (held.done(), held.running(), held.cancelled(), held.status) == (False, True, False, Status.STARTED)
    gate.set()
    assert held.result(PATIENCE) == "value"
    assert (held.done(), held.running(), held.cancelled(), held.status) == (True, False, False, Status.SUCCESS)
    assert held.exception(0) is None


def test_a_queued_call_is_sent_and_not_running(queued):
    assert (queued.done(), queued.running(), queued.status) == (False, False, Status.SENT)
    assert queued.last.status is Status.SENT


def test_a_timeout_leaves_the_call_alone(held, gate):
    for wait in (held.result, held.exception):
        with pytest.raises(ResultTimeout) as caught:
            wait(timeout=0)
        assert isinstance(caught.value, TimeoutError)
    assert held.wait(0) is False
    assert held.wait(timeout=-1) is False
    gate.set()
    assert held.result(PATIENCE) == "value"


def test_many_threads_wait_for_one_result(held, gate):
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        waiting = [threads.submit(held.result, PATIENCE) for _ in range(16)]
        gate.set()
        assert [one.result(PATIENCE) for one in waiting] == ["value"] * 16


def test_name_id_and_repr(app):
    result = app.register("add", lambda a, b: a + b).call(1, 2)
    result.wait(PATIENCE)
    assert result.name == "add"
    assert repr(result) == "<Result add SUCCESS>"
    assert repr(result) != f"<Result add {result.id} SUCCESS>" == repr(result)


def test_a_tuple_stays_a_tuple(app):
    assert app.register("t", lambda: (1, (2, 3))).call().result(PATIENCE) == (1, (2, 3))


def test_the_value_is_the_very_object(app):
    value = object()
    assert app.register("t", lambda: value).call().result(PATIENCE) is value


def test_a_finished_call_keeps_nothing_but_its_value_alive(app):
    class Thing:
        pass

    thing = Thing()
    dead = weakref.ref(thing)
    result = app.register("t", lambda thing: 1).call(thing)
    assert result.result(PATIENCE) == 1
    app.call("t", None).result(PATIENCE)
    app.close(PATIENCE)
    del thing
    gc.collect()
    assert dead() is None


# -- failures --------------------------------------------------------------------------------------------------


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Demanding(Exception):
    def __init__(self, one, two) -> None:
        super().__init__(one)
        self.two = two


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__(threading.Lock())


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Own(BaseException):
    pass


ERRORS = [
    ValueError("no"), SystemExit(3), KeyboardInterrupt(), Own("base"), GeneratorExit(), StopIteration(1),
    StopAsyncIteration(), Unreadable(), Demanding(1, 2), Unpicklable(), Frozen(7), asyncio.CancelledError(),
    concurrent.futures.CancelledError(), TimeoutError("mine"), RecursionError(), MemoryError(),
    ExceptionGroup("several", [ValueError("a"), TypeError("b")]), AssertionError(), dingo.Cancelled("own"),
    dingo.AppClosed("own"), BadArguments("own"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("options", [{}, {"headers": {"a": 1}, "timeout": 60}], ids=["short", "full"])
@pytest.mark.parametrize("kind", ["thread", "async"])
def test_whatever_a_task_raises_is_its_failure_and_the_worker_lives_on(single, error, options, kind):
    def fail() -> None:
        raise error

    async def fail_async() -> None:
        raise error

    single.register("fail", fail if kind == "thread" else fail_async, **options)
    single.register("well", (lambda: 1) if kind == "thread" else fail_async)
    result = single.call("fail")
    with pytest.raises(TaskFailed) as caught:
        result.result(PATIENCE)
    cause = caught.value.__cause__
    if isinstance(error, StopIteration) and kind == "async":  # a coroutine cannot raise it: Python's own rule
        assert isinstance(cause, RuntimeError)
        return
    assert cause is error
    assert caught.value.failure.code is Code.EXCEPTION
    assert caught.value.failure.type == type(error).__name__
    assert "fail" in caught.value.failure.traceback or isinstance(error, Unreadable)
    assert caught.value.report == result.last
    assert single.register("next", lambda: 1).call().result(PATIENCE) == 1


def test_task_failed_carries_failure_and_report_and_can_be_pickled(app):
    def fail() -> None:
        raise ValueError("why")

    error = app.register("t", fail).call().exception(PATIENCE)
    assert isinstance(error, TaskFailed)
    assert (error.failure.code, error.failure.type, error.failure.message) == (Code.EXCEPTION, "ValueError", "why")
    assert "'t'" in str(error)
    assert "why" in str(error)
    assert "line" in error.failure.traceback
    assert "dingo/worker" not in error.failure.traceback
    again = pickle.loads(pickle.dumps(error))
    assert again.failure == error.failure


def test_a_failure_of_a_nested_call_is_the_cause_of_the_outer_one(app):
    def inner() -> None:
        raise KeyError("deep")

    def outer() -> None:
        app.call("inner").result()

    app.register("inner", inner)
    error = app.register("outer", outer).call().exception(PATIENCE)
    assert isinstance(error.__cause__, TaskFailed)
    assert isinstance(error.__cause__.__cause__, KeyError)


def test_a_value_that_the_annotation_refuses_is_bad_return(app):
    def wrong() -> int:
        return "text"

    async def wrong_async() -> int:
        return "text"

    for number, fn in enumerate([wrong, wrong_async]):
        for options in ({}, {"retry": 3}):
            name = f"{number}{options}".replace(" ", "")
            error = app.register(name, fn, **options).call().exception(PATIENCE)
            assert error.failure.code is Code.BAD_RETURN


def test_a_value_is_corrected_to_the_annotation(app):
    def three() -> int:
        return 3.0

    value = app.register("t", three).call().result(PATIENCE)
    assert (value, type(value)) == (3, int)


def test_an_invoker_that_raises_on_the_way_back_fails_the_call(app):
    class Broken:
        def invoke(self, fn, args, kwargs):
            return fn(*args, **kwargs)

        def returned(self, fn, value):
            raise LookupError("broken")

    async def asynchronous() -> int:
        return 1

    for number, fn in enumerate([lambda: 1, asynchronous]):
        result = app.register(f"t{number}", fn, invoker=Broken()).call()
        assert isinstance(result.exception(PATIENCE).__cause__, LookupError)


def test_bad_arguments_are_raised_by_call_and_nothing_is_sent(app):
    seen = []

    def t(a: int, *, b: str = "") -> None:
        seen.append(a)

    app.register("t", t)
    for args, kwargs in [((), {}), ((1, 2), {}), (("1",), {}), ((1,), {"c": 1}), ((1,), {"a": 1}), ((1,), {"b": 1})]:
        with pytest.raises(BadArguments) as caught:
            app.call("t", *args, **kwargs)
        assert isinstance(caught.value, TypeError)
    app.close(PATIENCE)
    assert seen == []


# -- awaiting --------------------------------------------------------------------------------------------------


def test_a_result_is_awaited_in_two_loops_at_once(held, gate):
    entered = threading.Barrier(3)

    async def wait() -> object:
        asyncio.get_running_loop().call_soon(entered.wait, PATIENCE)
        return await held

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        loops = [threads.submit(asyncio.run, wait()) for _ in range(2)]
        entered.wait(PATIENCE)
        gate.set()
        assert [loop.result(PATIENCE) for loop in loops] == ["value"] * 2


def test_a_result_can_be_awaited_many_times(app):
    result = app.register("t", lambda: 5).call()

    async def main():
        return [await result, await result, *await asyncio.gather(result, result)]

    assert asyncio.run(main()) == [5] * 4


def test_awaiting_a_failure_raises_it(app):
    def fail() -> None:
        raise ValueError("no")

    async def main():
        with pytest.raises(TaskFailed) as caught:
            await app.call("t")
        return caught.value.__cause__

    app.register("t", fail)
    assert isinstance(asyncio.run(main()), ValueError)


def test_cancelling_or_timing_out_an_await_leaves_the_call_alone(held, gate):
    async def main():
        waiting = asyncio.ensure_future(held)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held, 0.001)
        assert not held.done()
        gate.set()
        return await held

    assert asyncio.run(main()) == "value"


def test_awaiting_a_cancelled_call_does_not_cancel_who_awaits(queued):
    async def main():
        queued.cancel()
        try:
            await queued
        except asyncio.CancelledError:
            return "asyncio's"
        except Cancelled as error:
            return isinstance(error, concurrent.futures.CancelledError)

    assert asyncio.run(main()) is True


def test_a_result_whose_loop_was_closed_meanwhile_hurts_nobody(held, gate):
    async def give_up():
        asyncio.ensure_future(held).add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(0)

    asyncio.run(give_up())
    gate.set()
    assert held.result(PATIENCE) == "value"


def test_ten_thousand_awaits_at_once(app):
    task = app.register("t", lambda n: n)

    async def main():
        return await dingo.gather(*task.call_many([(n,) for n in range(10_000)]))

    assert asyncio.run(main()) == list(range(10_000))


def test_blocking_in_an_async_task_is_an_error_and_awaiting_is_not(app, gate):
    app.register("hold", gate.wait)
    executor = app.as_executor()

    @app.task
    async def block() -> int:
        waiting = app.call("hold", PATIENCE)
        blocking = [
            waiting.result, waiting.exception, waiting.wait, lambda: waiting.wait(until=Status.SUCCESS),
            lambda: next(iter(waiting.reports())), lambda: dingo.wait([waiting]),
            lambda: next(dingo.as_completed([waiting])), lambda: next(app.map("hold", [PATIENCE])),
            executor.submit(gate.wait, PATIENCE).result, lambda: app.listen().get(),
        ]  # fmt: skip
        refused = 0
        for block_here in blocking:
            try:
                block_here()
            except RuntimeError as error:
                refused += "await" in str(error)
        gate.set()
        await waiting
        assert waiting.result() is True  # it has ended: nothing blocks
        return refused - len(blocking)

    assert block.call().result(PATIENCE) == 0


# -- reports ---------------------------------------------------------------------------------------------------


def monitored(app, gate=None):
    @app.task(monitor_progress=True, replace=True)
    def work(context: Context) -> str:
        context.progress(1, 2, "half")
        if gate is not None:
            gate.wait(PATIENCE)
        context.progress(2, 2)
        return "done"

    return work


LIFE = [
    Status.SENT, Status.RECEIVED, Status.STARTED, Status.PROGRESS, Status.PROGRESS, Status.SUCCESS,
]  # fmt: skip


def test_only_the_final_report_travels_by_default(app):
    result = app.register("t", lambda: 5).call()
    (report,) = result.reports()
    assert (report.status, report.value, report.name, report.id) == (Status.SUCCESS, 5, "t", result.id)
    assert report == result.last


def test_monitor_progress_brings_all_reports_in_order(app):
    reports = list(monitored(app).call().reports())
    assert [report.status for report in reports] == LIFE
    assert [report.progress.done for report in reports if report.progress] == [1, 2]
    assert reports[3].progress.message == "half"
    assert [report.time for report in reports] == sorted(report.time for report in reports)


def test_every_listener_gets_all_reports_from_the_first_on_whenever_it_comes(app, gate):
    result = monitored(app, gate).call()

    def read() -> list[Status]:
        return [report.status for report in result.reports()]

    async def read_async() -> list[Status]:
        return [report.status async for report in result.reports()]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        listeners = [threads.submit(read) for _ in range(4)]
        listeners += [threads.submit(lambda: asyncio.run(read_async())) for _ in range(4)]
        assert result.wait(PATIENCE, until=Status.PROGRESS)
        gate.set()
        assert [one.result(PATIENCE) for one in listeners] == [LIFE] * 8
    assert read() == LIFE
    assert asyncio.run(read_async()) == LIFE


def test_listeners_that_come_while_the_call_ends_get_all_reports_too(app):
    for _ in range(100):
        go = threading.Event()
        result = monitored(app, go).call()
        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            listeners = [threads.submit(lambda: [one.status for one in result.reports()]) for _ in range(2)]  # noqa: B023
            threads.submit(go.set)
            assert [one.result(PATIENCE) for one in listeners] == [LIFE] * 2


def test_wait_until_a_status(app, gate):
    result = monitored(app, gate).call()
    assert result.wait(PATIENCE, until=Status.SENT)
    assert result.wait(PATIENCE, until=Status.PROGRESS)
    assert not result.wait(0, until=Status.RETRY)
    assert not result.done()
    gate.set()
    assert result.wait(PATIENCE, until=Status.RETRY)
    assert result.wait(0, until=Status.SUCCESS)
    assert result.status is Status.SUCCESS


def test_wait_until_started_works_without_monitoring(held):
    assert held.wait(PATIENCE, until=Status.STARTED)


def test_until_is_awaited(app, gate):
    async def main():
        result = monitored(app, gate).call()
        assert await result.until(Status.SENT)
        assert await result.until(Status.PROGRESS)
        assert not result.done()
        gate.set()
        assert await result.until(Status.SUCCESS)
        return result.done()

    assert asyncio.run(main())


def test_last_is_the_newest_report(app, gate):
    result = monitored(app, gate).call()
    assert result.wait(PATIENCE, until=Status.PROGRESS)
    assert result.last.progress.done == 1
    gate.set()
    result.wait(PATIENCE)
    assert (result.last.status, result.last.value) == (Status.SUCCESS, "done")


def test_saved_is_what_the_task_saved_last(app, gate):
    @app.task
    def save(context: Context) -> None:
        context.save({"step": 1})
        context.progress(1)
        gate.wait(PATIENCE)
        context.save({"step": 2})

    result = save.call()
    assert result.wait(PATIENCE, until=Status.PROGRESS)
    assert result.saved == {"step": 1}
    gate.set()
    result.wait(PATIENCE)
    assert result.saved == {"step": 2}
    assert app.register("other", lambda: None).call().saved is None


# -- callbacks -------------------------------------------------------------------------------------------------


def test_callbacks_are_called_exactly_once_in_whatever_order_they_and_the_end_come(app):
    """Each call ends while several threads register: every callback is called once, with the value."""
    calls = 400
    told: list[list[object]] = [[] for _ in range(calls)]
    start = threading.Barrier(3)
    results: list[Result] = []
    task = app.register("t", lambda n: n)
    done = threading.Semaphore(0)

    def tell(n: int, value: object) -> None:
        told[n].append(value)
        done.release()

    def register() -> None:
        for n in range(calls):
            start.wait(PATIENCE)
            result = results[n]
            result.on_ok(lambda value, n=n: tell(n, value)).on_fail(lambda failure, n=n: tell(n, failure))
            result.add_done_callback(lambda result, n=n: tell(n, result))

    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(calls):
        results.append(task.call(n))
        start.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    for _ in range(calls * 4):
        assert done.acquire(timeout=PATIENCE)
    app.close(PATIENCE)
    for n in range(calls):
        assert sorted(map(str, told[n])) == sorted(map(str, [n, n, results[n], results[n]]))


def test_callbacks_of_a_call_that_has_ended_are_called_at_once(app):
    here = threading.current_thread()
    seen = []
    result = app.register("t", lambda: 5).call()
    result.wait(PATIENCE)
    returned = result.on_ok(lambda value: seen.append((value, threading.current_thread())))
    assert returned is result
    result.on_ok(lambda value: seen.append((value, threading.current_thread())))
    assert seen == [(5, here), (5, here)]


def test_on_fail_tells_of_failures_and_cancellations(app, queued):
    failures = []
    told = threading.Semaphore(0)

    def fail() -> None:
        raise ValueError("no")

    def note(failure) -> None:
        failures.append(failure.code)
        told.release()

    app.register("fail", fail).call().on_ok(failures.append).on_fail(note)
    assert told.acquire(timeout=PATIENCE)
    queued.on_fail(note).on_ok(failures.append)
    queued.cancel()
    assert told.acquire(timeout=PATIENCE)
    assert failures == [Code.EXCEPTION, Code.CANCELLED]


def test_callbacks_run_on_a_dingo_thread(app, gate):
    names = []
    told = threading.Semaphore(0)

    def note(_) -> None:
        names.append(threading.current_thread().name)
        told.release()

    async def wait() -> None:
        while not gate.is_set():
            await asyncio.sleep(0.001)

    results = [app.register("t", gate.wait).call(PATIENCE), app.register("a", wait).call()]
    results.append(app.options(delay=1000).call("t", 1))
    for result in results:
        result.add_done_callback(note)
    results[2].cancel()
    gate.set()
    for _ in results:
        assert told.acquire(timeout=PATIENCE)
    assert all(name.startswith("dingo-") for name in names)


def test_a_callback_that_raises_is_told_and_harms_nobody(app, gate):
    events = app.listen(level=dingo.Level.WARNING)
    told = threading.Event()
    result = app.register("t", gate.wait).call(PATIENCE)

    def broken(_) -> None:
        raise SystemExit("broken")

    result.add_done_callback(broken)
    result.add_done_callback(lambda _: told.set())
    gate.set()
    assert told.wait(PATIENCE)
    assert result.result(PATIENCE) is True
    assert events.get(PATIENCE).code == "callback.failed"


def test_on_progress_is_called_for_each_progress_report_those_before_included(app, gate):
    seen = []
    result = monitored(app, gate).call()
    assert result.wait(PATIENCE, until=Status.PROGRESS)
    assert result.on_progress(lambda report: seen.append(report.progress.done)) is result
    gate.set()
    result.wait(PATIENCE)
    app.close(PATIENCE)
    assert seen == [1, 2]


def test_a_callback_may_wait_for_another_call_even_with_one_worker(single, gate):
    values = []
    told = threading.Event()

    def wait_for_another(_) -> None:
        values.append(single.call("t", 7).result())
        told.set()

    single.register("t", lambda n: n)
    single.register("hold", gate.wait).call(PATIENCE).add_done_callback(wait_for_another)
    gate.set()
    assert told.wait(PATIENCE)
    assert values == [7]


# -- cancelling ------------------------------------------------------------------------------------------------


def assert_cancelled(result) -> None:
    assert result.done()
    assert result.cancelled()
    assert result.status is Status.CANCELLED
    for get in (result.result, result.exception):
        with pytest.raises(Cancelled) as caught:
            get(0)
        assert isinstance(caught.value, concurrent.futures.CancelledError)
        assert not isinstance(caught.value, asyncio.CancelledError)
    assert result.last.failure.code is Code.CANCELLED
    assert [report.status for report in result.reports()][-1] is Status.CANCELLED
    assert result.cancel() is False


def test_a_queued_call_is_withdrawn_at_once(queued, gate, single):
    assert queued.cancel() is True
    assert_cancelled(queued)
    gate.set()
    single.close(PATIENCE)
    assert result_of_test[queued] == []


def test_a_delayed_call_is_withdrawn_at_once(app):
    result = app.register("t", lambda: 1).options(delay=1000).call()
    assert result.cancel() is True
    assert_cancelled(result)
    assert app.delayed() == []


def test_a_call_between_two_attempts_is_withdrawn_at_once(app):
    @app.task(retry=dingo.Retry(max=3, base=500))
    def fail() -> None:
        raise ValueError

    result = fail.call()
    assert result.wait(PATIENCE, until=Status.RETRY)
    assert result.cancel() is True
    assert_cancelled(result)
    assert app.delayed() == []


def test_a_running_call_has_its_flag_set_and_runs_on_unseen(app, gate):
    running, seen = threading.Event(), threading.Event()

    @app.task
    def poll(context: Context) -> str:
        running.set()
        gate.wait(PATIENCE)
        if context.cancelled:
            seen.set()
        return "unseen"

    result = poll.call()
    assert running.wait(PATIENCE)
    assert result.cancel() is True
    assert_cancelled(result)
    gate.set()
    assert seen.wait(PATIENCE)
    assert_cancelled(result)


def test_a_running_async_call_is_stopped(app):
    running, stopped = threading.Event(), threading.Event()

    @app.task
    async def hang() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    result = hang.call()
    assert running.wait(PATIENCE)
    assert result.cancel() is True
    assert stopped.wait(PATIENCE)
    assert_cancelled(result)


def test_a_call_that_has_ended_cannot_be_cancelled(app):
    result = app.register("t", lambda: 1).call()
    result.wait(PATIENCE)
    assert result.cancel() is False
    assert result.result(0) == 1


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_cancel_that_races_with_the_end_has_one_outcome(app, kind):
    """What cancel said, the status, the value and the one final report agree, whoever was first."""
    told = []

    async def asynchronous(n: int) -> int:
        return n

    task = app.register("t", asynchronous if kind == "async" else lambda n: n)
    won = 0
    for n in range(500):
        result = task.call(n)
        result.add_done_callback(told.append)
        if result.cancel():
            won += 1
            assert result.status is Status.CANCELLED
            with pytest.raises(Cancelled):
                result.result(PATIENCE)
        else:
            assert result.result(PATIENCE) == n
        assert len(list(result.reports())) == 1
    app.close(PATIENCE)
    assert len(told) == len(set(told)) == 500


def test_only_one_of_many_cancellers_wins(queued):
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(lambda _: queued.cancel(), range(100))) == 1


# -- ignored reports -------------------------------------------------------------------------------------------


def test_a_call_whose_report_is_ignored_is_final_at_sent(app):
    ran = threading.Event()
    result = app.register("t", ran.set).options(ignore_report=True).call()
    assert (result.done(), result.status, result.running(), result.cancelled()) == (True, Status.SENT, False, False)
    for get in (result.result, result.exception):
        with pytest.raises(ReportIgnored):
            get(0)

    async def wait():
        await result

    with pytest.raises(ReportIgnored):
        asyncio.run(wait())
    assert result.wait(0)
    assert result.cancel() is False
    assert [report.status for report in result.reports()] == [Status.SENT]
    assert result.saved is None
    assert dingo.wait([result]).done == {result}
    assert next(dingo.as_completed([result])) is result
    assert ran.wait(PATIENCE)
    assert app.result(result.id).wait(PATIENCE)
