"""Attempts: retries, time limits, and that every call ends exactly once."""

import asyncio
import threading

import pytest

import dingo
from dingo import Code, Retry, RetryLater, Status

NOW = Retry(max=3, backoff="fixed", base=0)


def fail_until(success_at, error=ValueError):
    """A function that raises until its n-th call; it counts its calls in `calls`."""

    def job() -> int:
        job.calls += 1
        if job.calls < success_at:
            raise error(f"attempt {job.calls}")
        return job.calls

    job.calls = 0
    return job


class TestRetry:
    def test_a_count_means_so_many_more_runs(self, app):
        job = fail_until(99)
        app.register("job", job, retry=Retry(max=2, base=0))
        with pytest.raises(dingo.TaskFailed, match="attempt 3"):
            app.call("job").result(10)
        assert job.calls == 3

    def test_retry_two_succeeds_on_the_third_run(self, app):
        job = fail_until(3)
        app.register("job", job, retry=NOW)
        assert app.call("job").result(10) == 3

    def test_retry_zero_and_max_zero_mean_one_run(self, app):
        for options in ({}, {"retry": 0}, {"retry": Retry(max=0)}):
            job = fail_until(2)
            app.register("job", job, replace=True, **options)
            with pytest.raises(dingo.TaskFailed):
                app.call("job").result(10)
            assert job.calls == 1

    def test_attempts_are_counted_from_one_and_the_last_three_errors_are_kept(self, app):
        seen = []

        @app.task(retry=Retry(max=5, base=0))
        def job(context: dingo.Context) -> str:
            seen.append((context.attempt, context.retries_left, [error.message for error in context.errors]))
            if context.attempt < 6:
                raise ValueError(f"no {context.attempt}")
            return "yes"

        result = job.call()
        assert result.result(10) == "yes"
        assert [attempt for attempt, _, _ in seen] == [1, 2, 3, 4, 5, 6]
        assert [left for _, left, _ in seen] == [5, 4, 3, 2, 1, 0]
        assert seen[1][2] == ["no 1"]
        assert seen[5][2] == ["no 3", "no 4", "no 5"]
        assert result.last.attempt == 6

    def test_the_wait_before_a_retry_is_never_shorter_than_asked(self, app):
        times = []
        timer = app._session.open().timer

        @app.task(retry=Retry(max=2, backoff=lambda attempt: 0.05))
        def job() -> None:
            times.append(timer.time())
            raise ValueError

        assert job.call().exception(10)
        assert all(later - before >= 0.05 for before, later in zip(times, times[1:], strict=False))
        assert len(times) == 3

    def test_on_and_give_up_on_choose_what_is_retried(self, app):
        for error, runs in ((KeyError, 1), (OSError, 4), (FileNotFoundError, 1)):
            job = fail_until(99, error)
            policy = Retry(max=3, base=0, on=(OSError,), give_up_on=(FileNotFoundError,))
            app.register("job", job, retry=policy, replace=True)
            assert app.call("job").exception(10)
            assert job.calls == runs

    def test_a_call_that_waits_for_its_retry_is_delayed_and_can_be_cancelled(self, app):
        job = fail_until(99)
        app.register("job", job, retry=Retry(max=3, backoff="fixed", base=3600))
        result = app.options(monitor_progress=True).call("job")
        assert result.wait(10, until=Status.RETRY)
        [info] = [one for one in app.delayed() if one.id == result.id]
        assert (info.status, info.attempt) == (Status.RETRY, 1)
        assert not result.done()
        assert result.cancel()
        assert app.delayed() == []
        with pytest.raises(dingo.Cancelled):
            result.result(10)
        assert job.calls == 1

    def test_closing_ends_a_call_that_waits_for_its_retry_with_its_last_failure(self, app):
        app.register("job", fail_until(99), retry=Retry(max=3, backoff="fixed", base=3600))
        result = app.options(monitor_progress=True).call("job")
        assert result.wait(10, until=Status.RETRY)
        app.close(timeout=10)
        error = result.exception(0)
        assert (error.failure.code, error.failure.message) == (Code.EXCEPTION, "attempt 1")
        assert isinstance(error.__cause__, ValueError)

    def test_reports_of_a_monitored_retry_tell_each_attempt(self, app):
        app.register("job", fail_until(3), retry=NOW, monitor_progress=True)
        reports = list(app.call("job").reports())
        names = [report.status.name for report in reports]
        assert names == [
            "SENT", "RECEIVED", "STARTED", "RETRY", "RECEIVED", "STARTED", "RETRY", "RECEIVED", "STARTED", "SUCCESS",
        ]  # fmt: skip
        assert [report.attempt for report in reports] == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
        assert reports[3].failure.message == "attempt 1"

    def test_a_value_that_does_not_fit_is_never_retried(self, app):
        calls = []

        @app.task(retry=NOW)
        def job() -> int:
            calls.append(1)
            return "three"

        assert job.call().exception(10).failure.code is Code.BAD_RETURN
        assert len(calls) == 1

    def test_arguments_that_do_not_fit_are_refused_at_the_call_and_never_run(self, app):
        calls = []

        @app.task(retry=NOW)
        def job(a: int) -> None:
            calls.append(a)

        with pytest.raises(dingo.BadArguments):
            job.call("x")
        assert calls == []

    def test_async_tasks_are_retried_alike(self, app):
        calls = []

        @app.task(retry=NOW)
        async def job(context: dingo.Context) -> int:
            calls.append(context.attempt)
            if context.attempt < 3:
                raise ValueError
            return context.attempt

        assert job.call().result(10) == 3
        assert calls == [1, 2, 3]

    def test_a_backoff_that_raises_ends_the_call_with_the_task_s_own_error(self, app):
        def backoff(attempt):
            raise ZeroDivisionError

        app.register("job", fail_until(99), retry=Retry(backoff=backoff))

        @app.task(retry=Retry(backoff=backoff))
        async def ajob() -> None:
            raise ValueError("async")

        events = app.listen()
        assert app.call("job").exception(10).failure.message == "attempt 1"
        assert ajob.call().exception(10).failure.message == "async"
        codes = {events.get(10).code for _ in range(6)}
        assert "backoff.failed" in codes
        assert "worker.died" not in codes

    def test_a_call_run_by_the_one_who_waits_for_it_waits_its_time_before_its_retry(self, single):
        """Its place in the queue is still there when it fails; that must not make it run early."""
        times = []
        timer = single._session.open().timer

        @single.task(retry=Retry(max=1, backoff=lambda attempt: 0.2))
        def child() -> int:
            times.append(timer.time())
            if len(times) == 1:
                raise ValueError
            return 7

        @single.task
        def parent() -> int:
            return child.call().result()

        assert parent.call().result(10) == 7
        assert times[1] - times[0] >= 0.2


class TestRetryLater:
    def test_it_asks_for_another_attempt_with_its_own_delay(self, app):
        times = []
        timer = app._session.open().timer

        @app.task(retry=Retry(max=2, backoff="fixed", base=3600))
        def job() -> int:
            times.append(timer.time())
            if len(times) < 3:
                raise RetryLater("not yet", delay=0.05)
            return len(times)

        assert job.call().result(10) == 3
        assert times[1] - times[0] >= 0.05

    def test_without_a_policy_it_may_ask_ten_times(self, app):
        seen = []

        @app.task
        def job(context: dingo.Context) -> None:
            seen.append(context.attempt)
            raise RetryLater("never", delay=0)

        with pytest.raises(dingo.TaskFailed, match="never"):
            job.call().result(10)
        assert seen == list(range(1, 12))

    def test_its_count_is_that_of_the_policy_where_there_is_one(self, app):
        runs = []

        @app.task(retry=Retry(max=1, on=(KeyError,)))
        def job() -> None:
            runs.append(1)
            raise RetryLater(delay=0)

        assert job.call().exception(10).failure.type == "RetryLater"
        assert len(runs) == 2

    def test_an_async_task_may_ask_for_it(self, app):
        @app.task
        async def job(context: dingo.Context) -> int:
            if context.attempt < 3:
                raise RetryLater(delay=0)
            return context.attempt

        assert job.call().result(10) == 3

    def test_a_delay_that_is_none_of_a_number_of_seconds_is_refused_where_it_is_made(self):
        for delay in (-1, float("nan"), float("inf"), "5", True):
            with pytest.raises(ValueError, match="delay"):
                RetryLater(delay=delay)


class TestTimeoutInAThread:
    def test_it_is_final_sets_the_flag_and_the_late_value_is_dropped(self, app, gate):
        contexts, ended = [], threading.Event()

        @app.task(timeout=0.05)
        def job(context: dingo.Context) -> str:
            contexts.append(context)
            gate.wait(10)
            ended.set()
            return "late"

        result = job.call()
        failure = result.exception(10).failure
        assert failure.code is Code.TIMEOUT
        assert isinstance(result.exception().__cause__, TimeoutError)
        assert contexts[0].cancelled
        gate.set()
        assert ended.wait(10)
        assert result.exception().failure is failure

    def test_it_is_not_retried_by_a_policy_that_does_not_name_it(self, app, gate):
        runs = []

        @app.task(timeout=0.05, retry=Retry(max=3, base=0, on=(Exception,)))
        def job() -> None:
            runs.append(1)
            gate.wait(10)

        assert job.call().exception(10).failure.code is Code.TIMEOUT
        assert len(runs) == 1

    def test_it_is_retried_by_a_policy_that_names_timeout_error(self, app, gate):
        contexts = []

        @app.task(timeout=0.05, retry=Retry(max=1, base=0, on=(TimeoutError,)))
        def job(context: dingo.Context) -> int:
            contexts.append(context)
            if context.attempt == 1:
                gate.wait(10)
                context.progress(99)
                context.save("late")
            return context.attempt

        result = job.call()
        assert result.result(10) == 2
        assert contexts[0].cancelled
        gate.set()
        app.close(timeout=10)
        assert result.saved is None

    def test_the_flag_of_a_timed_out_attempt_is_set_while_the_next_one_runs(self, app, gate):
        second, told = threading.Event(), threading.Event()

        @app.task(timeout=0.1, retry=Retry(max=1, base=0, on=(TimeoutError,)))
        def job(context: dingo.Context) -> bool:
            if context.attempt == 1:
                second.wait(10)
                if context.cancelled and dingo.current().cancelled:
                    told.set()
                return False
            app.set_option("job", timeout=None)
            second.set()
            return not context.cancelled

        assert job.call().result(10) is True
        assert told.wait(10)

    def test_its_worker_is_replaced(self, single, gate):
        started = threading.Event()

        @single.task(timeout=0.05)
        def hangs() -> None:
            started.set()
            gate.wait(10)

        @single.task
        def quick() -> str:
            return "still served"

        hung = hangs.call()
        assert started.wait(10)
        assert quick.call().result(10) == "still served"
        assert hung.exception(10).failure.code is Code.TIMEOUT

    def test_workers_are_as_many_as_before_when_all_hung_functions_have_returned(self, app, gate):
        @app.task(timeout=0.05)
        def hangs() -> None:
            gate.wait(10)

        @app.task
        def name() -> str:
            barrier.wait(10)
            return threading.current_thread().name

        hung = app.call_many("hangs", [()] * 6)
        assert all(one.exception(10).failure.code is Code.TIMEOUT for one in hung)
        gate.set()
        barrier = threading.Barrier(2)
        assert len({one.result(10) for one in app.call_many("name", [()] * 10)}) <= 2
        pool = app._session.caller._default
        for _ in range(10**6):
            if pool.threads == 2:
                break
        assert pool.threads == 2

    def test_a_parent_is_told_of_its_child_s_timeout_while_that_hangs(self, single, gate):
        @single.task(timeout=0.05)
        def child() -> None:
            gate.wait(10)

        @single.task
        def parent() -> str:
            for timeout in (None, 5):
                try:
                    child.call().result(timeout)
                except dingo.TaskFailed as error:
                    assert error.failure.code is Code.TIMEOUT
            return "went on"

        assert parent.call().result(10) == "went on"
        assert not gate.is_set()

    def test_a_function_in_time_is_not_touched(self, app):
        @app.task(timeout=60)
        def job() -> int:
            return 1

        assert [one.result(10) for one in app.call_many("job", [()] * 50)] == [1] * 50

    def test_a_call_cancelled_while_it_runs_loses_its_worker_at_its_timeout_all_the_same(self, single, gate):
        started = threading.Event()

        @single.task(timeout=0.2)
        def hangs() -> None:
            started.set()
            gate.wait(10)

        @single.task
        def quick() -> str:
            return "served"

        hung = hangs.call()
        assert started.wait(10)
        assert hung.cancel()
        assert quick.call().result(10) == "served"
        assert hung.cancelled()


class TestTimeoutOnALoop:
    def test_the_function_is_really_stopped(self, app):
        stopped = threading.Event()

        @app.task(timeout=0.05)
        async def job() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                stopped.set()

        assert job.call().exception(10).failure.code is Code.TIMEOUT
        assert stopped.is_set()

    def test_it_is_retried(self, app):
        @app.task(timeout=0.05, retry=Retry(max=1, base=0))
        async def job(context: dingo.Context) -> int:
            if context.attempt == 1:
                await asyncio.sleep(3600)
            return context.attempt

        assert job.call().result(10) == 2

    def test_a_function_that_raises_while_it_is_stopped_is_timed_out_all_the_same(self, app):
        @app.task(timeout=0.05)
        async def job() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                raise ValueError("while cleaning up")

        assert job.call().exception(10).failure.code is Code.TIMEOUT

    def test_a_value_returned_after_the_time_is_dropped(self, app):
        @app.task(timeout=0.05)
        async def job() -> str:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "late"

        assert job.call().exception(10).failure.code is Code.TIMEOUT

    def test_a_cancelled_call_is_stopped_and_not_retried(self, app):
        started, stopped, runs = threading.Event(), threading.Event(), []

        @app.task(retry=Retry(max=3, base=0))
        async def job() -> None:
            runs.append(1)
            started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                stopped.set()

        result = job.call()
        assert started.wait(10)
        assert result.cancel()
        assert stopped.wait(10)
        with pytest.raises(dingo.Cancelled):
            result.result(10)
        app.close(timeout=10)
        assert len(runs) == 1


class TestExpiry:
    def test_a_call_that_expired_before_it_started_does_not_run(self, app):
        runs = []

        @app.task
        def job() -> None:
            runs.append(1)

        for expires in (0, dingo.worker.context._utc(1.0)):
            result = job.options(expires=expires).call()
            failure = result.exception(10).failure
            assert failure.code is Code.EXPIRED
        assert runs == []

    def test_a_call_in_time_runs_however_long(self, app, gate):
        started = threading.Event()
        timer = app._session.open().timer

        @app.task
        def job() -> int:
            started.set()
            gate.wait(10)
            return 1

        result = job.options(expires=60).call()
        assert started.wait(10)
        timer.advance(3600)
        gate.set()
        assert result.result(10) == 1

    def test_a_delay_longer_than_the_expiry_ends_expired(self, app):
        app.register("job", lambda: None)
        result = app.options(delay=60, expires=30).call("job")
        app._session.open().timer.advance(60)
        assert result.exception(10).failure.code is Code.EXPIRED


@pytest.mark.parametrize("pool", ["thread", "async"])
def test_what_an_invoker_s_returned_raises_ends_the_call(app, pool):
    class Invoker:
        def invoke(self, fn, args, kwargs):
            return fn(*args, **kwargs)

        def returned(self, fn, value):
            raise LookupError("no such value")

    async def ajob() -> int:
        return 1

    app.register("job", (lambda: 1) if pool == "thread" else ajob, invoker=Invoker())
    for options in ({}, {"timeout": 5}):
        failure = app.options(**options).call("job").exception(10).failure
        assert (failure.code, failure.type) == (Code.EXCEPTION, "LookupError")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("options", [{}, {"retry": 2}])
def test_whatever_a_task_raises_its_call_ends_and_its_worker_lives(single, error, options):
    @single.task(**options)
    def bad() -> None:
        raise error("out")

    @single.task
    def good() -> int:
        return 1

    assert bad.call().exception(10).failure.type == error.__name__
    assert good.call().result(10) == 1


def test_a_storm_of_timeouts_and_returns_ends_each_call_once(app):
    """The end of the function and the end of its time come together: one of them says how it ended."""
    ends = []

    @app.task(timeout=0.002, retry=Retry(max=2, base=0, on=(TimeoutError, ValueError)))
    def job(number: int) -> int:
        threading.Event().wait(0.002)
        if number % 3 == 0:
            raise ValueError
        return number

    results = app.call_many("job", [(number,) for number in range(100)])
    for one in results:
        one.add_done_callback(lambda one: ends.append(one))
    app.close(timeout=20)
    assert all(one.done() for one in results)
    assert len(ends) == len(set(ends)) == 100
    for number, one in enumerate(results):
        error = one.exception(0)
        if error is None:
            assert one.result() == number
        else:
            assert error.failure.code in (Code.TIMEOUT, Code.EXCEPTION)
