"""Closing gracefully runs what was accepted, and what is to follow on it."""

import threading

import dingo


def test_what_follows_on_accepted_calls_runs_before_the_app_is_closed():
    seen, gate = [], threading.Event()
    with dingo.App("local", config=dingo.Config(workers=1)) as app:

        @app.task
        def first(number: int) -> int:
            gate.wait(10)
            return number + 1

        @app.task
        def then(number: int) -> int:
            seen.append(number)
            return number * 10

        app.options(on_success=[then.s().with_options(on_success=[then.s()])]).call("first", 1)
        closing = threading.Thread(target=app.close)
        closing.start()
        gate.set()
        closing.join(10)
    assert seen == [2, 20]


def test_what_follows_on_a_failure_runs_before_the_app_is_closed():
    seen = []
    with dingo.App("local") as app:
        app.register("boom", lambda: 1 / 0)
        app.register("note", seen.append)
        app.options(on_error=[dingo.Signature("note")]).call("boom")
    assert seen == ["division by zero"]


def test_a_cancelled_call_that_something_was_to_follow_on_does_not_hold_up_closing():
    gate = threading.Event()
    app = dingo.App("local", config=dingo.Config(workers=1))
    app.register("wait", gate.wait)
    app.call("wait")
    waiting = app.options(on_success=[dingo.Signature("wait")]).call("wait")
    assert waiting.cancel()
    gate.set()
    app.close()
    assert waiting.cancelled()
