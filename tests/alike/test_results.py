"""What a Result says and does, and the reports behind it: alike in every mode."""

import asyncio
import concurrent.futures
import threading
import time

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code, Status


def test_it_behaves_as_a_future_does(both, gate):
    def task() -> int:
        gate.enter()
        return 5

    result = both.task(task).options(monitor_progress=True).call()
    gate.wait()
    assert result.wait(PATIENCE, until=Status.STARTED)
    assert (result.done(), result.running(), result.cancelled()) == (False, True, False)
    with pytest.raises(dingo.ResultTimeout) as caught:
        result.result(0.01)
    assert isinstance(caught.value, TimeoutError)
    assert not result.wait(0.01)
    gate.open.set()
    assert (result.result(PATIENCE), result.exception(PATIENCE)) == (5, None)
    assert (result.done(), result.running(), result.cancelled()) == (True, False, False)


def test_a_failed_call_raises_task_failed_with_its_failure_and_report(both):
    def task() -> None:
        raise KeyError("nö")

    result = both.task(task).call()
    with pytest.raises(dingo.TaskFailed) as caught:
        result.result(PATIENCE)
    failure, report = caught.value.failure, caught.value.report
    assert (failure.code, failure.type, failure.message) == (Code.EXCEPTION, "KeyError", "'nö'")
    assert 'raise KeyError("nö")' in failure.traceback
    assert (report.id, report.name, report.status, report.failure) == (result.id, result.name, Status.FAILURE, failure)
    assert (report.value, report.progress, report.attempt) == (None, None, 1)
    assert str(result.exception()) == str(caught.value)


def test_the_last_report_of_a_success_has_every_field(both):
    before = time.time()
    result = both.task(lambda: [1]).call()
    assert result.result(PATIENCE) == [1]
    last = result.last
    assert (last.id, last.name, last.status, last.value) == (result.id, result.name, Status.SUCCESS, [1])
    assert (last.failure, last.progress, last.attempt) == (None, None, 1)
    assert before - 1 <= last.time <= time.time() + 1
    with pytest.raises(AttributeError):
        last.value = 2


def test_each_call_has_exactly_one_final_report_for_every_listener(both):
    def task(number: int) -> int:
        if number % 2:
            raise OSError
        return number

    task = both.task(task)
    results = [task.call(number) for number in range(20)]
    early = [result.reports() for result in results]
    dingo.wait(results, timeout=PATIENCE)
    for result, channel in zip(results, early, strict=True):
        seen = list(channel)
        assert [report.status.final for report in seen] == [True]
        assert list(result.reports()) == seen


def test_callbacks_are_called_once_before_and_after_the_end_and_chain(both):
    told, ended = [], threading.Semaphore(0)

    def note(kind):
        def call(value):
            told.append((kind, getattr(value, "message", value)))
            ended.release()

        return call

    def fail() -> None:
        raise OSError("no")

    good, bad = both.task(lambda: 5).call(), both.task(fail).call()
    for result in (good, bad):
        result.on_ok(note("ok")).on_fail(note("fail")).add_done_callback(lambda _: ended.release())
    for _ in range(4):
        assert ended.acquire(timeout=PATIENCE)
    good.on_ok(note("late"))
    bad.on_fail(note("late"))
    assert sorted(told, key=str) == sorted([("ok", 5), ("fail", "no"), ("late", 5), ("late", "no")], key=str)


def test_a_callback_that_raises_harms_nobody(both):
    result = both.task(lambda: 5).call()
    result.on_ok(lambda _value: 1 / 0)
    assert result.result(PATIENCE) == 5
    assert both.task(lambda: 6).call().result(PATIENCE) == 6


def test_progress_reaches_callbacks_and_channels_in_order(both):
    def task(context: dingo.Context) -> None:
        for done in range(5):
            context.progress(done, 5)

    told = []
    result = both.task(task).options(monitor_progress=True).call()
    result.on_progress(lambda report: told.append(report.progress.done))
    assert [report.progress.done for report in result.reports() if report.progress] == list(range(5))
    assert both.task(lambda: 1).call().result(PATIENCE) == 1
    until = time.monotonic() + PATIENCE
    while len(told) < 5 and time.monotonic() < until:
        time.sleep(0.005)
    assert told == list(range(5))


def test_unmonitored_progress_is_throttled_and_the_newest_wins(both):
    def task(context: dingo.Context) -> float:
        begun = time.monotonic()
        for done in range(2000):
            context.progress(done)
        return time.monotonic() - begun

    result = both.task(task).call()
    reports = list(result.reports())
    done = [report.progress.done for report in reports if report.progress]
    assert done == sorted(done)
    assert done[-1] == 1999
    assert len(done) <= 2 + result.result() * 10
    assert reports[-1].status is Status.SUCCESS


def test_what_a_task_saves_is_read_before_and_after_its_end(both, gate):
    def task(context: dingo.Context) -> None:
        context.save({"rows": (1, 2)})
        gate.enter()

    result = both.task(task).call()
    reports = iter(result.reports())
    assert next(reports).value == {"rows": (1, 2)}
    assert result.saved == {"rows": (1, 2)}
    gate.open.set()
    assert result.result(PATIENCE) is None
    assert result.saved == {"rows": (1, 2)}


def test_it_can_be_awaited_and_abandoning_the_await_leaves_the_call_alone(both, gate):
    def task() -> int:
        gate.enter()
        return 5

    result = both.task(task).call()

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(result, 0.02)
        assert not result.done()
        gate.open.set()
        return await result

    assert asyncio.run(main()) == 5


def test_a_status_can_be_awaited_and_reports_read_on_a_loop(both, gate):
    result = both.task(gate.enter).options(monitor_progress=True).call()

    async def main():
        assert await asyncio.wait_for(result.until(Status.STARTED), PATIENCE)
        gate.open.set()
        return [report.status.name async for report in result.reports()]

    assert asyncio.run(main()) == ["SENT", "RECEIVED", "STARTED", "SUCCESS"]


def test_many_results_together(both):
    def task(number: int) -> int:
        return number

    def fail() -> None:
        raise OSError

    results = both.task(task).call_many([(number,) for number in range(10)])
    assert dingo.wait(results, timeout=PATIENCE).done == set(results)
    assert sorted(one.result() for one in dingo.as_completed(results, timeout=PATIENCE)) == list(range(10))
    assert asyncio.run(_gather(results)) == list(range(10))
    with pytest.raises(dingo.TaskFailed):
        asyncio.run(_gather([*results, both.task(fail).call()]))
    assert list(both.task(task).map(range(10), timeout=PATIENCE)) == list(range(10))


async def _gather(results):
    return await dingo.gather(*results)


def test_call_many_checks_all_before_it_sends_any(both):
    ran = []

    def task(number: int) -> None:
        ran.append(number)

    with pytest.raises(dingo.BadArguments):
        both.task(task).call_many([(1,), ("2",)])
    assert both.task(lambda: 1).call().result(PATIENCE) == 1
    assert ran == []


@pytest.mark.parametrize("when_full", ["raise", "wait"])
def test_so_many_calls_may_be_pending(own, gate, when_full):
    both = own(workers=1, max_pending=3, when_full=when_full)
    hold, task = both.task(gate.enter), both.task(lambda: 1)
    both.start()
    held = hold.call()
    gate.wait()
    # The running call counts too over a broker, where its caller does not know that it runs.
    results = [task.call() for _ in range(2 if not both.mode.local else 3)]
    if when_full == "raise":
        with pytest.raises(dingo.QueueFull):
            task.call()
    else:
        threading.Timer(0.05, gate.open.set).start()
        results.append(task.call())
    gate.open.set()
    assert held.result(PATIENCE) is None
    assert [one.result(PATIENCE) for one in results] == [1] * len(results)


# -- codes --------------------------------------------------------------------------------------------------------


def test_a_task_nobody_has_registered(own):
    both = own(unknown_task_seconds=0.0)
    if both.mode.local:
        with pytest.raises(dingo.NotRegistered):
            both.caller.call("nobody")
        return
    both.caller.register("nobody", lambda: 1)
    both.start()
    assert both.caller.call("nobody").exception(PATIENCE).failure.code is Code.NOT_REGISTERED


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), BaseException("x"), GeneratorExit()])
def test_even_what_is_no_exception_only_fails_its_call(both, error):
    def task() -> None:
        raise error

    failure = both.task(task).call().exception(PATIENCE).failure
    assert (failure.code, failure.type) == (Code.EXCEPTION, type(error).__name__)


def test_calls_after_close_are_refused(own):
    both = own()
    task = both.task(lambda: 1)
    both.start()
    assert task.call().result(PATIENCE) == 1
    both.caller.close(PATIENCE)
    with pytest.raises(dingo.AppClosed):
        task.call()


def test_wrong_use_of_a_result_on_a_loop_is_refused(both):
    fn = both.task(lambda: 1)

    async def task() -> str:
        try:
            fn.call().result()
        except RuntimeError as error:
            return str(error)
        return "it blocked"

    assert "await" in both.task(task).call().result(PATIENCE)


# -- nested calls -------------------------------------------------------------------------------------------------


def test_waiting_for_nested_calls_never_deadlocks_even_with_one_worker(own):
    both = own(workers=1)

    def task(depth: int) -> int:
        return 0 if depth == 0 else 1 + inner.call(depth - 1).result()

    inner = both.task(task)
    both.start()
    assert inner.call(5).result(PATIENCE) == 5


def test_an_async_task_awaits_others(both):
    def add(a: int, b: int) -> int:
        return a + b

    add = both.task(add)

    async def task() -> list[int]:
        return await dingo.gather(*[add.call(n, n) for n in range(5)])

    assert both.task(task).call().result(PATIENCE) == [0, 2, 4, 6, 8]


def test_cancelled_is_a_cancelled_error_of_futures_and_not_of_asyncio():
    assert issubclass(dingo.Cancelled, concurrent.futures.CancelledError)
    assert not issubclass(dingo.Cancelled, asyncio.CancelledError)
