"""Plain kombu on dingo's components: `kombu.Connection("dingo+sqlite:////path/jobs.db")`, and redis, and amqp.

Over Redis and SQLite a message is a task of dingo's component: fetching it is a claim, acknowledging settles it,
rejecting with `requeue` returns it, and what a dead process had comes to another as tasks do: after its lease, or over
SQLite within about a second. Exchanges of all types but `headers` work; who is bound to what is kept in the server or
the file. Queues are named `kombu.{queue}` there, so that they and dingo's own do not meet.

Over RabbitMQ it is py-amqp, which reads what has come in at once instead of by pieces, checks certificates, and returns
from publishing when the server has confirmed.

Transport options: `lease_seconds` (30), for how long a silent process keeps its messages.
"""

from __future__ import annotations

import json
import logging
import threading
import weakref
from collections import deque
from queue import Empty
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from kombu.transport import pyamqp, virtual
from kombu.utils.json import dumps, loads

from dingo.config import Config
from dingo.contracts import Delivery, Envelope, Settlement, Verdict
from dingo.errors import BadConfig, BrokerUnavailable, SendUncertain
from dingo.kombu import urls
from dingo.kombu.keeping import Keeping
from dingo.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger("dingo.kombu")

# How many messages are claimed at once where the consumer sets no limit.
AHEAD = 10
# How long one claim waits where the connection has one channel, and where it has several (seconds).
WAIT_ALONE = 1.0
WAIT_IN_TURN = 0.05
# How often a process says that it lives (seconds).
TEND = 1.0
# How much is read at once over AMQP (bytes). py-amqp copies what it has not yet looked at: more would cost more.
READ = 4096


def _emit(level: int, _code: str, message: str, _payload: Any = None) -> None:
    logger.log(level, "%s", message)


def _queue(name: str) -> str:
    return f"kombu.{name}"


class _Bindings:
    """Which queues are bound to an exchange, where all processes see it."""

    def rows(self, exchange: str) -> list[tuple[str, str, str]]:
        """Return routing key, pattern and queue of each."""
        return sorted(tuple(json.loads(row)) for row in self._read(exchange))

    def add(self, exchange: str, row: Iterable[str]) -> None:
        """Bind a queue, unless it is."""
        self._write(exchange, json.dumps([one or "" for one in row]))

    def remove(self, exchange: str, row: Iterable[str]) -> None:
        """Unbind a queue, if it is bound."""
        self._erase(exchange, json.dumps([one or "" for one in row]))

    def _read(self, exchange: str) -> Iterable[str]:
        raise NotImplementedError

    def _write(self, exchange: str, row: str) -> None:
        raise NotImplementedError

    def _erase(self, exchange: str, row: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the connection."""
        raise NotImplementedError


class _RedisBindings(_Bindings):
    """A set for each exchange."""

    def __init__(self, url: str) -> None:
        from dingo.kombu.redis.server import Server  # noqa: PLC0415 - on demand

        self._server = Server(url)

    def _read(self, exchange: str) -> Iterable[str]:
        return [row.decode() for row in self._server.do("SMEMBERS", f"dingo:kombu:{exchange}")]

    def _write(self, exchange: str, row: str) -> None:
        self._server.do("SADD", f"dingo:kombu:{exchange}", row)

    def _erase(self, exchange: str, row: str) -> None:
        self._server.do("SREM", f"dingo:kombu:{exchange}", row)

    def close(self) -> None:
        self._server.close()


class _SqliteBindings(_Bindings):
    """A table."""

    def __init__(self, url: str) -> None:
        from dingo.kombu.sqlite.database import Database  # noqa: PLC0415 - on demand

        self._database = Database(unquote(urlsplit(url).path[1:]))
        self._connection = self._database.connect()
        with self._database.errors():
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS kombu_bindings (exchange TEXT, row TEXT, PRIMARY KEY (exchange, row))"
            )

    def _read(self, exchange: str) -> Iterable[str]:
        with self._database.errors():
            rows = self._connection.execute("SELECT row FROM kombu_bindings WHERE exchange = ?", (exchange,)).fetchall()
        return [row for (row,) in rows]

    def _write(self, exchange: str, row: str) -> None:
        with self._database.writing(self._connection) as connection:
            connection.execute("INSERT OR IGNORE INTO kombu_bindings VALUES (?, ?)", (exchange, row))

    def _erase(self, exchange: str, row: str) -> None:
        with self._database.writing(self._connection) as connection:
            connection.execute("DELETE FROM kombu_bindings WHERE exchange = ? AND row = ?", (exchange, row))

    def close(self) -> None:
        self._connection.close()


class Channel(Keeping, virtual.Channel):  # type: ignore[misc]
    """A channel with a producer, and from the first fetch on a worker."""

    supports_fanout = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._url: str = self.connection.url
        self._config = Config(lease_seconds=self.connection.client.transport_options.get("lease_seconds", 30.0))
        self._producer = urls.producer(self._url, self._config)
        self._producer.open(_emit)
        self._bindings: _Bindings = (_SqliteBindings if self._url.startswith("sqlite") else _RedisBindings)(self._url)
        self._store: Any = None
        self._worker: Any = None
        self._busy = threading.RLock()
        self._turn = 0
        self._ready: deque[Delivery] = deque()
        self._claimed: dict[str, Delivery] = {}

    # -- sending ---------------------------------------------------------------------------------------------------

    def _put(self, queue: str, message: Any, **_kwargs: Any) -> None:
        rank = self._get_message_priority(message)
        self._producer.send([Envelope(_queue(queue), uuid4().hex, "kombu", dumps(message).encode(), rank)])

    def _put_fanout(self, exchange: str, message: Any, _routing_key: str, **kwargs: Any) -> None:
        for _, _, queue in self.get_table(exchange):
            self._put(queue, message, **kwargs)

    def _queue_bind(self, exchange: str, *row: str) -> None:
        self._bindings.add(exchange, row)

    def get_table(self, exchange: str) -> Any:
        """Return what is bound to an exchange, by any process."""
        return self._bindings.rows(exchange)

    def queue_unbind(self, queue: str, exchange: str = "", routing_key: str = "", arguments: Any = None,
                     **kwargs: Any) -> None:  # fmt: skip
        """Take back a binding."""
        row = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
        self._bindings.remove(exchange, row)
        super().queue_unbind(queue, exchange, routing_key, arguments, **kwargs)

    # -- fetching --------------------------------------------------------------------------------------------------

    def _working(self) -> Any:
        """Return the worker; from now on this process says that it lives, until the channel is closed or forgotten."""
        if self._worker is None:
            worker = urls.worker(self._url, self._config)
            worker.open(_emit)
            self._worker = worker
            stop = threading.Event()
            self._stop = weakref.finalize(self, stop.set)
            threading.Thread(target=_tend, args=(worker, stop), name="dingo-kombu-keeper", daemon=True).start()
        return self._worker

    def _claim(self, queues: list[str], room: int, wait: float) -> list[Delivery]:
        with self._busy:
            claimed: list[Delivery] = self._working().claim([_queue(one) for one in queues], room, wait)
        return claimed

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        del timeout
        for delivery in list(self._ready):
            if delivery.envelope.queue == _queue(queue):
                self._ready.remove(delivery)
                return self._payload(delivery)
        for delivery in self._claim([queue], 1, 0.0):
            return self._payload(delivery)
        raise Empty

    def _poll(self, cycle: Any, callback: Callable[[Any, str], Any], timeout: float | None = None) -> None:
        """Deliver one message of the queues that are consumed, each of which comes first in its turn."""
        del cycle
        if not self._ready:
            queues = self._active_queues
            self._turn += 1
            turn = self._turn % len(queues)
            most = self.qos.can_consume_max_estimate()
            wait = WAIT_ALONE if len(self.connection.channels) == 1 else WAIT_IN_TURN
            wait = wait if timeout is None else min(timeout, wait)
            room = AHEAD if most is None else min(most, 100)
            self._ready.extend(self._claim([*queues[turn:], *queues[:turn]], room, wait))
        while self._ready:
            delivery = self._ready.popleft()
            queue = delivery.envelope.queue.removeprefix("kombu.")
            if queue in self._active_queues:
                callback(self._payload(delivery), queue)
                return
            self._settle(delivery, Verdict.RETURN)  # its consumer was cancelled meanwhile
        raise Empty

    def _payload(self, delivery: Delivery) -> Any:
        payload = loads(delivery.envelope.frame)
        tag = uuid4().hex
        payload["properties"]["delivery_tag"] = tag
        payload["properties"].setdefault("delivery_info", {})["redelivered"] = delivery.suspect
        self._claimed[tag] = delivery
        return payload

    # -- settling --------------------------------------------------------------------------------------------------

    def _acknowledge(self, tag: str) -> None:
        self._end(tag, Verdict.ACK)

    def _give_back(self, tag: str) -> None:
        self._end(tag, Verdict.RETURN)

    def _end(self, tag: str, verdict: Verdict) -> None:
        """Settle what is held; where the broker does not answer, it is held still, and may be settled again."""
        if tag in self._claimed:
            self._settle(self._claimed[tag], verdict)
            del self._claimed[tag]

    def _settle(self, delivery: Delivery, verdict: Verdict) -> None:
        self._worker.wake()  # another thread may be waiting for messages
        with self._busy:
            stale = self._worker.settle([Settlement(delivery, verdict)])
        if stale:
            logger.warning("a message of queue %s was given to another process meanwhile", delivery.envelope.queue)

    # -- looking ---------------------------------------------------------------------------------------------------

    def _waiting(self, queue: str) -> list[Any]:
        if self._store is None:
            self._store = urls.store(self._url, self._config)
            self._store.open(_emit)
        calls: list[Any] = self._store.calls("waiting", _queue(queue))
        return calls

    def _size(self, queue: str) -> int:
        return len(self._waiting(queue))

    def _purge(self, queue: str) -> int:
        return sum(self._store.cancel(one.id, one.name, b"", 0.0) is True for one in self._waiting(queue))

    def _delete(self, queue: str, exchange: str = "", *row: Any, **_kwargs: Any) -> None:
        self._bindings.remove(exchange, row[:3])
        self._purge(queue)

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:
        """Declare a queue. Only a passive declaration tells how many messages wait: counting takes time."""
        if passive:
            return super().queue_declare(queue, passive=True, **kwargs)
        return virtual.base.queue_declare_ok_t(queue or f"amq.gen-{uuid4()}", 0, 0)

    def close(self) -> None:
        """Give back what was fetched and not acknowledged, and close the connections."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self._worker is not None:
                self._stop()
                self._worker.wake()
                with self._busy:
                    self._worker.close()
            for part in (self._producer, self._bindings, self._store):
                if part is not None:
                    part.close()


def _tend(worker: Any, stop: threading.Event) -> None:
    """Say that the process lives, whatever its main thread does."""
    quiet = False
    while not stop.wait(TEND):
        try:
            worker.tend()
        except Exception as error:
            if not quiet:
                logger.warning("the broker does not take signs of life: %s", error)
            quiet = True
        else:
            quiet = False


class VirtualTransport(virtual.Transport):  # type: ignore[misc]
    """Over Redis and SQLite."""

    Channel = Channel
    can_parse_url = True
    polling_interval = None  # channels wait by themselves
    driver_type = "dingo"
    driver_name = "dingo"
    connection_errors = (*virtual.Transport.connection_errors, BrokerUnavailable, SendUncertain)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, *, url: str, **kwargs: Any) -> None:
        self.url = url
        super().__init__(client, **kwargs)

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        """Deliver one message. Raises TimeoutError when none came within `timeout` seconds."""
        del connection
        until = None if timeout is None else monotonic() + timeout
        while True:
            try:
                self.cycle.get(self._deliver, timeout=None if until is None else max(0.0, until - monotonic()))
            except Empty:
                if until is not None and monotonic() >= until:
                    raise TimeoutError(f"no message came within {timeout} seconds") from None
            else:
                return


class AmqpConnection(pyamqp.Connection):  # type: ignore[misc]
    """A connection that takes all that has come in, not just what is read next."""

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Connect."""
        done = super().connect(*args, **kwargs)
        receive = self.transport._quick_recv
        self.transport._quick_recv = lambda size: receive(max(size, READ))
        return done


class AmqpTransport(pyamqp.Transport):  # type: ignore[misc]
    """Over RabbitMQ."""

    Connection = AmqpConnection
    can_parse_url = True

    def __init__(self, client: Any, *, url: str, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.url = url

    def establish_connection(self) -> Any:
        """Connect."""
        from dingo.kombu.amqp.address import Address  # noqa: PLC0415 - on demand

        address = Address.of(self.url)
        if address.queue_type is not None:
            raise BadConfig(f"{address.url!r}: here kombu declares the queues: use its queue_arguments, not queue_type")
        options = {**address.options, "heartbeat": self.client.heartbeat, "confirm_publish": True}
        connection = self.Connection(**{**options, **(self.client.transport_options or {})})
        connection.client = self.client
        connection.connect()
        return connection


class Transport:
    """What kombu knows as the transport "dingo": makes the one for the rest of the URL."""

    can_parse_url = True
    # kombu asks the class, before it knows which it will be.
    connection_errors = (*pyamqp.Transport.connection_errors, *VirtualTransport.connection_errors)
    channel_errors = (*pyamqp.Transport.channel_errors, *VirtualTransport.channel_errors)
    recoverable_connection_errors = (*pyamqp.Transport.recoverable_connection_errors, BrokerUnavailable, SendUncertain)
    recoverable_channel_errors = (*pyamqp.Transport.recoverable_channel_errors, *VirtualTransport.channel_errors)

    def __new__(cls, client: Any, **kwargs: Any) -> Any:
        """Make it. Raises BadConfig for a scheme that is not ours."""
        url = client.hostname or ""
        if "://" not in url:
            url = f"{client.transport_cls.removeprefix('dingo+')}://{url}"
        scheme = urlsplit(url).scheme
        if scheme in {"amqp", "amqps"}:
            return AmqpTransport(client, url=url, **kwargs)
        if scheme in {"redis", "rediss", "sqlite"}:
            return VirtualTransport(client, url=url, **kwargs)
        raise BadConfig(f"no transport for {mask_url(url)!r}: there are dingo+redis, dingo+sqlite and dingo+amqp")
