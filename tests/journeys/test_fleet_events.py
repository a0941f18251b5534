"""What workers say of themselves, heard at callers: over every broker that can carry it."""

import itertools
import os
import time

import pytest

import dingo
from dingo import Level, Origin
from dingo.bridge import heralding
from dingo.bridge.news import News, Seals, Wish, news_frames, plain
from dingo.kombu.heralds import amqp as heralds_amqp

PATIENCE = 30.0
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def without_faults(monkeypatch, caplog):
    """Both sides look more often than in earnest, and nothing fails inside."""
    monkeypatch.setattr(heralding, "LOOK", 0.2)
    monkeypatch.setattr(heralds_amqp, "ROLL_SECONDS", 1.5)
    yield
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


@pytest.fixture(params=["memory", "sqlite", "redis", "amqp"])
def url(request, tmp_path):
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.flush()
        return server.url
    if request.param == "amqp":
        node = request.getfixturevalue("amqp_node")
        node.delete(*(f"dingo.default.{priority}" for priority in range(10)))
        return node.url
    return f"memory://fleet-{next(_numbers)}" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.fixture
def caller(url):
    with dingo.App(url) as app:
        app.register("fail", fail)
        yield app


@pytest.fixture
def worker(url):
    with dingo.App(url, config=dingo.Config(workers=1)) as app:
        app.register("fail", fail)
        app.start_worker(name="w1")
        app.await_shown(PATIENCE)
        yield app


def heard(events, calls, code="task.failed"):
    """Make calls until an event comes: a worker needs a moment to know that somebody listens."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        calls()
        try:
            event = events.get(0.3)
        except TimeoutError:
            continue
        if event.code == code:
            return event
    raise AssertionError("no event came")


def test_a_caller_hears_what_happens_in_the_workers(worker, caller):
    events = caller.listen(level=Level.WARNING, fleet=True)
    event = heard(events, lambda: caller.call("fail", "why").wait(PATIENCE))
    assert (event.worker, event.level, event.origin) == ("w1", Level.WARNING, Origin.WORKER)
    assert event.payload["failure"]["message"] == "why"
    assert event.payload["name"] == "fail"
    assert "w1" in repr(event)
    assert abs(event.time - time.time()) < PATIENCE


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
def test_nobody_who_did_not_ask_hears_them_and_workers_listen_to_themselves_only_on_demand(worker, caller):
    deaf = caller.listen(level=Level.WARNING)
    assert worker.hub.floor > Level.ERROR
    events = caller.listen(level=Level.WARNING, fleet=True)
    heard(events, lambda: caller.call("fail", "why").wait(PATIENCE))
    assert worker.hub.floor == Level.WARNING
    events.close()
    until = time.monotonic() + PATIENCE
    while worker.hub.floor == Level.WARNING:
        assert time.monotonic() < until, "the worker goes on listening to itself"
        time.sleep(0.05)
    deaf.close()
    assert [event.worker for event in deaf if event.worker] == []


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
def test_the_widest_wish_counts_and_each_hears_what_it_asked_for(worker, caller):
    warnings = caller.listen(level=Level.WARNING, fleet=True)
    all_of_it = caller.listen(Origin.WORKER, Level.DEBUG, fleet=True)
    event = heard(all_of_it, lambda: caller.call("fail", "x").wait(PATIENCE), "call.finished")
    assert event.payload["status"] == "FAILURE"
    warnings.close()
    assert {event.level for event in warnings} <= {Level.WARNING, Level.ERROR}


def test_a_worker_can_be_seen_while_it_lives(url, caller):
    assert caller.workers() == []
    with dingo.App(url, config=dingo.Config(workers=3)) as app:
        app.register("fail", fail)
        app.start_worker(("a", "b"), "w2")
        app.await_shown(PATIENCE)
        (seen,) = caller.workers()
        assert (seen.name, seen.queues, seen.tasks, seen.workers, seen.busy) == ("w2", ("a", "b"), ("fail",), 3, 0)
    assert caller.workers() == []


@pytest.mark.parametrize("url", ["memory", "sqlite"], indirect=True)
def test_a_process_that_is_caller_and_worker_hears_each_event_once(url):
    with dingo.App(url, config=dingo.Config(workers=1)) as app:
        app.register("fail", fail)
        app.start_worker(name="both")
        events = app.listen(level=Level.WARNING, fleet=True)
        until = time.monotonic() + 3 * heralding.LOOK
        while time.monotonic() < until:  # until its own worker knows that it listens, and longer
            app.call("fail", "x").wait(PATIENCE)
            assert events.get(PATIENCE).worker == ""
        assert [event.worker for event in events if event.worker] == [] if app.close(PATIENCE) else True


def test_a_worker_tells_to_the_end(url, caller):
    events = caller.listen(level=Level.INFO, fleet=True)
    with dingo.App(url, config=dingo.Config(workers=1)) as app:
        app.register("fail", fail)
        app.start_worker(name="w3")
        heard(events, lambda: caller.call("fail", "x").wait(PATIENCE))
    until = time.monotonic() + PATIENCE
    while (event := events.get(PATIENCE)).code != "worker.stopped":
        assert time.monotonic() < until
    assert event.worker == "w3"


@pytest.mark.parametrize("url", ["redis", "amqp"], indirect=True)  # SQLite itself does not survive a fork
def test_the_child_of_a_fork_listens_for_itself(worker, caller):
    events = caller.listen(level=Level.WARNING, fleet=True)
    heard(events, lambda: caller.call("fail", "x").wait(PATIENCE))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = caller.listen(level=Level.WARNING, fleet=True)
            code = 0 if mine.get(PATIENCE).code == "task.failed" else 2
        finally:
            os._exit(code)
    until = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        assert time.monotonic() < until
        caller.call("fail", "x").wait(PATIENCE)
        time.sleep(0.1)
    assert os.waitstatus_to_exitcode(ended[1]) == 0
    while len(events):
        events.get(0)
    heard(events, lambda: caller.call("fail", "x").wait(PATIENCE))  # the parent's connection is unharmed


def test_hostile_bytes_are_refused_with_an_event_and_the_rest_is_heard(url, worker, caller, monkeypatch):
    events = caller.listen(level=Level.WARNING, fleet=True)
    heard(events, lambda: caller.call("fail", "x").wait(PATIENCE))
    stranger = dingo.kombu.herald(url)
    stranger.wish("stranger", b"[" * 100_000, 5.0)
    news = b'{"v":1,"k":"news","w":"x","s":"y","d":0,"e":[[]]}'
    hostile = iter([b"", b"{}", b"\xff", b"[" * 100_000, news])
    # RabbitMQ wants the queues of who listens, and only a worker knows them: so the worker itself tells nonsense
    monkeypatch.setattr(
        "dingo.bridge.heralding.news_frames", lambda *args: [next(hostile, None) or news_frames(*args)[0]]
    )
    event = heard(events, lambda: caller.call("fail", "x").wait(PATIENCE), "news.refused")
    assert "refused" in event.message
    heard(events, lambda: caller.call("fail", "again").wait(PATIENCE))
    assert worker.hub.floor == Level.WARNING
    stranger.close()


def test_a_local_app_is_its_own_fleet(app):
    app.register("fail", fail)
    events = app.listen(level=Level.WARNING, fleet=True)
    app.call("fail", "x").wait(PATIENCE)
    assert events.get(PATIENCE).code == "task.failed"
    with pytest.raises(dingo.NotAttached, match="Herald"):
        app.workers()


def test_components_without_a_herald_cannot_carry_events():
    app = dingo.App("local")
    app.use(dingo.bridge.memory.MemoryProducer(dingo.bridge.memory.Wire()))
    with pytest.raises(dingo.NotAttached, match="redis, amqp, sqlite"):
        app.listen(fleet=True)
    app.close()


class _Ugly:
    def __repr__(self):
        raise RuntimeError


def test_what_travels_is_small_plain_and_without_passwords():
    payload = {
        "error": ValueError("redis://u:secret@h/0"), "deep": [[[[[[1]]]]]], "many": list(range(10_000)),
        "ugly": _Ugly(),
        "text": "x" * 10_000, "status": dingo.Status.FAILURE, "big": 2**100, "nan": float("nan"),
        "raw": b"x" * 10_000_000,
        "failure": dingo.Failure(dingo.Code.EXCEPTION, "E", "m", "t" * 10_000), 5: "no text", "set": {1},
    }  # fmt: skip
    event = dingo.Event(Origin.WORKER, Level.INFO, 1.5, "a.code", "amqp://u:secret@h/", payload)
    (frame,) = news_frames("w", "s", 7, [event])
    assert len(frame) < 60_000
    assert b"secret" not in frame
    news = News.of(frame)
    assert (news.worker, news.source, news.dropped) == ("w", "s", 7)
    (told,) = news.events
    assert (told.origin, told.level, told.time, told.code) == (Origin.WORKER, Level.INFO, 1.5, "a.code")
    assert told.payload["error"] == {"type": "ValueError", "message": "redis://u:***@h/0"}
    assert told.payload["status"] == "FAILURE"
    assert told.payload["failure"]["code"] == "EXCEPTION"
    assert plain(None) is None


def test_many_large_events_travel_in_several_messages_that_can_all_be_read():
    events = [dingo.Event(Origin.WORKER, Level.INFO, 1.0, "c", "é" * 1000, ["ü" * 1000] * 30) for _ in range(50)]
    frames = news_frames("w", "s", 3, events)
    told = [News.of(frame) for frame in frames]
    assert len(frames) > 1
    assert sum(len(news.events) for news in told) == 50
    assert [news.dropped for news in told] == [3] + [0] * (len(frames) - 1)


@pytest.mark.parametrize("data", [
    b"", b"{", b"[" * 100_000, b"null", b"{}", b'{"v":1,"k":"card"}', b'{"v":2,"k":"news"}',
    b'{"v":1,"k":"news","w":1}', b'{"v":1,"k":"news","w":"w","s":"s","d":0}',
    b'{"v":1,"k":"news","w":"w","s":"s","d":0,"e":[[1,17,0,"c","m",null]]}',
    b'{"v":1,"k":"news","w":"w","s":"s","d":0,"e":[[1,20,1e999,"c",5,null]]}',
])  # fmt: skip
def test_news_that_are_none_are_refused(data):
    with pytest.raises(dingo.BadMessage):
        News.of(data)


def test_with_keys_only_what_is_signed_is_heard_seen_and_heeded():
    url = f"memory://fleet-{next(_numbers)}"
    secret, other = dingo.Config(signing_keys=["a" * 32]), dingo.Config(signing_keys=["b" * 32])
    with dingo.App(url, config=secret) as worker, dingo.App(url, config=secret) as friend, dingo.App(url) as plain:
        with dingo.App(url, config=other) as foe:
            for app in (worker, friend):
                app.register("fail", fail)
            alarms = worker.listen(level=Level.WARNING)
            worker.start_worker(name="w")
            worker.await_shown(PATIENCE)
            nothing = [app.listen(level=Level.DEBUG, fleet=True) for app in (plain, foe)]
            while (event := alarms.get(PATIENCE)).code != "wish.refused":
                pass
            assert "wish" in event.message
            alarms.close()
            assert worker.hub.floor > Level.ERROR  # it does not listen to itself for those
            assert [one.name for one in friend.workers()] == ["w"]
            assert foe.workers() == []
            events = friend.listen(level=Level.WARNING, fleet=True)
            heard(events, lambda: friend.call("fail", "x").wait(PATIENCE))
            while nothing[1].get(PATIENCE).code != "news.refused":
                pass


def test_what_is_too_large_is_refused_before_anything_else():
    with pytest.raises(dingo.BadMessage, match="bytes"):
        Seals(()).open("news", b" " * 600_000)


@pytest.mark.parametrize("data", [b"", b'{"v":1,"k":"wish","o":"all","l":20}', b'{"v":1,"k":"wish","o":255}'])
def test_a_wish_that_is_none_is_refused(data):
    with pytest.raises(dingo.BadMessage):
        Wish.of(data)


def test_a_broker_of_kombus_own_carries_no_events_but_the_backend_beside_it_may(tmp_path):
    with dingo.App(f"filesystem://{tmp_path}/queues") as app:
        with pytest.raises(dingo.NotAttached, match="as broker or as backend"):
            app.listen(fleet=True)
        with pytest.raises(dingo.NotAttached, match="Herald"):
            app.workers()
    with dingo.App(f"filesystem://{tmp_path}/queues", backend=f"sqlite:///{tmp_path}/results.db") as app:
        app.listen(fleet=True)
        assert app.workers() == []
