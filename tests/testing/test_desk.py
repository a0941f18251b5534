"""dingo.testing.local: an app at the desk."""

import threading

import pytest

import dingo
import dingo.testing
from dingo import Code


@pytest.fixture
def add(app):
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    return add


def test_calls_run_and_go_through_the_marshaller(app, add):
    app.register("same", lambda a: a)
    given = [1]
    with dingo.testing.local(app):
        assert add.call(1, 2).result(10) == 3
        assert app.call("same", given).result(10) is not given
        with pytest.raises(dingo.BadArguments):
            app.call("same", object())
    assert app.call("same", given).result(10) is given


def test_advance_brings_delayed_calls_to_their_time(app, add):
    with dingo.testing.local(app) as desk:
        result = add.options(delay=3600).call(1, 2)
        desk.advance(3599)
        assert [info.id for info in app.delayed()] == [result.id]
        desk.advance(1.1)
        assert app.delayed() == []
        assert result.result(10) == 3


def test_advance_brings_retries_to_their_time(app):
    attempts = []

    @app.task(retry=dingo.Retry(max=2, backoff="fixed", base=600, jitter=False), monitor_progress=True)
    def job(context: dingo.Context) -> int:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise OSError
        return context.attempt

    with dingo.testing.local(app) as desk:
        result = job.call()
        for attempt in (1, 2):
            for _ in range(10**6):
                if app.delayed():
                    break
            assert attempts[-1] == attempt
            desk.advance(600)
        assert result.result(10) == 3


def test_advance_makes_calls_expire_and_time_out(app, add, gate):
    app.register("hang", lambda: gate.wait(10))
    with dingo.testing.local(app) as desk:
        started = threading.Event()
        app.before_task(lambda context: started.set())
        hanging = app.options(timeout=3600).call("hang")
        late = add.options(delay=7200, expires=3600).call(1, 2)
        assert started.wait(10)
        desk.advance(7201)
        assert hanging.exception(10).failure.code is Code.TIMEOUT
        assert late.exception(10).failure.code is Code.EXPIRED
        gate.set()


def test_what_is_queued_runs_at_the_end_and_what_is_delayed_is_shut_down(app, add):
    with dingo.testing.local(app):
        results = app.call_many("add", [(1, 2)] * 50)
        late = add.options(delay=3600).call(1, 2)
    assert [result.result(0) for result in results] == [3] * 50
    assert late.exception(0).failure.code is Code.SHUTDOWN


def test_the_app_is_afterwards_what_it_was_before(app, add):
    before = add.options(delay=3600).call(1, 2)
    config, bridge = app.config, app._session.caller
    with pytest.raises(ZeroDivisionError), dingo.testing.local(app):
        add.call(1, 2).result(10)
        assert app.delayed() == []
        1 / 0  # noqa: B018
    assert app.config is config
    assert app._session.caller is bridge
    assert [info.id for info in app.delayed()] == [before.id]
    assert add.call(1, 2).result(10) == 3
    bridge.timer.advance(3600)
    assert before.result(10) == 3


def test_a_closed_app_can_be_taken_to_the_desk_and_is_closed_after(app, add):
    app.close(timeout=10)
    with dingo.testing.local(app):
        assert add.call(1, 2).result(10) == 3
    with pytest.raises(dingo.AppClosed):
        add.call(1, 2)


def test_a_lifespan_is_entered_and_left(app):
    import contextlib

    log = []

    @app.lifespan
    @contextlib.contextmanager
    def life():
        log.append("in")
        yield "state"
        log.append("out")

    @app.task
    def job(context: dingo.Context) -> str:
        return context.state

    with dingo.testing.local(app):
        assert job.call().result(10) == "state"
    assert log == ["in", "out"]


def test_the_fixture_lasts_for_the_test(dingo_local, app, add):
    desk = dingo_local(app)
    result = add.options(delay=60).call(1, 2)
    desk.advance(60)
    assert result.result(10) == 3


def test_an_app_connected_to_a_broker_is_detached_from_it(add, app):
    connected = dingo.App("memory://")
    connected.register("add", lambda a, b: a + b)
    with dingo.testing.local(connected):
        assert connected.call("add", 1, 2).result(10) == 3
        assert "local" in repr(connected)
    with dingo.testing.record(connected) as calls:
        connected.call("add", 1, 2)
    assert [call.args for call in calls] == [(1, 2)]
    connected.close(timeout=5)
