"""dingo's ancestor, written in Go, had the following bugs. Each test shows that one of them is not here."""

from __future__ import annotations

import threading

import pytest
from conftest import PATIENCE

import dingo
from dingo import BadArguments, BadOption, Code, Config, Context, Level, NotRegistered, Origin, Status


def add(a: int, b: int) -> int:
    return a + b


# -- the app ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["remote-ish", "locall", ""])
def test_an_unknown_mode_does_not_silently_mean_remote(mode, monkeypatch):
    monkeypatch.delenv("DINGO_BROKER", raising=False)
    with pytest.raises(dingo.DingoError):
        dingo.App(mode)


def test_what_is_not_callable_is_refused_at_registration_not_at_execution(app):
    with pytest.raises(TypeError):
        app.register("t", "not a function")


def test_an_empty_name_is_refused(app):
    with pytest.raises(ValueError, match="name"):
        app.register("", add)


def test_a_name_can_be_allocated_more_than_once(app):
    app.register("add", add)
    assert [app.allocate("add", n).count for n in (1, 2, 1)] == [1, 2, 1]


def test_a_bad_allocate_does_not_burn_the_name(app):
    app.register("add", add)
    for count, share in [(0, 0), (-1, 0), (1, -1)]:
        with pytest.raises(ValueError, match="count|share"):
            app.allocate("add", count, share)
    assert app.allocate("add", 1).count == 1
    assert app.call("add", 1, 2).result(PATIENCE) == 3


def test_two_workers_sharing_one_channel_have_one_channel(app):
    app.register("add", add)
    assert app.allocate("add", 2, 2).channels == 1


def test_a_registered_name_without_workers_is_served_also_when_its_report_is_ignored(app):
    ran = threading.Event()
    app.register("t", ran.set)
    assert app.options(ignore_report=True).call("t").done()
    assert ran.wait(PATIENCE)


def test_options_of_a_call_are_laid_over_the_tasks_and_do_not_replace_them(app):
    app.register("add", add, headers={"from": "task"}, priority=7)
    plan = app.plan_for(app._registry.get("add"), {"timeout": 5})
    assert (plan.option.priority, plan.option.headers, plan.option.timeout) == (7, {"from": "task"}, 5)


def test_a_bad_option_is_an_error_not_ignored(app):
    with pytest.raises(BadOption):
        app.register("add", add, ignore_reports=True)


# -- reports ---------------------------------------------------------------------------------------------------


def test_progress_carries_data(app):
    @app.task
    def work(context: Context) -> None:
        context.progress(1, 2, "half")

    (progress, _) = list(work.call().reports())
    assert (progress.status, progress.progress.done, progress.progress.message) == (Status.PROGRESS, 1, "half")


def test_an_unread_channel_never_blocks_a_worker(single):
    @single.task(monitor_progress=True)
    def chatter(context: Context) -> int:
        for n in range(1000):
            context.progress(n)
        return 5

    result = chatter.call()
    unread = [result.reports() for _ in range(3)]
    assert result.result(PATIENCE) == 5
    assert all(len(list(channel)) == 1004 for channel in unread)


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2, 3), ("1", 2), (None, 2), (1.5, 2)])
@pytest.mark.parametrize("marshal", [False, True])
def test_wrong_arguments_are_the_same_error_in_every_mode_and_never_silence(make_app, arguments, marshal):
    app = make_app(marshal_locally=marshal)
    app.register("add", add)
    with pytest.raises(BadArguments):
        app.call("add", *arguments)


def test_a_returned_exception_is_a_value_and_its_caller_is_answered(app):
    error = ValueError("just a value")
    assert app.register("t", lambda: error).call().result(PATIENCE) is error


def test_a_return_value_that_cannot_be_carried_is_reported(make_app):
    app = make_app(marshal_locally=True)
    result = app.register("t", threading.Lock).call()
    assert result.exception(PATIENCE).failure.code is Code.BAD_RETURN


def test_arguments_that_cannot_be_carried_are_refused_at_the_call(make_app):
    app = make_app(marshal_locally=True)
    with pytest.raises(BadArguments):
        app.register("t", lambda value: None).call(threading.Lock())


def test_variadic_functions_work(app):
    app.register("sum", lambda *numbers, **named: sum(numbers) + sum(named.values()))
    assert app.call("sum", 1, 2, 3, a=4).result(PATIENCE) == 10


def test_no_number_is_cut_and_none_becomes_a_character(app):
    def exact(n: int) -> int:
        return n

    def text(value: str) -> str:
        return value

    app.register("exact", exact)
    app.register("text", text)
    assert app.call("exact", 2**70).result(PATIENCE) == 2**70
    for name, value in [("exact", 3.9), ("text", 65)]:
        with pytest.raises(BadArguments):
            app.call(name, value)


def test_two_live_calls_with_the_same_name_and_id_are_not_confused(app, gate):
    app.register("t", gate.wait)
    first = app.options(id="same").call("t", PATIENCE)
    with pytest.raises(BadOption):
        app.options(id="same").call("t", PATIENCE)
    gate.set()
    assert first.result(PATIENCE) is True


def test_an_unknown_name_harms_nobody(single):
    single.register("add", add)
    for _ in range(10):
        with pytest.raises(NotRegistered):
            single.call("unknown")
    assert single.call("add", 1, 2).result(PATIENCE) == 3
    single.close()


def test_panics_kill_no_worker_and_have_a_traceback(single):
    def panic() -> None:
        raise RuntimeError("panic")

    single.register("panic", panic)
    single.register("add", add)
    failures = [single.call("panic").exception(PATIENCE).failure for _ in range(10)]
    assert {failure.code for failure in failures} == {Code.EXCEPTION}
    assert all("in panic" in failure.traceback for failure in failures)
    assert single.call("add", 1, 2).result(PATIENCE) == 3


# -- handlers of a result --------------------------------------------------------------------------------------


def test_a_handler_registered_after_an_intermediate_report_is_called(app, gate):
    called = threading.Event()

    @app.task(monitor_progress=True)
    def fail() -> None:
        gate.wait(PATIENCE)
        raise ValueError

    result = fail.call()
    assert next(iter(result.reports())).status is Status.SENT
    result.on_fail(lambda failure: called.set())
    gate.set()
    assert called.wait(PATIENCE)


def test_a_handler_is_told_when_the_app_closes_after_intermediate_reports(app, gate):
    failures = []

    @app.task(monitor_progress=True)
    def hang() -> None:
        gate.wait(PATIENCE)

    result = hang.call().on_fail(failures.append)
    assert result.wait(PATIENCE, until=Status.STARTED)
    app.close(timeout=0.05)
    assert [failure.code for failure in failures] == [Code.SHUTDOWN]


def test_each_of_several_handlers_runs_exactly_once(app):
    seen = []
    result = app.register("add", add).call(1, 2)
    result.on_ok(lambda value: seen.append(("before", value)))
    result.wait(PATIENCE)
    app.close(PATIENCE)
    result.on_ok(lambda value: seen.append(("after", value)))
    result.wait(PATIENCE)
    assert seen == [("before", 3), ("after", 3)]


def test_a_handler_of_the_wrong_shape_is_told(app, gate):
    events = app.listen(level=Level.WARNING)
    app.register("t", gate.wait).call(PATIENCE).on_ok(lambda: None)
    gate.set()
    assert isinstance(events.get(PATIENCE).payload["error"], TypeError)


# -- events ----------------------------------------------------------------------------------------------------


def test_events_have_a_payload(app):
    events = app.listen(level=Level.DEBUG)
    result = app.register("add", add).call(1, 2)
    result.wait(PATIENCE)
    app.close()
    about_calls = [event for event in events if event.code.startswith("call.")]
    assert {event.payload["id"] for event in about_calls} == {result.id}


def test_a_listener_that_never_reads_blocks_nobody_and_its_losses_are_counted(app):
    events = app.listen(origin=Origin.ALL, level=Level.DEBUG, maxsize=10)
    results = app.register("add", add).call_many([(n, n) for n in range(500)])
    assert [result.result(PATIENCE) for result in results] == [2 * n for n in range(500)]
    app.close()
    assert len(list(events)) == 10
    assert events.dropped >= 1490


# -- closing ---------------------------------------------------------------------------------------------------


def test_close_does_not_hang_with_many_calls_done_and_one_outstanding(single, gate):
    events = single.listen(level=Level.DEBUG, maxsize=5)
    single.register("add", add)
    for n in range(50):
        single.call("add", n, n).result(PATIENCE)
    outstanding = single.register("hold", gate.wait).call(PATIENCE)
    unread = outstanding.reports()
    single.close(timeout=0.05)
    assert next(iter(unread)).failure.code is Code.SHUTDOWN
    assert events.dropped


def test_close_loses_not_even_the_very_last_report(single):
    single.register("add", add)
    results = [single.call("add", n, 0) for n in range(60)]
    channels = [result.reports() for result in results]
    single.close()
    assert [[report.value for report in channel] for channel in channels] == [[n] for n in range(60)]


def test_a_call_after_close_is_refused_and_a_second_close_is_nothing(app):
    app.register("add", add)
    app.close()
    with pytest.raises(dingo.AppClosed):
        app.call("add", 1, 2)
    app.close()


def test_a_stuck_function_does_not_hang_close_for_ever(single, gate):
    single.register("stuck", gate.wait).call(PATIENCE)
    single.close(timeout=0.01)


def test_a_wait_for_a_result_ends_when_the_app_closes(single, gate):
    answers = []
    result = single.register("stuck", gate.wait).call(PATIENCE)
    waiting = threading.Thread(target=lambda: answers.append(result.exception()))
    waiting.start()
    single.close(timeout=0.01)
    waiting.join(PATIENCE)
    assert answers[0].failure.code is Code.SHUTDOWN


def test_the_configuration_has_more_than_one_knob_and_refuses_unknown_ones():
    with pytest.raises(dingo.BadConfig, match="workers"):
        Config(worker=3)
