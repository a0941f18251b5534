"""A RabbitMQ that does not answer: noticed in bounded time, told, and over when it answers again."""

import itertools
import socket
import threading

import pytest
from proxy import DeafProxy

import dingo
from dingo.config import Reconnect
from dingo.kombu import amqp, checkups

PATIENCE = 60.0
# What the server answers with.
OPENED, DECLARED, CONSUMED, CONFIRMED, FLOWS, CLOSED = (20, 11), (50, 11), (60, 21), (60, 80), (20, 21), (10, 51)
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Answers have to come within a second, not fifteen."""
    for module in (amqp.connection, amqp.wire, amqp.link, amqp.worker):
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    monkeypatch.setattr(amqp.wire, "ASK", 0.5)


@pytest.fixture
def proxy(amqp_node):
    proxy = DeafProxy(amqp_node.port)
    yield proxy
    proxy.close()


@pytest.fixture
def make(amqp_node, proxy):
    """Make apps behind the proxy that share a queue; the server says every half second that it lives."""
    apps, queue = [], f"silence{next(_numbers)}"

    def make(**config):
        config = {"lease_seconds": 3.0, "reconnect": Reconnect.of("fixed,base=0.1"), "workers": 2, **config}
        app = dingo.App(proxy.url(amqp_node.url), config=dingo.Config(queue=queue, **config))
        app.register("double", lambda number: number * 2)
        apps.append(app)
        return app

    yield make
    proxy.open()
    for app in apps:
        app.close(10)


def await_event(events, code):
    """Return the next event of that code."""
    while (event := events.get(PATIENCE)).code != code:
        pass
    return event


@pytest.mark.parametrize("lost", [DECLARED, CONSUMED])
def test_a_worker_whose_queues_get_no_answer_comes_back_when_they_do(make, proxy, lost):
    app = make()
    events = app.listen(dingo.Origin.CONSUMER, dingo.Level.INFO)
    proxy.swallow(lost)
    app.start_worker()
    assert "does not answer for queue 'dingo.silence" in await_event(events, "connection.lost").message
    proxy.open()
    await_event(events, "connection.restored")
    assert app.call("double", 2).result(PATIENCE) == 4


def test_a_worker_that_waits_notices_a_channel_that_hangs_though_heartbeats_go_on(make, proxy):
    app = make()
    app.start_worker()
    assert app.call("double", 1).result(PATIENCE) == 2
    events = app.listen(dingo.Origin.CONSUMER, dingo.Level.INFO)
    proxy.swallow(FLOWS)
    assert "does not answer on its channel" in await_event(events, "connection.lost").message
    proxy.open()
    await_event(events, "connection.restored")
    assert app.call("double", 2).result(PATIENCE) == 4


def test_all_sides_notice_that_nothing_but_heartbeats_comes(make, proxy):
    app = make()
    app.start_worker()
    assert app.call("double", 1).result(PATIENCE) == 2
    events = app.listen(level=dingo.Level.INFO)
    proxy.swallow()
    result = app.call("double", 2)
    what = {await_event(events, "connection.lost").message.partition(" has stopped")[0] for _ in range(3)}
    assert what == {"sending calls", "collecting reports", "serving"}
    proxy.open()
    assert result.result(PATIENCE) == 4


def test_a_worker_with_a_long_lease_notices_a_black_hole_no_later(make, proxy):
    app = make(lease_seconds=3600.0)
    app.start_worker()
    assert app.call("double", 1).result(PATIENCE) == 2
    events = app.listen(dingo.Origin.CONSUMER, dingo.Level.INFO)
    proxy.hold()
    await_event(events, "connection.lost")
    proxy.open()
    await_event(events, "connection.restored")


@pytest.mark.parametrize("lost", [DECLARED, CONFIRMED])
def test_calls_whose_sending_gets_no_answer_end_not_sent_and_later_ones_are_sent(make, proxy, lost):
    app = make(send_timeout_seconds=2.0)
    proxy.swallow(lost)
    failure = app.call("double", 1).exception(PATIENCE).failure
    assert (failure.code, failure.type) == ("NOT_SENT", "BrokerUnavailable" if lost == DECLARED else "SendUncertain")
    proxy.open()
    assert app.call("double", 2).wait(PATIENCE, until=dingo.Status.SENT)


def closing():
    return [one for one in threading.enumerate() if one.name == "dingo-close"]


@pytest.mark.parametrize("lost", [(), (CLOSED,)])
def test_an_app_is_closed_though_no_answer_comes(make, proxy, lost):
    app = make()
    app.start_worker()
    assert app.call("double", 1).result(PATIENCE) == 2
    proxy.swallow(*lost)
    app.call("double", 2)
    app.close(1)
    for one in closing():
        one.join(PATIENCE)
    assert closing() == []


def test_workers_that_are_the_first_in_a_quorum_queue_at_once_serve_it(amqp_node):
    """RabbitMQ 3.10 fails who consumes from one that another connection is about to make."""
    for _ in range(10):
        config = dingo.Config(queue=f"silence{next(_numbers)}", reconnect=Reconnect.of("fixed,base=0.05"))
        apps = [dingo.App(f"{amqp_node.url}?queue_type=quorum", config=config) for _ in range(3)]
        for app in apps:
            app.register("double", lambda number: number * 2)
        starts = [threading.Thread(target=app.start_worker) for app in apps[:2]]
        for one in starts:
            one.start()
        assert [one.result(PATIENCE) for one in apps[2].call_many("double", [(1,), (2,), (3,)])] == [2, 4, 6]
        for one in starts:
            one.join()
        for app in apps:
            app.close(10)


@pytest.fixture
def dumb():
    """A server that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_a_server_that_takes_connections_and_says_nothing_is_given_up_in_time(dumb, scheme):
    worker = amqp.AmqpWorker(f"{scheme}://127.0.0.1:{dumb}/?connect_timeout=0.5", 30.0)
    with pytest.raises(dingo.BrokerUnavailable):
        worker.open(lambda *_event: None)
    worker.close()


@pytest.mark.parametrize("lost", [(OPENED,), ()])
def test_the_doctor_is_told_that_no_answer_comes(amqp_node, proxy, lost):
    proxy.swallow(*lost)
    with pytest.raises(dingo.BrokerUnavailable, match="does not answer|timed out"):
        list(checkups.checkup(proxy.url(amqp_node.url), dingo.Config(connect_timeout_seconds=0.5), ["default"]))
