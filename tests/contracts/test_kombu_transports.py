"""Programs of plain kombu on dingo's transports: `kombu.Connection("dingo+redis://...")`."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import kombu
import pytest
from servers import free_port

import dingo
import dingo.kombu

PATIENCE = 30.0
_numbers = itertools.count()


@pytest.fixture(params=["sqlite", "redis", "amqp"])
def url(request, tmp_path):
    if request.param == "amqp":
        return f"dingo+{request.getfixturevalue('amqp_node').url}"
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.flush()
        return f"dingo+{server.url}"
    return f"dingo+sqlite:///{tmp_path}/jobs.db"


# Where our own components carry the messages.
virtual = pytest.mark.parametrize("url", ["sqlite", "redis"], indirect=True)


@pytest.fixture
def connect(url):
    """Make connections; all are closed after the test. Messages of a dead process come again after three seconds."""
    made = []
    options = {} if "amqp" in url else {"lease_seconds": 3.0}

    def make():
        made.append(kombu.Connection(url, transport_options=options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def name():
    return f"plain{next(_numbers)}"


def drain(connection, until):
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, "nothing came"
        try:
            connection.drain_events(timeout=0.5)
        except TimeoutError:
            continue


def take(connection, name, count):
    """Get so many messages from a queue, and acknowledge them; their values."""
    queue = connection.SimpleQueue(name)
    values = []
    while len(values) < count:
        message = queue.get(timeout=PATIENCE)
        values.append(message.payload)
        message.ack()
    queue.close()
    return values


def test_a_simple_queue_carries_values_and_forgets_what_is_acknowledged(connect, name):
    here, there = connect().SimpleQueue(name), connect().SimpleQueue(name)
    for value in ({"a": [1, None]}, "text", 3):
        here.put(value)
    messages = [there.get(timeout=PATIENCE) for _ in range(3)]
    assert [one.payload for one in messages] == [{"a": [1, None]}, "text", 3]
    messages[0].ack()
    messages[1].requeue()
    messages[2].reject()
    again = there.get(timeout=PATIENCE)
    assert again.payload == "text"
    again.ack()
    with pytest.raises(there.Empty):
        there.get(timeout=0.2)
    there.close()


def test_large_bodies_and_bytes_arrive(connect, name):
    body = os.urandom(500_000)
    queue = connect().SimpleQueue(name)
    queue.put(body)
    message = queue.get(timeout=PATIENCE)
    assert bytes(message.payload) == body
    message.ack()


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout"])
def test_who_publishes_to_an_exchange_need_not_know_who_is_bound(connect, name, kind):
    exchange = kombu.Exchange(name, kind)
    keys = {"direct": ("red", "blue"), "topic": ("red.*", "blue.*"), "fanout": ("", "")}[kind]
    queues = [kombu.Queue(f"{name}.{number}", exchange, key) for number, key in enumerate(keys)]
    consumer = connect()
    got = []
    with consumer.Consumer(
        queues, callbacks=[lambda body, message: (got.append((body, message.delivery_info)), message.ack())]
    ):
        producer = connect().Producer()
        for key in ("red.1", "blue.1") if kind == "topic" else ("red", "blue"):
            producer.publish(key, exchange=exchange, routing_key=key, declare=[exchange])
        drain(consumer, lambda: len(got) == (4 if kind == "fanout" else 2))
    assert sorted({body.partition(".")[0] for body, _ in got}) == ["blue", "red"]


def test_a_consumer_holds_no_more_than_its_prefetch(connect, name):
    first, second = connect(), connect()
    queue = kombu.Queue(name, durable=True)
    held, others = [], []
    with first.channel() as channel:
        channel.basic_qos(0, 2, False)
        for value in range(5):
            first.Producer(channel).publish(value, routing_key=name, declare=[queue])
        with kombu.Consumer(channel, [queue], callbacks=[lambda _body, message: held.append(message)]):
            drain(first, lambda: len(held) == 2)
            with second.Consumer([queue], callbacks=[lambda body, message: (others.append(body), message.ack())]):
                drain(second, lambda: len(others) == 3)
        for message in held:
            message.ack()
    assert sorted([*others, *(one.payload for one in held)]) == list(range(5))


def test_what_needs_no_acknowledgement_is_gone_and_what_is_held_comes_back_at_the_close(connect, name):
    first = connect()
    queue = kombu.Queue(name, durable=True)(first.channel())
    queue.declare()
    for value in ("gone", "held"):
        first.Producer().publish(value, routing_key=name)
    assert queue.get(no_ack=True).payload == "gone"
    assert queue.get().payload == "held"
    first.close()
    assert take(connect(), name, 1) == ["held"]


@virtual
def test_queues_are_counted_purged_and_ordered_by_priority(connect, name):
    connection = connect()
    queue = connection.SimpleQueue(name)
    for priority in (4, 0, 9):
        queue.put(priority, priority=priority)
    assert queue.qsize() == 3
    assert take(connect(), name, 3) == [9, 4, 0]
    queue.put(1)
    assert queue.clear() == 1
    assert queue.qsize() == 0


HOLDER = """
import sys
import kombu, dingo.kombu

options = {} if "amqp" in sys.argv[1] else {"lease_seconds": 3.0}
with kombu.Connection(sys.argv[1], transport_options=options) as connection:
    message = connection.SimpleQueue(sys.argv[2]).get(timeout=30)
    print(message.payload, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(url, name):
    """A process that has fetched a message of the queue, and holds it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, name],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_what_a_killed_process_held_comes_to_another(connect, name, holder):
    queue = connect().SimpleQueue(name)
    queue.put("precious")
    assert holder.stdout.readline() == "precious\n"
    holder.send_signal(signal.SIGKILL)
    message = queue.get(timeout=PATIENCE)
    assert (message.payload, message.delivery_info["redelivered"]) == ("precious", True)
    message.ack()


@pytest.mark.parametrize("url", ["redis"], indirect=True)
def test_what_a_live_process_holds_comes_to_nobody_however_long(connect, name, holder):
    """Longer than the lease, while its own thread waits for something else."""
    queue = connect().SimpleQueue(name)
    queue.put("held")
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(queue.Empty):
        queue.get(timeout=4.5)
    holder.stdin.close()  # it ends, and gives back
    message = queue.get(timeout=PATIENCE)
    assert (message.payload, message.delivery_info["redelivered"]) == ("held", False)
    message.ack()


def test_messages_of_kombu_and_tasks_of_dingo_do_not_meet(connect, url):
    """Over the same server, under the same name of queue. The app takes kombu's form of the URL too."""
    with dingo.App(url) as app:
        app.register("double", lambda number: 2 * number)
        queue = connect().SimpleQueue("default")
        queue.put("for kombu")
        app.start_worker()
        assert [app.call("double", number).result(PATIENCE) for number in range(3)] == [0, 2, 4]
        message = queue.get(timeout=PATIENCE)
        assert message.payload == "for kombu"
        message.ack()
        with pytest.raises(queue.Empty):
            queue.get(timeout=0.2)


@virtual
def test_another_thread_may_acknowledge_while_one_waits(connect, name):
    connection = connect()
    queue = connection.SimpleQueue(name)
    queue.put(1)
    message = queue.get(timeout=PATIENCE)
    thread = threading.Thread(target=message.ack)
    threading.Timer(0.05, thread.start).start()
    with pytest.raises(queue.Empty):
        queue.get(timeout=1.0)
    thread.join(PATIENCE)
    assert not connection.default_channel._claimed


def test_what_could_not_be_acknowledged_is_held_and_acknowledged_later(own_redis, name):
    server = own_redis("--appendonly", "yes", "--appendfsync", "always")
    with kombu.Connection(f"dingo+{server.url}") as connection:
        queue = connection.SimpleQueue(name)
        queue.put(1)
        message = queue.get(timeout=PATIENCE)
        server.kill()
        for broken in (message.ack, lambda: queue.put(2)):
            with pytest.raises(connection.connection_errors):
                broken()
        server.start()
        message.ack()
    with kombu.Connection(f"dingo+{server.url}") as connection:
        connection.SimpleQueue(name).put(3)
        assert take(connection, name, 1) == [3]
        assert connection.SimpleQueue(name).qsize() == 0


@pytest.mark.parametrize("first", ["dingo.kombu", "kombu.transport"])
def test_the_names_are_known_whichever_is_imported_first(first):
    code = f"""
import sys
import {first}
if {first!r} == "dingo.kombu":
    import importlib.util
    importlib.util.find_spec("kombu.transport")
    assert not {{"kombu.transport", "redis", "amqp"}} & set(sys.modules)
import dingo.kombu, kombu.transport
aliases = {{one for one in kombu.transport.TRANSPORT_ALIASES if one.startswith("dingo")}}
print(*sorted(aliases))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "dingo dingo+amqp dingo+amqps dingo+redis dingo+rediss dingo+sqlite\n"


def test_a_url_keeps_its_form_and_hides_its_password():
    connection = kombu.Connection("dingo+redis://me:secret@127.0.0.1:1/0")
    assert connection.as_uri() == connection.clone().as_uri() == "dingo+redis://me:**@127.0.0.1:1/0"
    with pytest.raises(dingo.BadConfig, match="dingo\\+redis"):
        kombu.Connection("dingo+mongodb://host").connect()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_server_that_is_not_there_is_told_as_kombu_does(scheme):
    with kombu.Connection(f"dingo+{scheme}://127.0.0.1:{free_port()}") as connection:
        with pytest.raises(kombu.exceptions.OperationalError):
            connection.ensure_connection(max_retries=1, interval_start=0)


def test_the_type_of_queues_is_not_said_in_the_url_where_kombu_declares_them():
    with pytest.raises(dingo.BadConfig, match="queue_arguments"):
        kombu.Connection("dingo+amqp://localhost:1/?queue_type=quorum").connect()
