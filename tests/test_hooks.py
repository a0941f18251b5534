"""Hooks: when they are called, in what order and with what."""

import threading

import pytest

import dingo
from dingo import Code, Retry, Status

MOMENTS = ("on_publish", "before_task", "after_task", "on_retry", "on_success", "on_failure", "on_error")


@pytest.fixture
def log(app):
    """What the hooks were told: (moment, what was given besides the context)."""
    told = []

    def recorder(moment):
        def hook(context, *rest):
            assert isinstance(context, dingo.Context)
            told.append((moment, context.attempt, *rest))

        return hook

    for moment in MOMENTS:
        getattr(app, moment)(recorder(moment))
    return told


def moments(log):
    return [entry[0] for entry in log]


def run(app, name, *args, **options):
    result = app.options(**options).call(name, *args)
    result.wait(10)
    app.close(timeout=10)
    return result


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_success_passes_four_moments(app, log, kind):
    async def ajob(a: int) -> int:
        return a

    app.register("job", ajob if kind == "async" else lambda a: a)
    result = run(app, "job", 7)
    assert moments(log) == ["on_publish", "before_task", "on_success", "after_task"]
    assert log[2] == ("on_success", 1, 7)
    report = log[3][2]
    assert (report.status, report.value, report.id) == (Status.SUCCESS, 7, result.id)


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_failure_tells_the_handler_the_exception_and_the_hook_the_failure(app, log, kind):
    error = ValueError("no")

    def job() -> None:
        raise error

    async def ajob() -> None:
        raise error

    app.register("job", ajob if kind == "async" else job)
    result = run(app, "job")
    assert moments(log) == ["on_publish", "before_task", "on_error", "on_failure", "after_task"]
    assert log[2] == ("on_error", 1, error)
    assert log[3] == ("on_failure", 1, result.exception().failure)
    assert log[4][2].status is Status.FAILURE


def test_a_retried_call_tells_each_attempt_and_its_end_once(app, log):
    def job() -> None:
        raise ValueError("no")

    app.register("job", job, retry=Retry(max=2, base=0))
    result = app.call("job")
    assert result.exception(10)
    app.close(timeout=10)
    assert [entry[:2] for entry in log] == [
        ("on_publish", 1),
        ("before_task", 1), ("on_retry", 1), ("after_task", 1),
        ("before_task", 2), ("on_retry", 2), ("after_task", 2),
        ("before_task", 3), ("on_error", 3), ("on_failure", 3), ("after_task", 3),
    ]  # fmt: skip
    assert [entry[2].status for entry in log if entry[0] == "after_task"] == [
        Status.RETRY,
        Status.RETRY,
        Status.FAILURE,
    ]


def test_the_error_handler_is_called_only_where_the_function_raised(app, log):
    @app.task
    def bad_return() -> int:
        return "x"

    result = bad_return.call()
    assert result.exception(10).failure.code is Code.BAD_RETURN
    expired = bad_return.options(expires=0).call()
    assert expired.exception(10).failure.code is Code.EXPIRED
    app.close(timeout=10)
    assert "on_error" not in moments(log)
    assert moments(log).count("on_failure") == 2


def test_a_timeout_is_a_failure_and_no_error_of_the_function(app, log, gate):
    @app.task(timeout=0.05)
    def job() -> None:
        gate.wait(10)

    told = threading.Event()
    app.on_failure(lambda context, failure: told.set())
    assert job.call().exception(10).failure.code is Code.TIMEOUT
    assert told.wait(10)
    gate.set()
    app.close(timeout=10)
    assert moments(log) == ["on_publish", "before_task", "on_failure", "after_task"]


def test_a_slow_hook_does_not_hold_up_time_limits(app, gate):
    app.on_failure(lambda context, failure: gate.wait(10))

    @app.task(timeout=0.02)
    def job() -> None:
        gate.wait(10)

    results = [job.call(), job.call()]
    assert all(result.exception(5).failure.code is Code.TIMEOUT for result in results)


def test_on_publish_may_change_the_headers_that_the_task_sees(app):
    app.on_publish(lambda context: context.headers.update(trace="abc"))

    @app.task(headers={"tenant": "t1"})
    def job(context: dingo.Context) -> dict:
        return context.headers

    assert job.call().result(10) == {"tenant": "t1", "trace": "abc"}
    assert app.options(headers={"tenant": "t2"}).call("job").result(10) == {"tenant": "t2", "trace": "abc"}
    assert job.options(headers={}).call().result(10) == {"trace": "abc"}


def test_headers_changed_for_one_call_are_not_those_of_the_next(app):
    counts = iter(range(10))
    app.on_publish(lambda context: context.headers.setdefault("number", next(counts)))
    app.register("job", lambda: dingo.current().headers)
    assert [app.call("job").result(10) for _ in range(3)] == [{"number": 0}, {"number": 1}, {"number": 2}]


def test_on_publish_sees_the_call_before_it_is_sent(app):
    seen = []
    app.on_publish(lambda context: seen.append((context.name, context.id, context.queue)))
    app.register("job", lambda: None, queue="slow")
    result = app.call("job")
    assert seen == [("job", result.id, "slow")]


def test_hooks_of_one_moment_run_in_the_order_they_were_registered(app):
    order = []
    for number in range(3):
        app.before_task(lambda context, number=number: order.append(number))
    app.register("job", lambda: list(order))
    assert app.call("job").result(10) == [0, 1, 2]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_hook_that_raises_harms_nothing_and_is_told_of(app, moment, kind):
    def bad(*args):
        raise RuntimeError("hook")

    reached = []
    getattr(app, moment)(bad)
    getattr(app, moment)(lambda *args: reached.append(moment))
    fails = moment in ("on_retry", "on_failure", "on_error")

    def job() -> int:
        if fails:
            raise ValueError
        return 1

    async def ajob() -> int:
        return job()

    events = app.listen(level=dingo.Level.WARNING)
    app.register("job", ajob if kind == "async" else job, retry=Retry(max=1, base=0))
    result = app.call("job")
    assert (result.exception(10) is not None) == fails
    app.close(timeout=10)
    assert reached
    told = [event for event in events if event.code == "hook.failed"]
    assert told
    assert all(str(event.payload["error"]) == "hook" for event in told)


def test_a_hook_added_while_calls_are_queued_is_called_for_them(single, gate):
    seen = []
    started = threading.Event()
    single.register("hold", lambda: (started.set(), gate.wait(10)))
    single.register("job", lambda: None)
    single.call("hold")
    assert started.wait(10)
    results = single.call_many("job", [()] * 5)
    single.before_task(lambda context: seen.append(context.name))
    gate.set()
    [result.result(10) for result in results]
    assert seen == ["job"] * 5


def test_registering_returns_the_function_so_that_it_can_decorate(app):
    @app.on_error
    def handler(context, error): ...

    assert handler.__name__ == "handler"
    for moment in MOMENTS:
        with pytest.raises(TypeError, match="function"):
            getattr(app, moment)("no function")


def test_a_coroutine_function_is_refused_as_a_hook(app):
    async def hook(context): ...

    for moment in MOMENTS:
        with pytest.raises(TypeError, match="async"):
            getattr(app, moment)(hook)


def test_context_in_a_hook_is_also_the_current_one_around_the_task(app):
    seen = []
    app.before_task(lambda context: seen.append(dingo.current().id == context.id))
    app.after_task(lambda context, report: seen.append(dingo.current().id == context.id))

    async def ajob() -> None: ...

    app.register("job", lambda: None)
    app.register("ajob", ajob)
    app.call("job").result(10)
    app.call("ajob").result(10)
    app.close(timeout=10)
    assert seen == [True] * 4
