"""Context: what a task knows and what it can say."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import threading
from typing import TYPE_CHECKING, Any

import pytest

import dingo
from dingo import Context, Status, current

if TYPE_CHECKING:
    from dingo import Context as CheckedOnly


def test_every_field_is_there(app):
    seen = {}

    @app.task(retry=2, timeout=60, headers={"trace": "t1"}, queue="slow")
    def job(context: Context, a: int) -> int:
        for name in ("id", "name", "attempt", "retries_left", "headers", "queue", "eta", "deadline", "cancelled",
                     "previous", "errors", "state"):  # fmt: skip
            seen[name] = getattr(context, name)
        return a

    result = job.options(id="call-1").call(3)
    assert result.result(10) == 3
    deadline = seen.pop("deadline")
    assert deadline.utcoffset() == datetime.timedelta(0)
    assert deadline > datetime.datetime.now(datetime.UTC)
    assert seen == {
        "id": "call-1", "name": "job", "attempt": 1, "retries_left": 2, "headers": {"trace": "t1"}, "queue": "slow",
        "eta": None, "cancelled": False, "previous": None, "errors": (), "state": None,
    }  # fmt: skip


def test_a_plain_task_has_a_context_too(app):
    @app.task
    def job(context: Context) -> tuple:
        return (context.id, context.name, context.attempt, context.retries_left, context.queue, context.deadline)

    result = job.call()
    assert result.result(10) == (result.id, "job", 1, 0, "default", None)


def test_the_context_is_injected_under_a_string_annotation_and_one_for_the_checker_only(app):
    @app.task
    def quoted(context: "Context", a: int) -> tuple:  # noqa: UP037
        return (context.name, a)

    @app.task
    def dotted(context: dingo.Context, a: int) -> tuple:
        return (context.name, a)

    assert quoted.call(1).result(10) == ("quoted", 1)
    assert dotted.call(1).result(10) == ("dotted", 1)


def test_a_context_known_to_the_type_checker_alone_is_given_by_types(app):
    def job(context: CheckedOnly, a: int) -> tuple:
        return (context.name, a)

    app.register("job", job, types={"CheckedOnly": Context})
    assert app.call("job", 1).result(10) == ("job", 1)


def test_a_first_parameter_of_any_type_stays_an_argument(app):
    @app.task
    def any_first(a: Any, b: int) -> tuple:
        return (a, b)

    @app.task
    def object_first(a: object, b: int) -> tuple:
        return (a, b)

    assert any_first.call("x", 1).result(10) == ("x", 1)
    assert object_first.call("x", 1).result(10) == ("x", 1)
    with pytest.raises(dingo.BadArguments):
        any_first.call(1)


def test_a_context_that_is_not_first_is_an_argument_like_any_other(app):
    @app.task
    def job(a: int, context: Context | None = None) -> bool:
        return context is None

    assert job.call(1).result(10) is True


def test_the_context_is_not_part_of_the_call(app):
    @app.task
    def job(context: Context, a: int) -> int:
        return a

    with pytest.raises(dingo.BadArguments, match="'b'"):
        job.call(1, b=2)
    assert job.call(a=5).result(10) == 5


class TestCurrent:
    def test_it_is_detached_outside_of_any_call(self):
        context = current()
        assert (context.id, context.name, context.attempt, context.cancelled) == ("", "", 1, False)
        context.progress(1)
        context.save(2)

    def test_it_is_the_call_s_in_a_thread(self, app):
        @app.task
        def job() -> str:
            return current().id

        result = job.call()
        assert result.result(10) == result.id

    def test_it_is_each_one_s_own_on_a_loop(self, app):
        @app.task
        async def job(number: int) -> tuple:
            before = current().id
            await asyncio.sleep(0.001 * (number % 3))
            inner = await asyncio.create_task(self.ask())
            return (before, current().id, inner)

        results = [job.call(number) for number in range(20)]
        for result in results:
            assert result.result(10) == (result.id,) * 3

    @staticmethod
    async def ask():
        return current().id

    def test_it_is_the_outer_one_again_after_a_nested_call(self, single):
        @single.task
        def child() -> str:
            return current().name

        @single.task
        def parent() -> tuple:
            return (current().name, child.call().result(), current().name)

        assert parent.call().result(10) == ("parent", "child", "parent")

    def test_a_direct_call_of_a_task_has_a_detached_one(self, app):
        @app.task
        def job(context: Context, a: int) -> tuple:
            context.progress(1)
            return (context.name, context.attempt, a)

        assert job(5) == ("", 1, 5)

    def test_a_direct_call_inside_a_task_has_that_one_s(self, app):
        @app.task
        def inner(context: Context) -> str:
            return context.name

        @app.task
        def outer() -> str:
            return inner()

        assert outer.call().result(10) == "outer"

    def test_an_async_task_called_directly_is_a_coroutine(self, app):
        @app.task
        async def job(context: Context, a: int) -> tuple:
            return (context.name, a)

        assert asyncio.run(job(5)) == ("", 5)


class TestProgress:
    def test_all_of_it_comes_in_order_with_monitor_progress(self, app):
        @app.task(monitor_progress=True)
        def job(context: Context) -> None:
            for number in range(100):
                context.progress(number, 100, f"step {number}")

        reports = [report for report in job.call().reports() if report.status is Status.PROGRESS]
        assert [(one.progress.done, one.progress.total, one.progress.message) for one in reports] == [
            (number, 100, f"step {number}") for number in range(100)
        ]

    @pytest.mark.parametrize("ending", ["returns", "raises"])
    @pytest.mark.parametrize("way", ["injected", "current", "async", "retrying", "listened"])
    def test_without_it_few_come_but_the_last_always_does_before_the_end(self, app, way, ending):
        def work(context):
            for number in range(50):
                context.progress(number)
            if ending == "raises":
                raise ValueError

        def injected(context: Context) -> None:
            work(context)

        def by_current() -> None:
            work(current())

        async def on_loop(context: Context) -> None:
            work(context)

        if way == "listened":
            app.listen(level=dingo.Level.DEBUG)
        fn = {"current": by_current, "async": on_loop, "listened": by_current}.get(way, injected)
        app.register("job", fn, retry=dingo.Retry(max=1, base=0) if way == "retrying" else 0)
        result = app.call("job")
        told = []
        result.on_progress(lambda report: told.append(report.progress.done))
        reports = list(result.reports())
        dones = [report.progress.done for report in reports if report.status is Status.PROGRESS]
        assert dones[-1] == 49
        assert dones == sorted(dones) or way == "retrying"
        assert len(dones) < 10
        assert reports[-1].final
        assert all(report.time > 1e9 for report in reports)
        late = [report.progress.done for report in result.reports() if report.status is Status.PROGRESS]
        assert late == dones
        app.close(timeout=10)
        assert told == dones

    def test_the_newest_of_each_tenth_of_a_second_travels(self, app, gate):
        going = threading.Event()

        @app.task
        def job(context: Context) -> None:
            for number in range(20):
                context.progress(number)
            going.set()
            gate.wait(10)

        result = job.call()
        assert going.wait(10)
        with contextlib.closing(result.reports()) as reports:
            assert reports.get(10).progress.done == 0
            assert reports.get(10).progress.done == 19

    def test_on_progress_is_told_each_time_and_of_those_before(self, app, gate):
        going = threading.Event()

        @app.task(monitor_progress=True)
        def job(context: Context) -> None:
            context.progress(1)
            going.set()
            gate.wait(10)
            context.progress(2)

        result = job.call()
        assert going.wait(10)
        told = []
        assert result.on_progress(lambda report: told.append(report.progress.done)) is result
        gate.set()
        result.result(10)
        app.close(timeout=10)
        assert told == [1, 2]

    def test_it_does_nothing_after_the_end(self, app):
        contexts = []

        @app.task
        def job(context: Context) -> None:
            contexts.append(context)

        result = job.call()
        result.result(10)
        contexts[0].progress(1)
        contexts[0].save(1)
        assert result.saved is None
        assert [report.status for report in result.reports()] == [Status.SUCCESS]


class TestSave:
    def test_what_is_saved_can_be_read_while_it_runs_and_after(self, app, gate):
        saved = threading.Event()

        @app.task
        def job(context: Context) -> str:
            context.save({"at": 1})
            context.save({"at": 2})
            saved.set()
            gate.wait(10)
            return "done"

        result = job.call()
        assert result.saved is None or result.saved["at"] in (1, 2)
        assert saved.wait(10)
        assert result.saved == {"at": 2}
        gate.set()
        assert result.result(10) == "done"
        assert result.saved == {"at": 2}

    def test_it_is_reported_as_a_value(self, app):
        @app.task(monitor_progress=True)
        def job(context: Context) -> None:
            context.save("half")

        reports = [report for report in job.call().reports() if report.status is Status.PROGRESS]
        assert [(report.value, report.progress) for report in reports] == [("half", None)]

    def test_progress_that_follows_at_once_does_not_hide_it_from_saved(self, app):
        @app.task
        def job(context: Context) -> None:
            context.progress(0)
            context.save("kept")
            context.progress(1)

        result = job.call()
        result.result(10)
        assert result.saved == "kept"


def test_the_flag_is_set_when_a_running_call_is_cancelled(app):
    started, seen = threading.Event(), threading.Event()

    @app.task
    def job(context: Context) -> None:
        started.set()
        while not context.cancelled:
            threading.Event().wait(0.001)
        seen.set()

    result = job.call()
    assert started.wait(10)
    assert result.cancel()
    assert result.cancelled()
    assert seen.wait(10)


def test_eta_is_the_moment_the_call_was_not_to_run_before(app):
    @app.task
    def job(context: Context) -> datetime.datetime:
        return context.eta

    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    result = job.options(eta=moment).call()
    app._session.caller.timer.advance(3601)
    assert abs(result.result(10) - moment) < datetime.timedelta(milliseconds=1)


class TestState:
    def test_it_is_what_a_sync_lifespan_yields(self, app):
        log = []

        @app.lifespan
        @contextlib.contextmanager
        def life():
            log.append("in")
            yield {"db": 1}
            log.append("out")

        @app.task
        def job(context: Context) -> dict:
            return context.state

        with app:
            assert job.call().result(10) == {"db": 1}
            assert job.call().result(10) == {"db": 1}
            assert log == ["in"]
        assert log == ["in", "out"]

    def test_it_is_what_an_async_lifespan_yields_entered_and_left_on_one_loop(self, app):
        log = []

        @app.lifespan
        @contextlib.asynccontextmanager
        async def life():
            log.append(("in", asyncio.get_running_loop(), asyncio.current_task()))
            yield "pool"
            log.append(("out", asyncio.get_running_loop(), asyncio.current_task()))

        @app.task
        async def job(context: Context) -> str:
            log.append(("job", asyncio.get_running_loop()))
            return context.state

        @app.task
        def in_thread(context: Context) -> str:
            return context.state

        with app:
            assert job.call().result(10) == "pool"
            assert in_thread.call().result(10) == "pool"
        assert [entry[0] for entry in log] == ["in", "job", "out"]
        assert len({entry[1] for entry in log}) == 1
        assert log[0][2] is log[2][2]

    def test_tasks_have_it_to_the_end_of_closing(self, app, gate):
        log, started = [], threading.Event()

        @app.lifespan
        @contextlib.asynccontextmanager
        async def life():
            yield log
            log.append("out")

        @app.task
        def job(context: Context) -> None:
            started.set()
            gate.wait(10)
            context.state.append("job")

        @app.task
        async def ajob(context: Context) -> None:
            await asyncio.to_thread(gate.wait, 10)
            context.state.append("ajob")

        app.__enter__()
        results = [job.call(), ajob.call()]
        assert started.wait(10)
        closing = threading.Thread(target=app.close)
        closing.start()
        gate.set()
        closing.join(10)
        [result.result(0) for result in results]
        assert sorted(log[:2]) == ["ajob", "job"]
        assert log[2:] == ["out"]

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_an_error_on_entering_is_raised_to_who_opens_the_app_and_tells_what_it_is(self, app, kind):
        @contextlib.contextmanager
        def life():
            raise ConnectionError("no database")
            yield

        @contextlib.asynccontextmanager
        async def alife():
            raise ConnectionError("no database")
            yield

        app.lifespan(life if kind == "sync" else alife)
        app.register("job", lambda: None)
        for _ in range(2):
            with pytest.raises(ConnectionError, match="no database"):
                app.call("job")
        with pytest.raises(ConnectionError), app:
            pass

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_an_error_on_leaving_is_told_and_the_app_closes(self, app, kind):
        @contextlib.contextmanager
        def life():
            yield
            raise ConnectionError("lost")

        @contextlib.asynccontextmanager
        async def alife():
            yield
            raise ConnectionError("lost")

        app.lifespan(life if kind == "sync" else alife)
        app.register("job", lambda: 1)
        events = app.listen(level=dingo.Level.WARNING)
        assert app.call("job").result(10) == 1
        app.close(timeout=10)
        assert [(event.code, str(event.payload["error"])) for event in events] == [("lifespan.failed", "lost")]
