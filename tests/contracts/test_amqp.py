"""RabbitMQ keeps the contract, as far as a broker without a memory of single calls can."""

import contextlib
import os
import time

import amqp as stock
import pytest
from by_url import ByURL
from ground import SETTLED
from servers import free_port

from dingo import kombu
from dingo.contracts import Settlement, Verdict
from dingo.errors import BadConfig, BrokerUnavailable, SendUncertain
from dingo.kombu import amqp
from dingo.testing.suites import PATIENCE, BrokerSuite, envelope, report

TYPES = ("classic", "quorum")


@pytest.fixture(scope="module")
def node(rabbit_node):
    """A node with queues that have been there for long: see `SETTLED`."""
    for kind in TYPES:
        send(f"{rabbit_node.url}?queue_type={kind}", envelope("first", queue=f"settled-{kind}"))
    rabbit_node.settled_at = time.monotonic() + SETTLED
    return rabbit_node


def send(url, *tasks):
    producer = kombu.producer(url)
    producer.open(lambda *_args: None)
    try:
        producer.send(tasks)
    finally:
        producer.close()


def queues(*names):
    return [f"dingo.{name}.{priority}" for name in names for priority in range(10)]


def table(name, value):
    entry = bytes([len(name)]) + name + value
    return len(entry).to_bytes(4) + entry


class TestAmqp(BrokerSuite):
    looks_up = False

    @pytest.fixture(params=TYPES)
    def broker(self, request, node):
        node.delete(*queues("default", "other"), "dingo.reply.me", "dingo.reply.you")
        return ByURL(f"{node.url}?queue_type={request.param}")

    # -- what RabbitMQ does otherwise -----------------------------------------------------------------------------

    def test_a_task_sent_again_may_come_to_two_workers(self, parts):
        """Within one it counts once; for two there is the rule that the first final report wins."""
        producer, first, second = parts("producer"), parts("worker"), parts("worker")
        producer.send([envelope("1")])
        assert [one.envelope.id for one in self.claim(first, 1)] == ["1"]
        producer.send([envelope("1")])
        assert [one.envelope.id for one in self.claim(second)] == ["1"]

    # -- what only RabbitMQ needs -----------------------------------------------------------------------------------

    def test_what_is_due_in_days_moves_on_and_is_never_early(self, parts, monkeypatch):
        """Beyond the horizon a task waits in coarse steps."""
        monkeypatch.setattr(amqp.queues, "FINE_HORIZON", 0.3)
        due = time.time() + 1.2
        parts("producer").send([envelope("1", due=due, priority=9, reply="me")])
        delivery = self.claim(parts("worker"))[0]
        assert time.time() >= due
        assert (delivery.envelope.priority, delivery.envelope.reply, delivery.suspect) == (9, "me", False)

    def test_a_suspect_that_is_put_off_for_long_stays_one(self, parts, monkeypatch):
        """It moves on several times, and what is known of its starts with it."""
        monkeypatch.setattr(amqp.queues, "FINE_HORIZON", 0.3)
        parts("producer").send([envelope("1")])
        dead, worker = parts("worker"), parts("worker")
        (delivery,) = self.claim(dead)
        dead.starting(delivery)
        dead._drop()
        (delivery,) = self.claim(worker)
        due = time.time() + 1.2
        worker.settle([Settlement(delivery, Verdict.LATER, due=due)])
        (delivery,) = self.claim(worker)
        assert time.time() >= due
        assert (delivery.suspect, delivery.starts) == (True, 1)

    def test_a_start_of_what_went_with_a_connection_is_refused_and_counts_for_nothing(self, parts):
        """Others get the task: who starts it all the same, runs it a second time."""
        parts("producer").send([envelope("1")])
        worker = parts("worker")
        (delivery,) = self.claim(worker)
        worker._drop()
        with pytest.raises(BrokerUnavailable, match="others get"):
            worker.starting(delivery)
        (again,) = self.claim(parts("worker"))
        assert (delivery.starts, again.starts) == (0, 0)

    def test_what_is_known_of_consumers_goes_with_them(self, parts):
        """A worker that gives tasks back makes new ones, again and again."""
        parts("producer").send([envelope("1")])
        worker = parts("worker")
        for _ in range(3):
            worker.settle([Settlement(self.claim(worker)[0], Verdict.RETURN)])
        assert worker._consumers == {}

    def test_a_lost_connection_is_left_alone_in_the_child_of_a_fork(self, parts):
        """Whoever held it may hold it still: a claim does."""
        worker = parts("worker")
        link = worker._link
        assert link in amqp.wire._wires
        worker._drop()
        assert link not in amqp.wire._wires

    def test_a_task_that_is_held_long_is_delivered_anew_without_being_run_again(self, parts, monkeypatch):
        """RabbitMQ takes the channel from who holds a message for half an hour."""
        monkeypatch.setattr(amqp.probe, "RENEW_FIRST", 0.01)
        parts("producer").send([envelope("1", reply="me")])
        worker = parts("worker")
        (delivery,) = self.claim(worker)
        before = delivery.token.tag
        until = time.monotonic() + PATIENCE
        while delivery.token.tag == before and time.monotonic() < until:
            assert worker.claim(("default",), 10, 0.05) == []
        assert delivery.token.tag > before
        assert worker.settle([Settlement(delivery, Verdict.ACK, [report()])]) == []
        assert self.collect(parts("store"), 1) == [b"report of 1"]

    def test_a_start_outlives_the_worker_and_makes_a_suspect(self, parts, broker):
        """What was only claimed is a suspect without a start."""
        parts("producer").send([envelope("started"), envelope("claimed")])
        worker = broker.worker()
        worker.open(lambda *_args: None)
        first, _ = self.claim(worker)
        assert worker.starting(first) == 1
        worker._link._socket.close()  # as the system does when a process dies
        other, found = parts("worker"), {}
        while len(found) < 2:
            found |= {one.envelope.id: (one.suspect, one.starts) for one in self.claim(other)}
        assert found == {"started": (True, 1), "claimed": (True, 0)}
        worker._drop()
        worker.close()

    def test_a_suspect_that_is_handed_on_unstarted_stays_one(self, parts, broker):
        """Else what must not run twice could."""
        parts("producer").send([envelope("1")])
        for told in ((False, 0), (True, 1), (True, 1)):
            worker = broker.worker()
            worker.open(lambda *_args: None)
            (delivery,) = self.claim(worker)
            assert (delivery.suspect, delivery.starts) == told
            if not delivery.suspect:
                worker.starting(delivery)
                worker._drop()  # it dies while the task runs
            worker.close()  # otherwise it ends well, and gives back what it has
        (delivery,) = self.claim(parts("worker"))
        assert (delivery.suspect, delivery.starts) == (True, 1)

    def test_a_claim_survives_its_connection_when_the_task_comes_to_the_same_worker(self, parts):
        """It still runs here: nobody needs to run it again."""
        parts("producer").send([envelope("1", reply="me")])
        worker = parts("worker")
        (delivery,) = self.claim(worker)
        worker._link._socket.close()
        until = time.monotonic() + PATIENCE
        old = delivery.token.link
        while delivery.token.link is old and time.monotonic() < until:
            with contextlib.suppress(BrokerUnavailable):
                assert worker.claim(("default",), 10, 0.1) == []
        assert worker.settle([Settlement(delivery, Verdict.ACK, [report()])]) == []
        assert self.collect(parts("store"), 1) == [b"report of 1"]

    def test_what_is_settled_after_its_connection_is_gone_is_stale(self, parts):
        """The server has given it to another already."""
        parts("producer").send([envelope("1")])
        worker = parts("worker")
        (delivery,) = self.claim(worker)
        worker._drop()
        late = Settlement(delivery)
        assert worker.settle([late]) == [late]

    def test_what_comes_back_to_a_worker_after_an_outage_is_no_suspect(self, parts):
        """It went back with a connection: that says nothing of its worker."""
        parts("producer").send([envelope("1")])
        worker = parts("worker")
        (before,) = self.claim(worker)
        worker._drop()
        worker.settle([Settlement(before)])  # too late: what it claimed is somebody else's, or its own anew
        (again,) = self.claim(worker)
        assert (again.envelope.id, again.suspect) == (before.envelope.id, False)

    def test_what_was_fetched_in_vain_goes_to_another_worker(self, parts, broker, monkeypatch):
        """A worker that became slow does not keep others from working; nothing of it looks like a dead worker's.

        But what was on its way as the consumer was cancelled: a quorum queue takes that back by itself.
        """
        monkeypatch.setattr(amqp.worker, "SURPLUS_AFTER", 0.05)
        slow, other, ids = parts("worker"), parts("worker"), []
        assert slow.claim(("default",), 20, 0.0) == []  # it could run 20 at once
        parts("producer").send([envelope(str(number)) for number in range(20)])
        ids += [one.envelope.id for one in self.claim(slow, 1)]
        until = time.monotonic() + PATIENCE
        while len(ids) < 20 and time.monotonic() < until:
            assert slow.claim((), 0, 0.05) == []
            claimed = other.claim(("default",), 20, 0.1)
            assert "quorum" in broker.url or not any(one.suspect for one in claimed)
            ids += [one.envelope.id for one in claimed]
        assert sorted(ids, key=int) == [str(number) for number in range(20)]

    def test_a_queue_that_was_deleted_is_made_again_and_nothing_is_lost(self, node, parts):
        """The sender repeats what it could not send."""
        producer, worker = parts("producer"), parts("worker")
        producer.send([envelope("1")])
        node.delete("dingo.default.4")
        with pytest.raises((BrokerUnavailable, SendUncertain), match="deleted"):
            producer.send([envelope("2")])
        producer.send([envelope("2")])
        assert self.claim(worker)[0].envelope.id == "2"

    def test_what_was_confirmed_before_the_connection_broke_is_not_sent_again(self, node, parts):
        """Of a batch, part may have arrived."""
        producer = parts("producer")
        producer.send([envelope("0"), envelope("gone", queue="other")])
        node.delete("dingo.other.4")
        batch = [envelope("1"), envelope("2", queue="other"), envelope("3")]
        with pytest.raises((BrokerUnavailable, SendUncertain)):
            producer.send(batch)
        confirmed = {id for _, id in producer._confirmed}
        assert confirmed <= {"1", "3"}
        producer.send(batch)
        ids = []
        while {*ids} != {"0", "1", "2", "3"}:
            ids += [one.envelope.id for one in self.claim(parts("worker"), queues=("default", "other"))]
        assert all(ids.count(id) == 1 for id in confirmed)

    def test_a_message_of_nobody_knows_what_is_handed_on(self, node, parts):
        """What it is worth, the worker decides."""
        worker = parts("worker")
        worker.claim(("default",), 1, 0.0)
        connection = stock.Connection(f"127.0.0.1:{node.port}")
        connection.connect()
        headers = {"x-dingo-starts": "many", "x-dingo-due": -1, "other": [1, {"a": None}]}
        for _ in range(2):
            message = stock.Message(b"?", application_headers=headers, content_type="text/plain", priority=3)
            connection.channel().basic_publish(message, routing_key="dingo.default.4")
        seen = []
        while len(seen) < 2:
            seen += self.claim(worker)
        assert [(one.envelope.frame, one.starts) for one in seen] == [(b"?", 0)] * 2
        connection.close()

    @pytest.mark.parametrize("kind", ["time", "depth"])
    def test_headers_that_nobody_can_read_stop_no_worker(self, parts, kind):
        """A time that is in no calendar; tables in tables in tables."""
        value = b"T" + (1 << 63).to_bytes(8)
        for _ in range(3000 if kind == "depth" else 0):
            value = b"F" + table(b"deeper", value)
        flags = (1 << 13 | 1 << 12 | 1 << 7).to_bytes(2)
        properties = flags + table(b"x-dingo-starts", value) + b"\x02" + b"\x01x"
        worker = parts("worker")
        assert worker.claim(("default",), 1, 0.0) == []
        worker._link.publish([("dingo.default.4", properties, b"?")])
        (delivery,) = self.claim(worker)
        envelope = delivery.envelope
        assert (envelope.id, envelope.name, envelope.frame, delivery.starts) == ("", "", b"?", 0)

    @pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 3_000_000])
    def test_frames_of_any_size_arrive(self, parts, size):
        """Empty, just one AMQP frame, a little more, many."""
        task = envelope("x" * 200, name="ü" * 200)
        task.frame = os.urandom(size)
        parts("producer").send([task])
        (delivery,) = self.claim(parts("worker"))
        assert delivery.envelope.frame == task.frame
        assert (delivery.envelope.id, delivery.envelope.name) == (task.id, task.name)


def test_over_tls_large_batches_arrive_and_an_unknown_certificate_is_refused(node):
    """Whoever does not say which authority to trust gets the system's."""
    if not node.certificate.exists():
        pytest.skip("openssl is not installed: no certificate can be made")
    broker = ByURL(f"{node.tls_url}?cacertfile={node.certificate}")
    producer, worker = broker.producer(), broker.worker()
    for part in (producer, worker):
        part.open(lambda *_args: None)
    tasks = [envelope(str(number), queue="tls") for number in range(3000)]
    tasks[5].frame = os.urandom(2_000_000)
    producer.send(tasks)
    seen = []
    until = time.monotonic() + PATIENCE
    while len(seen) < 3000 and time.monotonic() < until:
        claimed = worker.claim(("tls",), 500, 1.0)
        worker.settle([Settlement(one) for one in claimed])
        seen += [(one.envelope.id, one.envelope.frame) for one in claimed]
    assert seen == [(one.id, one.frame) for one in tasks]
    producer.close()
    worker.close()
    stranger = kombu.worker(node.tls_url)
    with pytest.raises(BrokerUnavailable, match="certificate"):
        stranger.open(lambda *_args: None)
    stranger.close()


@pytest.mark.parametrize("there", TYPES)
def test_queues_that_are_there_are_taken_as_they_are(node, there):
    """Whoever does not say which type it has to be need not know."""
    node.delete(*queues("typed"))
    send(
        f"{node.url}?queue_type={there}", *(envelope(str(number), queue="typed", priority=number) for number in (1, 9))
    )
    send(node.url, *(envelope(str(number), queue="typed", priority=number) for number in (0, 4, 8)))
    worker = kombu.worker(node.url)
    worker.open(lambda *_args: None)
    seen, until = [], time.monotonic() + PATIENCE
    while len(seen) < 5 and time.monotonic() < until:
        seen += [one.envelope.id for one in worker.claim(("typed",), 10, 1.0)]
    assert seen == ["9", "8", "4", "1", "0"]
    worker.close()


@pytest.mark.parametrize(
    "arguments", [{}, {"x-queue-mode": "lazy"}, {"x-queue-version": 2}, {"x-queue-mode": "lazy", "x-queue-version": 2}]
)
def test_a_classic_queue_that_another_program_has_made_is_taken_as_it_is(node, arguments):
    node.delete(*queues("typed"))
    connection = stock.Connection(f"127.0.0.1:{node.port}")
    connection.connect()
    connection.channel().queue_declare("dingo.typed.4", durable=True, auto_delete=False, arguments=arguments)
    connection.close()
    send(node.url, *(envelope(str(number), queue="typed") for number in range(3)))
    send(f"{node.url}?queue_type=classic", envelope("3", queue="typed"))
    worker = kombu.worker(node.url)
    worker.open(lambda *_args: None)
    seen, until = [], time.monotonic() + PATIENCE
    while len(seen) < 4 and time.monotonic() < until:
        seen += [one.envelope.id for one in worker.claim(("typed",), 10, 1.0)]
    assert seen == ["0", "1", "2", "3"]
    worker.close()


@pytest.mark.parametrize("there", TYPES)
def test_a_queue_of_another_type_than_the_url_says_is_told_with_what_to_do(node, there):
    node.delete(*queues("typed"))
    send(f"{node.url}?queue_type={there}", envelope("1", queue="typed"))
    (wanted,) = {*TYPES} - {there}
    with pytest.raises(BrokerUnavailable, match=rf"'dingo\.typed\.4'.* no {wanted} queue: leave queue_type out"):
        send(f"{node.url}?queue_type={wanted}", envelope("2", queue="typed"))


def test_a_queue_of_neither_type_is_told_with_what_to_do(node):
    connection = stock.Connection(f"127.0.0.1:{node.port}")
    connection.connect()
    connection.channel().queue_declare(
        "dingo.stream.4", durable=True, auto_delete=False, arguments={"x-queue-type": "stream"}
    )
    connection.close()
    with pytest.raises(BrokerUnavailable, match=r"'dingo\.stream\.4'.* no \w+ or \w+ queue: delete it"):
        send(node.url, envelope("1", queue="stream"))


def test_new_queues_are_classic(node):
    node.delete(*queues("typed"))
    send(node.url, envelope("1", queue="typed"))
    send(f"{node.url}?queue_type=classic", envelope("2", queue="typed"))


def test_what_a_server_has_confirmed_survives_that_it_is_killed(node):
    """In queues of either type."""
    names = [f"settled-{kind}" for kind in TYPES]
    time.sleep(max(0.0, node.settled_at - time.monotonic()))
    for name in names:
        send(node.url, *(envelope(f"{name} {number}", queue=name) for number in range(500)))
    node.kill()
    node.start()
    worker, seen = kombu.worker(node.url), set()
    worker.open(lambda *_args: None)
    until = time.monotonic() + PATIENCE
    while len(seen) < 1002 and time.monotonic() < until:
        claimed = worker.claim(names, 500, 1.0)
        worker.settle([Settlement(one) for one in claimed])
        seen |= {(one.envelope.queue, one.envelope.id) for one in claimed}
    worker.close()
    assert seen == {(name, f"{name} {number}") for name in names for number in range(500)} | {
        (name, "first") for name in names
    }


def test_slots_are_never_too_late_to_be_exact():
    """The next moment is after now; only the last, fine one may be after the due time, by less than its width."""
    now = 1_800_000_000.123
    for delay in (0.001, 0.05, 1, 59.9, 60.1, 100, 3600, 86400, 30 * 86400, 3000 * 86400):
        moment, width = amqp.queues.slot_of(now + delay, now)
        assert moment > now
        if width == amqp.queues.SLOT:
            assert -1e-6 <= moment - (now + delay) < width + 1e-6
        else:
            assert now + min(delay, amqp.queues.FAR) * 0.9 < moment <= now + delay
            assert (64 * width + 120) * 1000 < 2**32


def test_urls_are_read_and_wrong_ones_refused():
    options = amqp.address.Address.of("amqps://me:p%40ss@host:1234/my%2Fhost?verify=none").options
    assert (options["host"], options["userid"], options["password"]) == ("host:1234", "me", "p@ss")
    assert options["virtual_host"] == "my/host"
    for url in (
        "amqp://host:port/", "amqp://host/?colour=red", "amqp://host/?colour=", "amqp://host/?queue_type=stream",
        "amqp://host/?connect_timeout=0", "amqp://host/?connect_timeout=nan", "amqps://host/?verify=maybe",
    ):  # fmt: skip
        with pytest.raises(BadConfig):
            kombu.producer(url)


def test_a_server_that_is_not_there_is_told():
    port = free_port()
    worker = kombu.worker(f"amqp://guest:secret@127.0.0.1:{port}/")
    with pytest.raises(BrokerUnavailable, match="guest:") as caught:
        worker.open(lambda *_args: None)
    assert "secret" not in str(caught.value)
    worker.close()
