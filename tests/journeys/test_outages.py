"""A broker that goes away: told once, waited for as the policy says, and given up."""

import subprocess
import sys
import time

import pytest
from servers import free_port

import dingo
from dingo import Level
from dingo.bridge.memory import MemoryProducer, MemoryStore, MemoryWorker, Wire
from dingo.bridge.outage import Outage
from dingo.config import Reconnect

PATIENCE = 30.0


class Breaking:
    """Makes the components of a wire fail on demand."""

    down = False

    def of(self, component):
        for name in ("open", "send", "collect", "fetch", "claim", "settle"):
            method = getattr(component, name, None)
            if method is not None:
                setattr(component, name, self._broken(method))
        return component

    def _broken(self, method):
        def call(*args):
            if self.down:
                raise dingo.BrokerUnavailable("it is down")
            return method(*args)

        return call


@pytest.fixture
def breaking():
    return Breaking()


def make(breaking, *, send_timeout_seconds=60.0, **reconnect):
    wire = Wire()
    policy = Reconnect(base=0.01, cap=0.02, **reconnect)
    config = dingo.Config(workers=1, reconnect=policy, send_timeout_seconds=send_timeout_seconds)
    app = dingo.App("local", config=config)
    app.use(*map(breaking.of, (MemoryProducer(wire), MemoryStore(wire), MemoryWorker(wire))))
    app.register("double", lambda number: number * 2)
    return app


def codes(events, code):
    """Return the code of every event until one of that code has come, which is in it."""
    seen = []
    while code not in seen:
        event = events.get(PATIENCE)
        if event.code.startswith("connection"):
            seen.append(event.code)
    return seen


def test_an_app_whose_broker_is_away_at_its_first_use_takes_calls_and_sends_them_when_it_is_there(breaking):
    breaking.down = True
    app = make(breaking)
    events = app.listen()
    with app:
        result = app.call("double", 1)
        assert [codes(events, "connection.lost") for _ in range(2)] == [["connection.lost"]] * 2
        with pytest.raises(dingo.BrokerUnavailable):
            app.result("1", "double")
        breaking.down = False
        assert result.wait(PATIENCE, until=dingo.Status.SENT)
        app.start_worker()
        assert result.result(PATIENCE) == 2


def test_a_call_that_finds_no_broker_in_time_ends_not_sent_also_where_there_never_was_one(breaking):
    breaking.down = True
    with make(breaking, send_timeout_seconds=0.2) as app:
        failure = app.call("double", 1).exception(PATIENCE).failure
        assert (failure.code, failure.type) == ("NOT_SENT", "BrokerUnavailable")
        with pytest.raises(dingo.BrokerUnavailable, match="it is down"):
            app.options(confirm=True).call("double", 1)


def test_calls_that_nobody_waits_for_are_told_of_when_they_are_not_sent(breaking):
    breaking.down = True
    app = make(breaking, send_timeout_seconds=0.2)
    events = app.listen(level=Level.ERROR)
    with app:
        app.options(ignore_report=True).call("double", 1)
        event = events.get(PATIENCE)
        assert (event.code, event.payload["calls"]) == ("calls.lost", 1)


def test_an_app_that_closes_without_its_broker_says_how_much_it_has_not_sent(breaking):
    breaking.down = True
    app = make(breaking)
    events = app.listen(level=Level.ERROR)
    results = [app.call("double", number) for number in range(3)]
    app.close(0.2)
    assert {result.exception(PATIENCE).failure.code for result in results} <= {"NOT_SENT", "SHUTDOWN"}
    assert sum(event.payload["calls"] for event in events if event.code == "calls.lost") == 3


class Late(MemoryProducer):
    """It knows that a call was sent when that has ended already."""

    def send(self, envelopes):
        super().send(envelopes)
        assert self.app.result("1").wait(PATIENCE)


def test_a_confirmed_call_that_has_failed_already_is_confirmed_all_the_same():
    wire, app = Wire(), dingo.App("local")
    producer = Late(wire)
    producer.app = app
    app.use(producer, MemoryStore(wire), MemoryWorker(wire))
    app.register("boom", lambda: 1 / 0)
    with app:
        app.start_worker()
        assert app.options(id="1", confirm=True).call("boom").exception(PATIENCE).failure.code == "EXCEPTION"


@pytest.mark.parametrize("policy", ["fixed", "exponential", "fibonacci"])
def test_an_outage_is_told_once_and_everything_goes_on_after_it(breaking, policy):
    with make(breaking, policy=policy) as app:
        app.start_worker()
        assert app.call("double", 1).result(PATIENCE) == 2
        events = app.listen(level=Level.INFO)
        breaking.down = True
        results = [app.call("double", number) for number in range(3)]
        assert [codes(events, "connection.lost") for _ in range(3)] == [["connection.lost"]] * 3  # each side has one
        breaking.down = False
        assert [result.result(PATIENCE) for result in results] == [0, 2, 4]
        assert [codes(events, "connection.restored") for _ in range(3)] == [["connection.restored"]] * 3


def test_calls_end_not_sent_when_the_broker_is_given_up_and_later_ones_are_sent_again(breaking):
    with make(breaking, policy="fixed", tries=2) as app:
        app.start_worker()
        app.call("double", 1).result(PATIENCE)
        events = app.listen(dingo.Origin.PRODUCER, Level.ERROR)
        breaking.down = True
        failure = app.call("double", 1).exception(PATIENCE).failure
        assert (failure.code, failure.type) == ("NOT_SENT", "BrokerUnavailable")
        given_up = events.get(PATIENCE)
        assert (given_up.code, given_up.payload["tries"]) == ("connection.given_up", 2)
        assert app.call("double", 1).exception(PATIENCE).failure.code == "NOT_SENT"  # at once now
        breaking.down = False
        result = app.call("double", 1)
        assert result.wait(PATIENCE, until=dingo.Status.SENT)


def test_callers_of_calls_that_were_sent_wait_no_longer_when_the_backend_is_given_up(breaking):
    with make(breaking, policy="fixed", tries=1) as app:
        result = app.call("double", 1)
        assert result.wait(PATIENCE, until=dingo.Status.SENT)
        breaking.down = True
        failure = result.exception(PATIENCE).failure
        assert (failure.code, failure.type) == ("SHUTDOWN", "BrokerUnavailable")
        assert "app.result(id)" in failure.message


def test_a_worker_that_gives_its_broker_up_serves_no_more(breaking):
    with make(breaking, policy="fixed", tries=1) as app:
        app.start_worker()
        events = app.listen(dingo.Origin.CONSUMER, Level.ERROR)
        breaking.down = True
        assert events.get(PATIENCE).code == "connection.given_up"
        until = time.monotonic() + PATIENCE
        while not app.gave_up:
            assert time.monotonic() < until
        breaking.down = False


def test_the_waits_of_an_outage_follow_the_policy():
    told = []
    outage = Outage(lambda level, code, message, payload: told.append(code), "it")
    policy = Reconnect(policy="fibonacci", base=1.0, cap=4.0, jitter=False, tries=5)
    assert [outage.failed(OSError(), policy) for _ in range(5)] == [1.0, 2.0, 3.0, 4.0, 4.0]
    assert [outage.failed(OSError(), policy) for _ in range(2)] == [None, None]
    assert told == ["connection.lost", "connection.given_up"]
    outage.over()
    outage.over()
    assert told[2:] == ["connection.restored"]
    assert outage.failed(OSError(), policy) == 1.0


TASKS = """
import dingo
app = dingo.App(config=dingo.Config(reconnect="fixed,tries=2,base=0.05,jitter=false", connect_timeout_seconds=1.0))
app.register("double", lambda number: number * 2)
"""


def worker(place, url):
    (place / "shop.py").write_text(TASKS)
    return subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "shop:app", "--broker", url],
        cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_worker_whose_server_goes_away_for_good_exits_with_1(own_redis, tmp_path):
    server = own_redis()
    process = worker(tmp_path, server.url)
    assert process.stdout.readline().startswith("ready ")
    server.kill()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "given up after 2 tries" in said


@pytest.mark.parametrize("scheme", ["redis", "amqp", "sqlite"])
def test_a_server_that_is_not_there_is_told_at_once_and_the_worker_exits_with_3(tmp_path, scheme):
    port = free_port()
    url = f"{scheme}://user:hunter2@127.0.0.1:{port}/0" if scheme != "sqlite" else "sqlite:////proc/nosuch/jobs.db"
    process = worker(tmp_path, url)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 3
    assert "the broker cannot be reached" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_server_that_says_nothing_is_given_up_within_the_connect_timeout(tmp_path, scheme):
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        full = [socket.socket() for _ in range(3)]  # whose queue is full, so that not even the connection is made
        for one in full:
            one.setblocking(False)
            one.connect_ex(silent.getsockname())
        process = worker(tmp_path, f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
        began = time.monotonic()
        said = process.communicate(timeout=PATIENCE)[1]
        for one in full:
            one.close()
    assert process.returncode == 3, said
    assert time.monotonic() - began < PATIENCE
