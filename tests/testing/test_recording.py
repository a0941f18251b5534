"""dingo.testing.record and dingo.testing.context."""

import threading

import pytest

import dingo
import dingo.testing


@pytest.fixture
def ran():
    return []


@pytest.fixture
def ship(app, ran):
    @app.task(queue="orders")
    def ship(order: int, *, fast: bool = False) -> None:
        ran.append(order)

    return ship


def test_calls_are_listed_and_nothing_runs(app, ship, ran):
    threads = threading.active_count()
    with dingo.testing.record(app) as calls:
        ship.call(1)
        app.call("ship", 2, fast=True)
        ship.options(delay=60, retry=2).call(3)
        ship.options(ignore_report=True).call(4)
        ship.call_many([(5,), (6,)])
        assert threading.active_count() == threads
    assert [(call.name, call.args, call.kwargs) for call in calls] == [
        ("ship", (1,), {}), ("ship", (2,), {"fast": True}), ("ship", (3,), {}), ("ship", (4,), {}),
        ("ship", (5,), {}), ("ship", (6,), {}),
    ]  # fmt: skip
    assert calls[0].options == {"queue": "orders"}
    assert calls[2].options == {"queue": "orders", "delay": 60, "retry": 2}
    assert ran == []


def test_async_tasks_and_limited_ones_are_recorded_alike(app, ran):
    @app.task(max_concurrency=1, unique=True, priority=9)
    async def job(context: dingo.Context, a: int) -> None:
        ran.append(a)

    with dingo.testing.record(app) as calls:
        job.call(1)
        job.call(1)
    assert [call.args for call in calls] == [(1,), (1,)]
    assert ran == []


def test_arguments_options_and_names_are_checked_as_always(app, ship):
    with dingo.testing.record(app) as calls:
        with pytest.raises(dingo.BadArguments):
            ship.call("x")
        with pytest.raises(dingo.BadOption):
            ship.options(prioritty=1)
        with pytest.raises(dingo.NotRegistered):
            app.call("shipp", 1)
    assert calls == []


def test_the_results_wait_until_the_end_and_are_cancelled_then(app, ship):
    with dingo.testing.record(app):
        result = ship.call(1)
        assert not result.done()
    assert result.cancelled()


def test_the_app_runs_calls_again_afterwards(app, ship, ran):
    ship.call(1).result(10)
    with dingo.testing.record(app):
        ship.call(2)
    ship.call(3).result(10)
    assert ran == [1, 3]


def test_the_fixture_lasts_for_the_test(dingo_record, app, ship, ran):
    calls = dingo_record(app)
    ship.call(7)
    assert [call.args for call in calls] == [(7,)]


class TestContext:
    def test_it_has_the_fields_it_was_given(self):
        fields = {
            "id": "1", "name": "ship", "attempt": 3, "retries_left": 2, "headers": {"a": 1}, "queue": "slow",
            "cancelled": True, "previous": 5, "errors": (1,), "state": {"db": 1}, "eta": None, "deadline": None,
        }  # fmt: skip
        context = dingo.testing.context(**fields)
        assert {name: getattr(context, name) for name in fields} == fields

    def test_a_task_s_function_can_be_called_with_it(self, app):
        @app.task
        def job(context: dingo.Context, a: int) -> int:
            context.progress(1, 2)
            context.save("x")
            return a * context.attempt

        assert job.fn(dingo.testing.context(attempt=3), 5) == 15

    def test_it_is_detached_by_default(self):
        context = dingo.testing.context()
        assert (context.attempt, context.cancelled, context.headers, context.state) == (1, False, {}, None)

    def test_an_unknown_field_is_refused(self):
        with pytest.raises(TypeError, match="atempt"):
            dingo.testing.context(atempt=3)
