"""Events and log records: what happens inside dingo reaches somebody."""

import asyncio
import logging
import threading

import pytest

import dingo
from dingo import ChannelClosed, Code, Level, Origin, Retry


@pytest.fixture
def add(app):
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    return add


def drained(app, subscription):
    """Close the app; return all its events."""
    app.close(timeout=10)
    return list(subscription)


def test_a_call_is_sent_started_and_finished(app, add):
    events = app.listen(level=Level.DEBUG)
    result = add.call(1, 2)
    assert result.result(10) == 3
    calls = [event for event in drained(app, events) if event.code.startswith("call.")]
    assert [event.code for event in calls] == ["call.sent", "call.started", "call.finished"]
    assert [event.origin for event in calls] == [Origin.PRODUCER, Origin.WORKER, Origin.WORKER]
    assert all(event.level is Level.DEBUG for event in calls)
    assert all(event.payload["id"] == result.id and event.payload["name"] == "add" for event in calls)
    assert all("add" in event.message and event.time > 1e9 for event in calls)
    assert [event.time for event in calls] == sorted(event.time for event in calls)


@pytest.mark.parametrize("options", [{}, {"retry": 2}, {"monitor_progress": True}, {"timeout": 60}, {"priority": 7}])
@pytest.mark.parametrize("kind", ["returns", "raises", "cancelled", "expired", "async"])
def test_every_call_is_finished_exactly_once_however_it_ends(app, gate, options, kind):
    started = threading.Event()

    def job() -> None:
        started.set()
        if kind == "raises":
            raise KeyError
        if kind == "cancelled":
            gate.wait(10)

    async def ajob() -> None: ...

    options = {**options, "retry": Retry(max=options["retry"], on=(OSError,))} if "retry" in options else options
    app.register("job", ajob if kind == "async" else job)
    events = app.listen(level=Level.DEBUG)
    result = app.options(**options, **({"expires": 0} if kind == "expired" else {})).call("job")
    if kind == "cancelled":
        assert started.wait(10)
        assert result.cancel()
        gate.set()
    result.wait(10)
    codes = [event.code for event in drained(app, events)]
    assert codes.count("call.sent") == 1
    assert codes.count("call.finished") == 1


def test_a_healthy_run_emits_nothing_above_info(app, add, caplog):
    events = app.listen(level=Level.WARNING)
    with app:
        assert [result.result(10) for result in app.call_many("add", [(1, 2)] * 100)] == [3] * 100
        add.options(retry=2, timeout=60, max_concurrency=1, unique=True, priority=9).call(1, 2).result(10)
        result = add.options(delay=3600).call(1, 2)
        assert result.cancel()
    assert list(events) == []
    assert caplog.records == []


def test_workers_that_start_and_stop_are_told_of_at_info(app, add):
    events = app.listen()
    add.call(1, 2).result(10)
    codes = [event.code for event in drained(app, events)]
    assert codes.count("worker.started") == codes.count("worker.stopped") == 2


def test_a_retry_is_told_of_at_info_and_a_final_failure_at_warning(app):
    @app.task(retry=Retry(max=1, base=0))
    def job() -> None:
        raise ValueError("no")

    events = app.listen()
    result = job.call()
    assert result.exception(10)
    about = [event for event in drained(app, events) if event.code.startswith("task.")]
    assert [(event.code, event.level) for event in about] == [
        ("task.retry", Level.INFO),
        ("task.failed", Level.WARNING),
    ]
    assert about[0].payload["attempt"] == 1
    assert about[1].payload["failure"].code is Code.EXCEPTION
    assert about[1].payload["id"] == result.id


def test_a_listener_hears_only_its_origins_and_levels(app, add):
    sent = app.listen(Origin.PRODUCER, Level.DEBUG)
    both = app.listen(Origin.PRODUCER | Origin.WORKER, Level.DEBUG)
    none = app.listen(Origin.STORE, Level.DEBUG)
    warnings = app.listen(level=Level.WARNING)
    add.call(1, 2).result(10)
    app.close(timeout=10)
    assert {event.code for event in sent} == {"call.sent"}
    assert {"call.sent", "call.finished", "worker.started"} <= {event.code for event in both}
    assert list(none) == []
    assert list(warnings) == []


def test_two_listeners_hear_the_same(app, add):
    first, second = app.listen(level=Level.DEBUG), app.listen(level=Level.DEBUG)
    [result.result(10) for result in app.call_many("add", [(1, 2)] * 20)]
    app.close(timeout=10)
    heard = [[(event.code, event.time) for event in one] for one in (first, second)]
    assert sorted(heard[0]) == sorted(heard[1])


def test_a_slow_listener_loses_events_and_knows_how_many(app, add):
    events = app.listen(Origin.PRODUCER, Level.DEBUG, maxsize=10)
    [result.result(10) for result in app.call_many("add", [(1, 2)] * 100)]
    app.close(timeout=10)
    assert len(list(events)) == 10
    assert events.dropped == 90


def test_maxsize_zero_loses_nothing(app, add):
    events = app.listen(Origin.PRODUCER, Level.DEBUG, maxsize=0)
    [result.result(10) for result in app.call_many("add", [(1, 2)] * 3000)]
    app.close(timeout=10)
    assert len(list(events)) == 3000
    assert events.dropped == 0


@pytest.mark.parametrize(
    "bad", [{"maxsize": -1}, {"maxsize": 1.5}, {"maxsize": True}, {"level": 17}, {"level": "INFO"}]
)
def test_a_wrong_subscription_is_refused(app, bad):
    with pytest.raises(ValueError):
        app.listen(**bad)


def test_get_times_out_and_ends(app):
    events = app.listen()
    with pytest.raises(TimeoutError):
        events.get(timeout=0.01)
    app.close(timeout=10)
    with pytest.raises(ChannelClosed):
        events.get(timeout=1)


def test_closing_a_subscription_ends_it_after_what_it_holds(app, add):
    events = app.listen(Origin.PRODUCER, Level.DEBUG)
    add.call(1, 2).result(10)
    events.close()
    add.call(1, 2).result(10)
    assert [event.code for event in events] == ["call.sent"]


def test_events_are_read_on_a_loop_too(app, add):
    async def main():
        events = app.listen(Origin.PRODUCER, Level.DEBUG)
        first = asyncio.create_task(events.aget())
        await asyncio.sleep(0)
        await add.call(1, 2)
        assert (await asyncio.wait_for(first, 10)).code == "call.sent"
        await add.call(1, 2)
        await app.aio.close(10)
        return [event.code async for event in events]

    assert asyncio.run(main()) == ["call.sent"]


def test_closing_the_app_wakes_a_listener_that_waits(app, add):
    events = app.listen(Origin.STORE)
    ended = threading.Event()
    threading.Thread(target=lambda: (list(events), ended.set()), daemon=True).start()
    add.call(1, 2).result(10)
    app.close(timeout=10)
    assert ended.wait(10)


def test_listening_to_a_closed_app_is_refused_and_to_an_open_one_again_allowed(app, add):
    app.close(timeout=10)
    with pytest.raises(dingo.AppClosed):
        app.listen()
    with app:
        events = app.listen(level=Level.DEBUG)
        add.call(1, 2).result(10)
    assert "call.finished" in [event.code for event in events]


def test_with_no_listener_below_info_calls_go_the_short_way(app, add):
    add.call(1, 2).result(10)
    plan = add._plan
    assert plan.plain
    warnings = app.listen(level=Level.INFO)
    assert plan.plain
    debug = app.listen(level=Level.DEBUG)
    assert not plan.plain
    other = app.listen(level=Level.DEBUG)
    debug.close()
    assert not plan.plain
    other.close()
    warnings.close()
    assert plan.plain
    assert app._hub.floor == logging.CRITICAL


def test_listeners_may_come_and_go_while_calls_run(app, add):
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            events = app.listen(level=Level.DEBUG)
            events.close()
            assert all(event.code for event in events)

    errors = []
    thread = threading.Thread(target=lambda: errors.extend([one for one in [come_and_go()] if one]))
    thread.start()
    try:
        for _ in range(30):
            assert [result.result(10) for result in app.call_many("add", [(1, 2)] * 50)] == [3] * 50
    finally:
        stop.set()
        thread.join(10)
    assert errors == []
    assert add._plan is None or add._plan.plain


class TestLogging:
    def records(self, caplog):
        return [(record.name, record.levelname, record.getMessage()) for record in caplog.records]

    def test_a_failure_that_reaches_its_caller_is_not_logged(self, app, caplog):
        app.register("bad", lambda: 1 / 0)
        events = app.listen(level=Level.WARNING)
        assert app.call("bad").exception(10)
        assert events.get(10).code == "task.failed"
        app.close(timeout=10)
        assert self.records(caplog) == []

    def test_a_failure_of_an_ignored_call_is_logged(self, app, caplog):
        app.register("bad", lambda: 1 / 0, ignore_report=True)
        app.call("bad")
        app.close(timeout=10)
        [(name, level, message)] = self.records(caplog)
        assert (name, level) == ("dingo.worker", "WARNING")
        assert "bad" in message
        assert "ZeroDivisionError" in message

    def test_a_failure_of_a_call_that_another_call_made_is_logged(self, app, caplog):
        failed = threading.Event()
        app.on_failure(lambda context, failure: failed.set())
        app.register("good", lambda: 1)
        bad = app.register("bad", lambda a: 1 / 0)
        assert app.options(on_success=[bad.s()]).call("good").result(10) == 1
        assert failed.wait(10)
        app.close(timeout=10)
        [(name, level, message)] = self.records(caplog)
        assert (name, level) == ("dingo.worker", "WARNING")
        assert "bad" in message

    def test_a_callback_that_raises_is_logged_with_its_traceback(self, app, caplog):
        app.register("good", lambda: 1)

        def callback(value):
            raise LookupError("callback")

        events = app.listen(level=Level.WARNING)
        app.call("good").on_ok(callback).result(10)
        app.close(timeout=10)
        [record] = caplog.records
        assert record.name.startswith("dingo.")
        assert record.exc_info[0] is LookupError
        [event] = list(events)
        assert event.code == "callback.failed"
        assert "LookupError" in event.message


def test_an_event_has_its_six_fields_and_a_short_repr(app, add):
    events = app.listen(level=Level.DEBUG)
    add.call(1, 2).result(10)
    for event in drained(app, events):
        for name in ("origin", "level", "time", "code", "message", "payload"):
            assert hasattr(event, name)
        assert event.level.name in repr(event)
