"""The same app over a broker: caller and worker in one process, so that every step can be seen."""

import asyncio
import itertools
import os
import signal
import threading
import time

import pytest

import dingo
from dingo import Status, kombu
from dingo.bridge import refusing, serving
from dingo.bridge.memory import MemoryNamedWorker, MemoryProducer, MemoryStore, MemoryWorker, Wire
from dingo.contracts import Envelope

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def looked_for_often(monkeypatch):
    """A worker asks often what it is to stop, and looks early at what it parked."""
    monkeypatch.setattr(serving, "TEND", 0.05)
    monkeypatch.setattr(refusing, "PARK_FIRST", 0.1)


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request, tmp_path):
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.flush()
        return server.url
    return f"memory://journey-{next(_numbers)}" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"


@pytest.fixture
def app(url):
    app = dingo.App(url, config=dingo.Config(workers=4, send_timeout_seconds=10.0))

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    @app.task
    def boom(text: str) -> None:
        raise ValueError(text)

    @app.task
    def tell(context: dingo.Context, steps: int) -> int:
        for step in range(steps):
            context.progress(step + 1, steps)
        context.save({"steps": steps})
        return steps

    @app.task(retry=dingo.Retry(max=2, base=0.01))
    def flaky(context: dingo.Context) -> list[str]:
        if context.attempt < 3:
            raise OSError(f"attempt {context.attempt}")
        return [failure.message for failure in context.errors]

    @app.task
    async def forever() -> None:
        await asyncio.Event().wait()

    yield app
    app.close(5)


@pytest.fixture
def served(app):
    app.start_worker()
    return app


def test_a_value_comes_back(served):
    assert served.call("add", 2, 3).result(10) == 5


def test_wrong_arguments_are_refused_at_the_call(app):
    with pytest.raises(dingo.BadArguments, match="argument 'b'"):
        app.call("add", 1, "2")


def test_a_calling_app_does_not_become_a_worker_by_itself(app):
    result = app.call("add", 1, 1)
    assert app.flush(10)
    assert [(one.id, one.name) for one in app.pending()] == [(result.id, "add")]


def test_a_failure_comes_back_with_its_type_message_and_traceback(served):
    with pytest.raises(dingo.TaskFailed) as caught:
        served.call("boom", "no").result(10)
    failure = caught.value.failure
    assert (failure.code, failure.type, failure.message) == ("EXCEPTION", "ValueError", "no")
    assert "raise ValueError(text)" in failure.traceback


def test_all_reports_of_a_monitored_call_come_in_order(served):
    result = served.options(monitor_progress=True).call("tell", 2)
    statuses = [report.status for report in result.reports()]
    assert statuses == [
        Status.SENT, Status.RECEIVED, Status.STARTED, Status.PROGRESS, Status.PROGRESS, Status.PROGRESS, Status.SUCCESS,
    ]  # fmt: skip


def test_what_a_task_saves_can_be_read(served):
    result = served.call("tell", 1)
    result.result(10)
    assert result.saved == {"steps": 1}


def test_a_retry_is_held_by_the_broker_and_knows_the_attempts_before(served):
    assert served.call("flaky").result(10) == ["attempt 1", "attempt 2"]


def test_a_delayed_call_does_not_run_early(served):
    due = time.time() + 0.3
    served.options(delay=0.3).call("add", 1, 1).result(10)
    assert time.time() >= due


def test_a_waiting_call_is_withdrawn(app):
    result = app.call("add", 1, 1)
    assert app.flush(10)
    assert result.cancel()
    with pytest.raises(dingo.Cancelled):
        result.result(10)
    assert app.pending() == []


def test_who_waits_for_what_another_process_purges_is_told(app, url):
    results = [app.call("add", 1, 1), app.options(delay=60).call("add", 1, 1)]
    assert app.flush(10)
    with dingo.App(url) as other:
        assert other.purge("default") == 2
    for result in results:
        with pytest.raises(dingo.Cancelled):
            result.result(10)
        assert app.result(result.id).status is Status.CANCELLED


def test_what_is_no_name_and_no_id_finds_and_purges_nothing(app):
    result = app.call("add", 1, 1)
    assert app.flush(10)
    with pytest.raises(dingo.BadOption, match="a queue is named by a text"):
        app.purge(None)
    with pytest.raises(dingo.ResultNotFound, match="ids are texts"):
        app.result(17)
    assert [one.id for one in app.pending()] == [result.id]


def test_a_listed_call_that_failed_says_how_and_after_how_many_attempts(served):
    served.options(retry=dingo.Retry(max=1, base=0.01)).call("boom", "no").wait(10)
    (failed,) = served.failed()
    assert (failed.status, failed.attempt, str(failed.failure)) == (Status.FAILURE, 2, "[EXCEPTION] ValueError: no")


def test_a_running_async_call_is_stopped_from_afar(served):
    result = served.options(monitor_progress=True).call("forever")
    assert result.wait(10, until=Status.STARTED)
    assert result.cancel()
    with pytest.raises(dingo.Cancelled):
        result.result(10)


def test_a_finished_call_is_found_again_by_its_id(served):
    first = served.call("add", 20, 22)
    first.result(10)
    assert served.result(first.id).result(10) == 42


def test_an_id_that_several_names_share_needs_the_name(app):
    app.register("other", lambda: "other")
    shared = app.options(id="shared")
    results = [shared.call("add", 1, 2), shared.call("other")]
    with pytest.raises(dingo.BadOption, match="'other' that has not ended"):
        shared.call("other")
    app.start_worker()
    assert [result.result(10) for result in results] == [3, "other"]
    again = [shared.call("other"), shared.call("add", 3, 4)]
    assert [result.result(10) for result in again] == ["other", 7]
    with dingo.App(app.broker) as another:
        for name in ("add", "other"):
            another.register(name, lambda: None)
        for ask in (another.result, another.forget):
            with pytest.raises(dingo.ResultNotFound, match=r"several tasks \(add, other\)"):
                ask("shared")
        assert another.result("shared", "other").result(10) == "other"
        another.forget("shared", "other")
        assert another.result("shared").result(10) in (3, 7)


def test_a_result_can_be_awaited(served):
    async def both():
        return await dingo.gather(served.call("add", 1, 2), served.call("add", 3, 4))

    assert asyncio.run(both()) == [3, 7]


def test_ignored_reports_do_not_travel(served):
    done = threading.Event()
    served.register("note", done.set)
    result = served.options(ignore_report=True).call("note")
    assert result.done()
    assert done.wait(10)
    with pytest.raises(dingo.ReportIgnored):
        result.result()


def test_many_calls_all_come_back_right(served):
    results = [served.call("add", number, number) for number in range(3000)]
    assert [result.result(30) for result in results] == [2 * number for number in range(3000)]


def test_a_task_of_another_program_waits_for_a_worker_that_knows_it(url):
    config = dingo.Config(workers=1)
    with dingo.App(url, config=config) as caller, dingo.App(url, config=config) as stranger:
        caller.register("known", lambda: "here")
        stranger.register("other", lambda: None)
        events = stranger.listen(level=dingo.Level.WARNING)
        stranger.start_worker()
        result = caller.call("known")
        assert events.get(10).code == "message.parked"
        with dingo.App(url, config=config) as worker:
            worker.register("known", lambda: "there")
            worker.start_worker()
            assert result.result(30) == "there"


def test_an_unknown_task_is_answered_when_nobody_has_taken_it_for_long(url):
    with (
        dingo.App(url) as caller,
        dingo.App(url, config=dingo.Config(unknown_task_seconds=0.0)) as worker,
    ):
        caller.register("nowhere", lambda: None)
        worker.start_worker()
        with pytest.raises(dingo.TaskFailed) as caught:
            caller.call("nowhere").result(10)
        assert caught.value.failure.code == "NOT_REGISTERED"


@pytest.mark.parametrize(
    "frame",
    [b"", b"no header", b"[]\n", b'{"v": "1"}\n', b'{"v": 1, "id": 5, "n": "add"}\n', b"[" * 100_000 + b"\n",
     b'{"v":1,"id":"x","n":"add","m":"json"}\n{not json', b'{"v":1,"id":"x","n":"add","o":{"retry":{"max":-1}}}\n[]'],
)  # fmt: skip
def test_a_hostile_message_is_refused_with_an_event_and_the_worker_goes_on(frame):
    wire = Wire()
    app = dingo.App()
    app.use(MemoryProducer(wire), MemoryStore(wire), MemoryWorker(wire))
    app.register("add", lambda a, b: a + b)
    with app:
        events = app.listen(level=dingo.Level.WARNING)
        MemoryProducer(wire).send([Envelope("default", "x", "add", frame)])
        app.start_worker()
        assert events.get(10).code == "message.refused"
        assert app.call("add", 1, 2).result(10) == 3


def test_with_a_named_consumer_each_worker_gets_only_what_it_has_registered():
    wire = Wire()
    caller, first, second = dingo.App(), dingo.App(), dingo.App()
    producer = MemoryProducer(wire)
    producer.named = True
    caller.use(producer, MemoryStore(wire))
    first.use(MemoryProducer(wire), MemoryNamedWorker(wire))
    second.use(MemoryProducer(wire), MemoryNamedWorker(wire))
    for app, name in ((caller, "one"), (caller, "two"), (first, "one"), (second, "two")):
        app.register(name, lambda: None)
    first.register("one", lambda: "first", replace=True)
    second.register("two", lambda: "second", replace=True)
    with caller, first, second:
        first.start_worker()
        second.start_worker()
        assert [caller.call(name).result(10) for name in ("one", "two")] == ["first", "second"]


def test_run_serves_the_queues_it_is_given_and_ends_when_the_app_is_closed():
    """In whatever thread: only the main thread can heed signals."""
    app = dingo.App(f"memory://journey-{next(_numbers)}")
    app.register("add", lambda a, b: a + b)
    serving = threading.Thread(target=app.run, args=(["mine=2"],), daemon=True)
    serving.start()
    other = app.call("add", 1, 1)
    assert app.options(queue="mine").call("add", 2, 3).result(20) == 5
    assert [info.queue for info in app.pending()] == ["default"]
    app.close(10)
    serving.join(20)
    assert not serving.is_alive()
    assert other.last.failure.code == "SHUTDOWN"
    with pytest.raises(dingo.BadConfig, match="queues must be a list"):
        dingo.App("memory://none").run("mine")


def test_when_run_returns_signals_do_what_they_did_before():
    app = dingo.App(f"memory://journey-{next(_numbers)}")
    app.register("end", lambda: (heeded.append(signal.getsignal(signal.SIGTERM)), os.kill(os.getpid(), signal.SIGTERM)))
    before, heeded = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)], []
    with dingo.App(app.broker) as caller:
        caller.register("end", lambda: None)
        caller.call("end")
        app.run()
    assert heeded[0] not in before
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


def test_an_app_without_a_producer_cannot_call():
    app = dingo.App()
    app.use(MemoryWorker(Wire()))
    app.register("add", lambda: None)
    with pytest.raises(dingo.NotAttached, match="no Producer"):
        app.call("add")


def test_results_may_go_by_another_backend_than_the_tasks(tmp_path):
    app = dingo.App(f"memory://journey-{next(_numbers)}", backend=f"sqlite:///{tmp_path}/results.db")
    app.register("add", lambda a, b: a + b)
    with app:
        app.start_worker()
        result = app.call("add", 20, 22)
        assert result.result(10) == 42
        assert app.result(result.id).result(10) == 42


def test_a_sent_call_is_cancelled_where_the_backend_does_not_know_it(tmp_path):
    app = dingo.App(f"memory://journey-{next(_numbers)}", backend=f"sqlite:///{tmp_path}/results.db")
    ran = []
    app.register("run", ran.append)
    with app:
        result = app.call("run", "cancelled")
        assert app.flush(10)
        assert result.cancel()
        assert result.status is dingo.Status.CANCELLED
        app.start_worker()
        app.call("run", "wanted").result(10)
    assert ran == ["wanted"]


def test_a_call_that_is_too_large_is_refused_at_the_call(url):
    with dingo.App(url, config=dingo.Config(max_message_bytes=10_000)) as app:
        app.register("size", len)
        with pytest.raises(dingo.BadArguments, match="max_message_bytes"):
            app.call("size", "x" * 20_000)


def test_pickle_is_not_taken_from_a_broker(url):
    with dingo.App(url) as app:
        app.register("size", len, marshaller="pickle")
        with pytest.raises(dingo.NotAttached, match="pickle"):
            app.call("size", "x")


@pytest.mark.parametrize("marshaller", ["pickle", "msgpack", "nosuch"])
def test_a_message_of_another_marshaller_is_refused(marshaller):
    wire = Wire()
    app = dingo.App()
    app.use(MemoryProducer(wire), MemoryStore(wire), MemoryWorker(wire))
    app.register("size", len, marshaller="pickle" if marshaller == "pickle" else "json")
    frame = b'{"v":1,"id":"x","n":"size","m":"%s"}\n\x80' % marshaller.encode()
    with app:
        events = app.listen(level=dingo.Level.WARNING)
        MemoryProducer(wire).send([Envelope("default", "x", "size", frame)])
        app.start_worker()
        assert events.get(10).code == "message.refused"


def test_a_message_that_is_too_large_is_refused_by_the_worker():
    wire = Wire()
    app = dingo.App(config=dingo.Config(max_message_bytes=10_000))
    app.use(MemoryProducer(wire), MemoryStore(wire), MemoryWorker(wire))
    with app:
        events = app.listen(level=dingo.Level.WARNING)
        MemoryProducer(wire).send([Envelope("default", "x", "size", b"0" * 10_000_000)])
        app.start_worker()
        assert "at most 10000" in events.get(10).message


def test_a_second_component_for_a_taken_role_is_refused_and_changes_nothing():
    wire = Wire()
    app = dingo.App()
    app.use(MemoryProducer(wire))
    with pytest.raises(dingo.AlreadyAttached, match="producer"):
        app.use(MemoryStore(wire), MemoryProducer(wire))
    app.use(MemoryStore(wire))


def test_an_object_without_a_role_is_refused():
    with pytest.raises(dingo.BadOption, match="no role"):
        dingo.App().use(object())


def test_what_was_accepted_locally_before_a_rewiring_is_finished_locally():
    wire, gate = Wire(), threading.Event()
    with dingo.App() as app:
        app.register("wait", gate.wait)
        before = app.call("wait", 10)
        app.use(MemoryProducer(wire), MemoryStore(wire), MemoryWorker(wire))
        after = app.call("wait", 10)
        gate.set()
        assert before.result(10) is True
        assert after.status < Status.STARTED


@pytest.mark.parametrize("url", [
    "nosuch://user:hunter2@host/", "redis://user:hunter2@[::1/0", "redis://user:hunter2@host/sessions",
    "redis://user:hunter2@host:port/0", "", 6379, b"redis://host",
])  # fmt: skip
def test_a_bad_url_raises_at_once_and_names_no_password(url):
    for make in (dingo.App, kombu.Producer, kombu.NamedConsumer, kombu.Broker, kombu.Reporter, kombu.Backend):
        with pytest.raises(dingo.BadConfig) as caught:
            make(url)
        assert "hunter2" not in str(caught.value)


def test_a_connection_of_which_one_role_is_taken_changes_nothing(tmp_path):
    url, app = f"sqlite:///{tmp_path}/jobs.db", dingo.App("local")
    app.use(kombu.Consumer(url))
    with pytest.raises(dingo.AlreadyAttached, match=rf"<Consumer {url}>"):
        app.connect("memory://other")
    assert (app.broker, repr(app)) == (None, "<App 'dingo' remote | consumer | idle | 0 tasks>")


def test_tasks_a_closing_worker_has_not_started_go_back(url):
    gate, started = threading.Event(), threading.Event()

    def hold():
        started.set()
        gate.wait(20)

    with dingo.App(url) as caller:
        for app in (caller, worker := dingo.App(url, config=dingo.Config(workers=1, prefetch=10))):
            app.register("hold", hold)
            app.register("quick", lambda: "done")
        worker.start_worker()
        caller.call("hold")
        assert started.wait(10)
        quick = caller.call("quick")
        assert caller.flush(10)
        closing = threading.Thread(target=worker.close)
        closing.start()
        with dingo.App(url, config=dingo.Config(workers=1)) as other:
            other.register("quick", lambda: "by another")
            other.register("hold", lambda: None)
            other.start_worker()
            assert quick.result(20) in ("done", "by another")
        gate.set()
        closing.join(20)
        assert not closing.is_alive()
