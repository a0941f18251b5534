"""RabbitMQ as broker: `amqp://user:password@host:5672/vhost`.

Connecting, declaring and consuming are py-amqp's; publishing, acknowledging and reading are done here, in batches:
py-amqp reads a message in nine system calls, and looks for input before each publish.

    dingo.{queue}.{priority}            the tasks: durable classic queues, or quorum queues (`?queue_type=quorum`)
    dingo.later.{...}                   tasks that are not due yet, one queue per moment; they expire into the above
    dingo.hold.{worker}.{...}           tasks whose start is recorded: of a dead worker they expire into the above
    dingo.reply.{...}                   the reports for one caller; it goes when nobody has used it for an hour

Everything is persistent, and confirmed before it counts. A task is acknowledged only after its report is confirmed:
none is lost, but a task may be delivered twice, and a task that was sent again counts twice. RabbitMQ has no memory
of single tasks: whatever needs one raises NotAttached.

Each component has a connection of its own, which one thread uses; only `wake` comes from others.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import select
import ssl
import struct
import threading
import weakref
from collections import deque
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import amqp  # type: ignore[import-untyped, unused-ignore]
from amqp.method_framing import frame_writer  # type: ignore[import-untyped, unused-ignore]
from amqp.serialization import dumps, loads  # type: ignore[import-untyped, unused-ignore]

from dingo.config import mask_url
from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, StoredCall, Verdict
from dingo.errors import BadConfig, BrokerUnavailable, NotAttached, SendUncertain
from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PRIORITIES = range(9, -1, -1)
# What a task queue may be: the first is the one that is made where nobody says anything else. Starts are counted, not
# deliveries: the server's own limit would throw tasks away that never ran.
QUEUE_TYPES: dict[str, dict[str, Any]] = {
    "classic": {"x-queue-type": "classic"},
    "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000},
}
# How long the server may take for an answer or a confirm (seconds).
PATIENCE = 15.0
CONNECT_SECONDS = 5.0
# The server gives up who is silent for two to three heartbeats; what has crashed it notices at once. A worker's is
# half its lease, so that what it had is taken over between one lease and one and a half. This is a caller's (seconds).
HEARTBEAT = 10
# This side speaks so often in a heartbeat, and gives the server up after so many of its.
SPEAK, SILENCE = 3, 1.5
# Tasks are delayed to the next of these moments (seconds) ...
SLOT = 0.1
# ... within this horizon. What is due later moves to a nearer moment about three times on its way.
FINE_HORIZON = 60.0
# RabbitMQ holds nothing longer than 49 days (seconds).
FAR = 20 * 86400.0
# A queue is declared again after this long, since it may have expired (seconds).
DECLARED_FOR = 600.0
REPLY_EXPIRES = 3600.0
# How long the recorded start of a task whose worker died stays with the dead (seconds).
HOLD_TTL = 1.0
HOLD_EXPIRES = 120.0
# RabbitMQ 3.10 writes down some seconds late that a queue was made: killed before, it forgets the queue and what is in
# it. A server that has just come back may go again, so nothing is moved to a new queue so soon (seconds).
HOLD_SETTLES = 3.0
# For how long after an outage tasks come that went back with a connection, whether their worker lives or not (seconds).
FORGIVES = 30.0
# RabbitMQ closes the channel of who keeps a task longer than its `consumer_timeout` (30 minutes, if nobody set it),
# so a task is delivered anew before that (seconds). Nothing tells the limit but breaking it: a probe does that, and
# meanwhile proves that more than its age, less what lies between two looks of the server, is allowed.
RENEW_FIRST, RENEW_MOST = 4.0, 600.0
LOOKED_AT_EVERY = 60.0
# What was fetched in vain for so long goes back (seconds).
SURPLUS_AFTER = 2.0
PREFETCH_MOST = 1000
# How long the first claim waits for what the server said is there (seconds).
BACKLOG_WAIT = 1.0
# How much is read at once. From 128 KiB on, memory is mapped and unmapped for each read, at ten times its cost (bytes).
READ = 1 << 16
# Larger packs of reports are divided (bytes).
PACK_LIMIT = 1 << 20

_STARTS, _SUSPECT, _DUE, _SERIAL = "x-dingo-starts", "x-dingo-suspect", "x-dingo-due", "x-dingo-serial"
_REPLY = "dingo.reply."
_ID, _NAME = "x-dingo-id", "x-dingo-name"
_HEAD = struct.Struct(">BHI")
_METHOD = struct.Struct(">HH")
_CONTENT = struct.Struct(">HHQH")
_ACK = struct.Struct(">BHIHHQBB")
_END = b"\xce"
_HEARTBEAT = _HEAD.pack(8, 0, 0) + _END
_PROBE, _DECLARING = 2, 3  # the channels of the probe, and of what may be refused
_PROBE_CLOSED = _HEAD.pack(1, _PROBE, 4) + _METHOD.pack(20, 41) + _END
_LIMIT = re.compile(r"Timeout value used: (\d+) ms")
_DELIVER, _RETURNED, _CONFIRMED, _REFUSED, _CHANNEL_CLOSE = (60, 60), (60, 50), (60, 80), (60, 120), (20, 40)
_NO_STORE = (
    "RabbitMQ keeps nothing of single calls, so it cannot {what}: "
    'add a redis or sqlite backend (option "backend") that does'
)


class _LostError(OSError):
    """The connection is of no use any more."""


class _UnconfirmedError(OSError):
    """It broke between a publish and its confirm. `confirmed`: the indexes of those messages that were."""

    confirmed: Sequence[int] = ()


@dataclass(frozen=True)
class Address:
    """Where a server is, taken from a URL."""

    url: str
    options: dict[str, Any]
    queue_type: str | None = None
    """What the task queues are to be; None: what they are already, new ones classic."""

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a URL. Raises BadConfig."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        secure = parts.scheme == "amqps"
        try:
            host, port = parts.hostname or "localhost", parts.port or (5671 if secure else 5672)
            timeout = float(query.pop("connect_timeout", 0)) or None
        except ValueError as error:
            raise BadConfig(f"{mask_url(url)!r}: {error}") from None
        options: dict[str, Any] = {
            "host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "userid": unquote(parts.username or "guest"),
            "password": unquote(parts.password or "guest"),
            "virtual_host": unquote(parts.path[1:]) or "/",
            "login_method": "PLAIN",
        }
        if timeout is not None:  # what the URL says goes before the configuration
            options["connect_timeout"] = timeout
        if secure:
            options["ssl"] = _tls(host, query)
        queue_type = query.pop("queue_type", None)
        if queue_type is not None and queue_type not in QUEUE_TYPES:
            raise BadConfig(f"{mask_url(url)!r}: queue_type={queue_type}: there are {' and '.join(QUEUE_TYPES)}")
        if query:
            raise BadConfig(f"{mask_url(url)!r}: unknown parameter {min(query)!r}")
        return cls(mask_url(url), options, queue_type)


def _tls(host: str, query: dict[str, str]) -> dict[str, Any]:
    """Return what py-amqp needs for TLS. The server's certificate is checked unless the URL says `verify=none`."""
    check = query.pop("verify", "peer") != "none"
    return {
        "cert_reqs": ssl.CERT_REQUIRED if check else ssl.CERT_NONE,
        "server_hostname": host if check else None,
        "ca_certs": query.pop("cacertfile", None),
        "certfile": query.pop("certfile", None),
        "keyfile": query.pop("keyfile", None),
    }


@dataclass(slots=True)
class _Message:
    """A message that came in."""

    consumer: str
    tag: int
    redelivered: bool
    body: bytes
    id: str
    name: str
    reply: str
    headers: dict[str, Any]


class Link:
    """A connection with one channel, used by one thread at a time. What comes in is put in `inbox`."""

    def __init__(self, address: Address, wake_fd: int, blocked: Callable[[str], None], heartbeat: int,
                 connect_seconds: float = CONNECT_SECONDS) -> None:  # fmt: skip
        self.inbox: deque[_Message] = deque()
        self.woken = False
        self._wake_fd = wake_fd
        self._unread: deque[bytes] = deque()
        self._rest = b""
        self._corked: list[bytes] = []
        self._ready = False
        self._coming: tuple[str, int, bool] = ("", 0, False)
        self._properties: tuple[int, bytes] = (0, b"")
        self._left = 0
        self._body: list[bytes] = []
        self._number = self._confirmed_to = 0
        self._unconfirmed: set[int] = set()
        self._deferred: deque[tuple[range, list[int], float]] = deque()
        self._out: dict[int, None] = {}
        self._declared: dict[str, float] = {}
        self._types = [address.queue_type] if address.queue_type else [*QUEUE_TYPES]
        self._routes: dict[str, bytes] = {}
        self._spoken = self._heard = monotonic()
        self._probing_since: float | None = None
        self.allowed: float | None = None
        """How long a message may be kept unacknowledged (seconds), once the server has said so."""
        self._connection: Any = amqp.Connection(
            heartbeat=heartbeat, on_blocked=blocked, frame_writer=lambda link, _: frame_writer(link, self),
            **{"connect_timeout": connect_seconds, **address.options},
        )  # fmt: skip
        # py-amqp's own calls wait in here too, so that nothing is read past us.
        self._connection.blocking_read = self._read_for_amqp
        try:
            self._connection.connect()
            self.channel: Any = self._connection.channel(1)
            self.channel.confirm_select()
        except BaseException:
            self.abandon()
            raise
        _links.add(self)

    # -- bytes ------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._socket = self._connection.transport.sock
        self._socket.setblocking(False)
        # What TLS has read but not handed out is not seen by poll.
        self._pending: Callable[[], int] = getattr(self._socket, "pending", int)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._wake_fd, select.POLLIN)
        self._ready = True

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes. What comes in meanwhile is kept: a server that cannot write does not read either."""
        if not self._ready:
            self._prepare()
        if self._corked:
            data = b"".join((*self._corked, data))
            self._corked.clear()
        self._spoken = monotonic()
        view = memoryview(data)
        until = monotonic() + PATIENCE
        while view:
            try:
                view = view[self._socket.send(view[: 1 << 18]) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if monotonic() > until:
                    raise _LostError("the server does not read") from None
                both = select.poll()
                both.register(self._socket, select.POLLIN | select.POLLOUT)
                both.poll(1000)
                self._receive()

    def _receive(self) -> bool:
        """Take what has come in; whether there was anything."""
        try:
            data = self._socket.recv(READ)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        if not data:
            raise _LostError("the server closed the connection")
        self._unread.append(data)
        self._heard = monotonic()
        return True

    def pump(self, seconds: float) -> bool:
        """Wait for input and handle it; return early when woken. Whether there was any."""
        if not self._ready:
            self._prepare()
        if self._corked:
            self.write(b"")
        seconds = self._tick(seconds)
        if not self._unread and not (self._pending() and self._receive()):
            for fd, _ in self._poll.poll(max(0, math.ceil(seconds * 1000))):
                if fd == self._wake_fd:
                    self._drain_wake()
                else:
                    self._receive()
        if not self._unread:
            return False
        while self._unread:
            self._parse(self._unread.popleft())
        return True

    def _drain_wake(self) -> None:
        self.woken = True
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 4096)

    def _read_for_amqp(self, timeout: float | None = None) -> bool:
        until = monotonic() + (PATIENCE if timeout is None else timeout)
        while not self.pump(until - monotonic()):
            if monotonic() >= until:
                raise TimeoutError("the server does not answer")
        return True

    def _tick(self, seconds: float) -> float:
        """Say that this side lives, and look whether the other does; return how long to wait at most until the next."""
        heartbeat: float = self._connection.heartbeat or 0.0
        if not heartbeat:
            return seconds
        now = monotonic()
        if now - self._spoken >= heartbeat / SPEAK:
            self.write(_HEARTBEAT)
        # Where this process was frozen, what the server said meanwhile has not been read yet.
        if now - self._heard > heartbeat * SILENCE and not self._receive():
            raise _LostError(f"the server has been silent for {now - self._heard:.0f} s")
        return min(seconds, heartbeat / SPEAK)

    # -- frames -----------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = _HEAD.unpack_from(data, at)
            stop = at + 7 + size
            if stop >= end:
                break
            if data[stop] != 0xCE:
                raise _LostError("the server sent something that is no frame")
            self._frame(kind, channel, data[at + 7 : stop])
            at = stop + 1
        self._rest = data[at:]

    def _frame(self, kind: int, channel: int, data: bytes) -> None:
        if channel == _PROBE and kind != 1:
            return
        if kind == 3:
            self._body.append(data)
            self._left -= len(data)
        elif kind == 2:
            _, _, self._left, flags = _CONTENT.unpack_from(data)
            self._properties = (flags, data[14:])
            self._body = []
        elif kind == 1:
            self._method(channel, data)
            return
        else:
            return  # a heartbeat
        if self._left == 0:
            consumer, tag, redelivered = self._coming
            id, name, reply, headers = _read_properties(*self._properties)
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._out[tag] = None
            self.inbox.append(_Message(consumer, tag, redelivered, body, id, name, reply, headers))

    def _method(self, channel: int, data: bytes) -> None:
        method = _METHOD.unpack_from(data)
        if channel == _PROBE and method in {_DELIVER, _CHANNEL_CLOSE}:
            if method == _CHANNEL_CLOSE:
                self._learn(data)
                self._corked.append(_PROBE_CLOSED)
        elif method == _DELIVER:
            end = 5 + data[4]
            self._coming = (data[5:end].decode(), int.from_bytes(data[end : end + 8]), bool(data[end + 8]))
        elif method in {_CONFIRMED, _REFUSED}:
            self._confirm(int.from_bytes(data[4:12]), multiple=bool(data[12] & 1), refused=method == _REFUSED)
        elif method == _RETURNED:
            raise _LostError("a queue was deleted meanwhile")  # the next connection makes it again
        elif method == _CHANNEL_CLOSE and channel != _DECLARING:
            raise _LostError(self._learn(data))
        else:
            self._connection.on_inbound_frame((1, channel, data))

    def _confirm(self, number: int, *, multiple: bool, refused: bool) -> None:
        if refused:
            raise _LostError("the server refused to take a message")
        if multiple:
            self._unconfirmed.difference_update(range(self._confirmed_to + 1, number + 1))
            self._confirmed_to = max(self._confirmed_to, number)
        else:
            self._unconfirmed.discard(number)

    # -- how long a message may be kept -----------------------------------------------------------------------

    def probe(self) -> None:
        """Keep one message for good, on a channel of its own, which the server closes when that is too long."""
        if self._probing_since is None and self.allowed is None:
            channel = self._connection.channel(_PROBE)
            queue: str = channel.queue_declare("", exclusive=True).queue
            channel.basic_consume(queue, callback=_nothing)
            self.publish([(queue, _properties(), b"")])
            self._probing_since = monotonic()

    def _learn(self, data: bytes) -> str:
        """Read why a channel is closed."""
        text = data[7 : 7 + data[6]].decode(errors="replace")
        if limit := _LIMIT.search(text):
            self.allowed = int(limit[1]) / 1000
        return text

    def kept_safely(self) -> float:
        """How long a message may be kept for certain (seconds): far within what is known to be allowed."""
        if self.allowed is not None:
            return min(RENEW_MOST, self.allowed / 3)
        proven = 0.0 if self._probing_since is None else monotonic() - self._probing_since - LOOKED_AT_EVERY
        return min(RENEW_MOST, max(RENEW_FIRST, proven / 2))

    # -- what is done with it ---------------------------------------------------------------------------------

    def publish(self, messages: Sequence[tuple[str, bytes, bytes]]) -> None:
        """Send (queue, properties, body), and return when the server has confirmed all of them."""
        if not messages:
            return
        first = self._number + 1
        try:
            self._publish(messages)
            self.wait_for_confirms()
        except (OSError, amqp.AMQPError) as error:
            uncertain = _UnconfirmedError(f"{error or type(error).__name__}")
            uncertain.confirmed = [at for at in range(len(messages)) if first + at not in self._unconfirmed]
            raise uncertain from error

    def publish_then_ack(self, messages: Sequence[tuple[str, bytes, bytes]], tags: list[int]) -> None:
        """Send messages; when they are confirmed, in a later call, acknowledge the tags. Until then they are ours."""
        if messages:
            self._deferred.append((self._publish(messages), tags, monotonic()))
        else:
            self.ack(tags)

    def ack_confirmed(self) -> None:
        """Acknowledge what waited for confirms that have come. To be called often."""
        tags: list[int] = []
        while self._deferred:
            numbers, waiting, since = self._deferred[0]
            if any(number in self._unconfirmed for number in numbers):
                if monotonic() - since > PATIENCE and not self.pump(0):
                    raise _LostError(f"the server has not confirmed within {PATIENCE:.0f} s")
                break
            tags += waiting
            self._deferred.popleft()
        self.ack(tags)

    @property
    def unconfirmed(self) -> int:
        """How many messages wait to be acknowledged."""
        return sum(len(tags) for _, tags, _ in self._deferred)

    def _publish(self, messages: Sequence[tuple[str, bytes, bytes]]) -> range:
        parts: list[bytes] = []
        for queue, properties, body in messages:
            self._put(parts, queue, properties, body)
        first = self._number + 1
        self._number += len(messages)
        numbers = range(first, self._number + 1)
        self._unconfirmed.update(numbers)
        self.write(b"".join(parts))
        return numbers

    def wait_for_confirms(self) -> None:
        """Wait until the server has confirmed all that was published, and acknowledge what waited for that."""
        until = monotonic() + PATIENCE
        while self._unconfirmed:
            if not self.pump(1.0) and monotonic() > until:
                raise _LostError(f"the server has not confirmed within {PATIENCE:.0f} s")
        self.ack_confirmed()

    def _put(self, parts: list[bytes], queue: str, properties: bytes, body: bytes) -> None:
        route = self._routes.get(queue)
        if route is None:
            # A task for a queue that is gone comes back, and is sent again. A report may vanish with who waited for it.
            mandatory = b"\0" if queue.startswith(_REPLY) else b"\1"
            method = _METHOD.pack(60, 40) + b"\0\0\0" + _short(queue) + mandatory
            route = self._routes[queue] = _HEAD.pack(1, 1, len(method)) + method + _END
        parts += (
            route, _HEAD.pack(2, 1, len(properties) + 12), b"\0\x3c\0\0", len(body).to_bytes(8), properties, _END,
        )  # fmt: skip
        most = self._connection.frame_max - 8
        for at in range(0, len(body), most):
            piece = body if len(body) <= most else body[at : at + most]
            parts += (_HEAD.pack(3, 1, len(piece)), piece, _END)

    def ack(self, tags: Iterable[int]) -> None:
        """Let the server forget messages, several at once where no other stands between.

        It is told with what is sent next, before the next wait at the latest.
        """
        done = {tag for tag in tags if tag in self._out}
        if not done:
            return
        together = 0
        for tag in self._out:
            if tag not in done:
                break
            together = tag
        parts = [_ACK.pack(1, 1, 13, 60, 80, together, 1, 0xCE)] if together else []
        parts += [_ACK.pack(1, 1, 13, 60, 80, tag, 0, 0xCE) for tag in sorted(done) if tag > together]
        for tag in done:
            del self._out[tag]
        self._corked += parts

    def declare(self, queue: str, arguments: dict[str, Any]) -> None:
        """Make a durable queue if it is not there."""
        if not self._knows(queue):
            self.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)

    def declare_tasks(self, queue: str) -> int:
        """Make a task queue if it is not there; return how many messages wait in it (0 if it was known).

        One that is there is taken as it is, unless the URL says of which type it has to be.
        """
        if self._knows(queue):
            return 0
        channel = self._connection.channel(_DECLARING)  # what is refused costs no more than that
        for kind in tuple(self._types):
            try:
                found = channel.queue_declare(queue, durable=True, auto_delete=False, arguments=QUEUE_TYPES[kind])
            except amqp.PreconditionFailed as error:
                if "x-queue-type" not in str(error):
                    raise
            else:
                self._types.sort(key=lambda other: other != kind)  # the next is probably of the same type
                return int(found.message_count)
        said = len(self._types) == 1
        use = "leave queue_type out of the URL to use it as it is, or " if said else ""
        raise _LostError(
            f"the queue {queue!r} is there already, and is no {' or '.join(self._types)} queue: {use}"
            "delete it when it is empty, to have it made anew"
        )

    def _knows(self, queue: str) -> bool:
        """Whether a queue was declared lately; if not, it is now."""
        now = monotonic()
        if now - self._declared.get(queue, -DECLARED_FOR) < DECLARED_FOR:
            return True
        if len(self._declared) > 10_000:  # queues of moments come and go
            self._declared.clear()
            self._routes.clear()
        self._declared[queue] = now
        return False

    def prefetch(self, count: int) -> None:
        """Let the consumers made from now on have so many unacknowledged messages each (0: any number)."""
        self.channel.basic_qos(0, count, False)

    def consume(self, queue: str, tag: str) -> None:
        """Have the messages of a queue sent here."""
        try:
            self.channel.basic_consume(queue, tag, callback=_nothing)
        except TimeoutError:
            # Seen where RabbitMQ 3.10 was killed within seconds after the queue was made; only deleting it helps.
            raise _LostError(f"the server does not answer for queue {queue!r}") from None

    def cancel(self, tag: str, *, wait: bool = True) -> None:
        """Get no more of them. With `wait`, what was on its way has come."""
        self.channel.basic_cancel(tag, nowait=not wait)

    def close(self) -> None:
        """Say goodbye, as far as somebody listens."""
        with contextlib.suppress(OSError, amqp.AMQPError):
            self._connection.close()
        self.abandon()

    def disown(self) -> None:
        """In the child of a fork: let go of the connection without a word, so that the parent's goes on."""
        transport = self._connection.transport
        sock, transport.sock = transport.sock, None
        if sock is not None:
            os.close(sock.detach())

    def abandon(self) -> None:
        """Drop the connection."""
        with contextlib.suppress(Exception):
            self._connection.collect()


def plain_connection(address: Address, connect_seconds: float, blocked: Callable[[str], None] | None = None) -> Any:
    """Connect by py-amqp alone: for what is rare and needs no speed. `blocked`: told why the server takes nothing."""
    connection = amqp.Connection(
        heartbeat=HEARTBEAT, on_blocked=blocked, read_timeout=PATIENCE, write_timeout=PATIENCE,
        **{"connect_timeout": connect_seconds, **address.options},
    )  # fmt: skip
    try:
        connection.connect()
    except BaseException:
        connection.collect()
        raise
    return connection


NotFound: type[Exception] = amqp.NotFound


def message(body: bytes, **properties: Any) -> Any:
    """Make a message of py-amqp's, for a plain connection."""
    return amqp.Message(body, **properties)


@contextlib.contextmanager
def speaking(address: Address) -> Iterator[None]:
    """Turn what py-amqp raises into our own."""
    try:
        yield
    except (OSError, amqp.AMQPError) as error:
        raise BrokerUnavailable(f"{address.url}: {error or type(error).__name__}") from error


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    for link in tuple(_links):
        link.disown()


os.register_at_fork(after_in_child=_after_fork)


def _nothing(_message: Any) -> None:
    """Stand where py-amqp wants a callback: what comes in never gets there."""


# -- properties -----------------------------------------------------------------------------------------------


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


def _properties(id: str = "", name: str = "", reply: str = "", *, expiration: int | None = None,
                headers: dict[str, Any] | None = None) -> bytes:  # fmt: skip
    """Write the properties of a persistent message. A text too long for its place goes among the headers."""
    if len(id) > 63 and len(id.encode()) > 255:
        id, headers = "", {**(headers or {}), _ID: id}
    if len(name) > 63 and len(name.encode()) > 255:
        name, headers = "", {**(headers or {}), _NAME: name}
    flags, parts = 1 << 12, [b"\x02"]
    if headers:
        flags |= 1 << 13
        parts.insert(0, dumps("F", (headers,)))
    if reply:
        flags |= 1 << 9
        parts.append(_short(reply))
    if expiration is not None:
        flags |= 1 << 8
        parts.append(_short(str(expiration)))
    if id:
        flags |= 1 << 7
        parts.append(_short(id))
    if name:
        flags |= 1 << 5
        parts.append(_short(name))
    return flags.to_bytes(2) + b"".join(parts)


# Flag and size of each property, in their order; None: a short text, -1: a table.
_LAYOUT = (
    (15, None), (14, None), (13, -1), (12, 1), (11, 1), (10, None), (9, None), (8, None), (7, None), (6, 8), (5, None),
)  # fmt: skip


def _read_properties(flags: int, data: bytes) -> tuple[str, str, str, dict[str, Any]]:
    """Return id, name, reply address and headers."""
    at = 0
    texts: dict[int, str] = {}
    headers: dict[str, Any] = {}
    for bit, size in _LAYOUT:
        if not flags >> bit & 1:
            continue
        if size is None:
            end = at + 1 + data[at]
            texts[bit] = data[at + 1 : end].decode(errors="replace")
            at = end
        elif size < 0:
            end = at + 4 + int.from_bytes(data[at : at + 4])
            if b"x-dingo-" in data[at:end]:  # else it is the server's own notes
                headers = loads("F", data, at)[0][0]
            at = end
        else:
            at += size
    call_id, name = headers.get(_ID, texts.get(7, "")), headers.get(_NAME, texts.get(5, ""))
    if not (isinstance(call_id, str) and isinstance(name, str)):  # of a program that is not dingo
        call_id = name = ""
    return call_id, name, texts.get(9, ""), headers


# -- queues ---------------------------------------------------------------------------------------------------


def _fitting(name: str) -> str:
    """Return a queue name that AMQP can carry."""
    if len(name.encode()) <= 255:
        return name
    return f"{name[:40]}.{hashlib.sha256(name.encode()).hexdigest()}"


def task_queue(queue: str, priority: int) -> str:
    """Return the name of the queue for tasks of one priority."""
    return _fitting(f"dingo.{queue}.{priority}")


def _declare_tasks(link: Link, queue: str, priority: int) -> tuple[str, int]:
    name = task_queue(queue, priority)
    return name, link.declare_tasks(name)


def _reply_queue(reply: str) -> str:
    return _fitting(_REPLY + reply.removeprefix("reply."))


def _declare_reply(link: Link, reply: str) -> str:
    name = _reply_queue(reply)
    link.declare(name, {"x-expires": int(REPLY_EXPIRES * 1000)})
    return name


def slot_of(due: float, now: float) -> tuple[float, float]:
    """Return the moment a task waits for next, and how exact that is. It is never after the slot that `due` is in."""
    delay = min(due - now, FAR)
    if delay <= FINE_HORIZON:
        return math.ceil(due / SLOT) * SLOT, SLOT
    width = 2.0 ** math.floor(math.log2(delay / 16))
    return math.floor((now + delay) / width) * width, width


def _declare_later(link: Link, queue: str, priority: int, due: float, now: float) -> tuple[str, int]:
    """Return the queue where a task waits, and for how long (milliseconds)."""
    moment, width = slot_of(due, now)
    target, _ = _declare_tasks(link, queue, priority)
    name = _fitting(f"dingo.later.{queue}.{priority}.{width:g}.{moment:.1f}")
    link.declare(
        name,
        {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": target,
            "x-expires": int((64 * width + 2 * FINE_HORIZON) * 1000),
        },
    )
    return name, math.ceil((moment - now) * 1000)


def _task(
    link: Link, envelope: Envelope, *, due: float | None, starts: int = 0, suspect: bool = False
) -> tuple[str, bytes, bytes]:
    """Make the message that brings a task to its queue, or to where it waits for its time."""
    now = time()
    headers: dict[str, Any] = {_STARTS: starts} if starts else {}
    if suspect:
        headers[_SUSPECT] = True
    wait = None
    if due is not None and due > now:
        queue, wait = _declare_later(link, envelope.queue, envelope.priority, due, now)
        headers[_DUE] = math.ceil(due * 1000)
    else:
        queue, _ = _declare_tasks(link, envelope.queue, envelope.priority)
    properties = _properties(envelope.id, envelope.name, envelope.reply, expiration=wait, headers=headers)
    return queue, properties, envelope.frame


# -- the components -------------------------------------------------------------------------------------------


class _Part:
    """What the components share: a connection that is built when it is needed, and a way to be woken."""

    _heartbeat = HEARTBEAT

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._address = Address.of(url)
        self._connect_seconds = connect_seconds
        self._link: Link | None = None
        self._wake_lock = threading.Lock()
        self._busy = threading.RLock()  # whoever closes waits for the thread that uses the connection
        self._pipe: tuple[int, int] | None = None
        self._emit: Callable[..., None] = lambda *_args: None

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The thread that uses it connects."""
        self._emit = emit
        with self._wake_lock:
            if self._pipe is None:
                self._pipe = os.pipe()
                for fd in self._pipe:
                    os.set_blocking(fd, False)

    def wake(self) -> None:
        """Make a waiting call return."""
        with self._wake_lock, contextlib.suppress(BlockingIOError):
            if self._pipe is not None:
                os.write(self._pipe[1], b"!")

    def _blocked(self, reason: str) -> None:
        self._emit(30, "connection.blocked", f"{self._address.url} takes nothing at present: {reason}")

    @contextlib.contextmanager
    def _talking(self) -> Iterator[Link]:
        """Give the connection; whatever goes wrong with it ends it, and is told as BrokerUnavailable."""
        self._busy.acquire()
        try:
            if self._link is None:
                self._link = self._connect()
            yield self._link
        except _UnconfirmedError as error:
            self._drop()
            raise SendUncertain(f"{self._address.url}: {error}") from error
        except (OSError, amqp.AMQPError) as error:
            self._drop()
            raise BrokerUnavailable(f"{self._address.url}: {error or type(error).__name__}") from error
        except BaseException:
            self._drop()
            raise
        finally:
            self._busy.release()

    @contextlib.contextmanager
    def _talking_surely(self) -> Iterator[Link]:
        """Do the same where it makes no difference what was confirmed."""
        try:
            with self._talking() as link:
                yield link
        except SendUncertain as error:
            raise BrokerUnavailable(f"{error}") from error

    def _connect(self) -> Link:
        if self._pipe is None:
            raise _LostError("the component is closed")
        return Link(self._address, self._pipe[0], self._blocked, self._heartbeat, self._connect_seconds)

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.abandon()

    def close(self) -> None:
        """Close the connection."""
        self.wake()
        with self._busy:
            link, self._link = self._link, None
            if link is not None:
                link.close()
            with self._wake_lock:
                pipe, self._pipe = self._pipe, None
            for fd in pipe or ():
                os.close(fd)


class AmqpProducer(_Part):
    """Publishes tasks."""

    _heartbeat = 0  # its thread sleeps while nothing is to be sent, and nothing is lost with its connection

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, connect_seconds)
        self._confirmed: set[tuple[str, str]] = set()

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Publish a batch, and return when the server has confirmed it. What was confirmed is not sent again."""
        left = [one for one in envelopes if _key(one) not in self._confirmed] if self._confirmed else envelopes
        if left:
            self._look()
            with self._talking() as link:
                try:
                    link.publish([_task(link, one, due=one.due) for one in left])
                except _UnconfirmedError as error:
                    self._confirmed |= {_key(left[index]) for index in error.confirmed}
                    raise
        self._confirmed.clear()

    def _look(self) -> None:
        """Let go of a connection that was lost while nothing was sent, so that the next is made at once."""
        with self._busy:
            if self._link is not None:
                try:
                    self._link.pump(0)
                except (OSError, amqp.AMQPError):
                    self._drop()


@dataclass(slots=True, eq=False)
class _Claim:
    """The token of a delivery: it is good for one connection, and until it is settled (tag 0).

    When the connection breaks and the server gives the task to this worker again, the claim lives on.
    """

    link: Link
    tag: int
    envelope: Envelope
    since: float
    suspect: bool
    starts: int


class AmqpWorker(_Part):
    """Consumer and Reporter."""

    def __init__(self, url: str, lease_seconds: float, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, connect_seconds)
        self._heartbeat = max(1, int(lease_seconds / 2))
        self._held: dict[tuple[str, str], _Claim] = {}
        self._allowed: float | None = None
        self._astray: set[str] = set()
        self._connected_before = False
        self._hold_from = self._forgives_until = 0.0
        self._settled: set[str] = set()  # the consumers that have had something new since the connection was made
        self._forget()

    def _forget(self) -> None:
        """Know nothing of a connection, but what was claimed over an earlier one."""
        self._name = os.urandom(8).hex()  # what the last one held goes back to its queue, and comes from there
        self._numbers = 0
        self._consumers: dict[str, tuple[str, int]] = {}
        self._tags: dict[str, list[str]] = {}
        self._prefetch: dict[str, int] = {}
        self._holds: dict[str, str] = {}
        self._returned: dict[int, int] = {}
        self._waiting: dict[str, list[deque[Delivery]]] = {}
        self._expected = 0
        self._taken = False
        self._enough = self._renewed = monotonic()

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, so that a wrong URL is told at once. Raises BrokerUnavailable."""
        super().open(emit)
        with self._talking():
            pass

    def _connect(self) -> Link:
        self._forget()
        self._hold_from = monotonic() + HOLD_SETTLES if self._connected_before else 0.0
        self._forgives_until = monotonic() + FORGIVES if self._connected_before else 0.0
        self._settled.clear()
        link = super()._connect()
        self._connected_before = True
        link.allowed = self._allowed
        self._astray = {one.envelope.queue for one in self._held.values()}
        return link

    def _drop(self) -> None:
        if self._link is not None:  # what the server allows it will allow over the next connection too
            self._allowed = self._link.allowed
        super()._drop()

    # -- claiming ---------------------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the best of the first queue first."""
        until = monotonic() + wait
        with self._talking_surely() as link:
            self._keep_up(link, queues, room)
            self._await_backlog(link)
            while True:
                link.ack_confirmed()
                self._sort(link)
                claimed = self._take(link, queues, room)
                left = until - monotonic()
                if claimed or link.woken or left <= 0:
                    link.woken = False
                    return claimed
                link.pump(left)

    def _await_backlog(self, link: Link) -> None:
        """Wait for what the server said was there: else the best could come after what happened to come first."""
        until = monotonic() + BACKLOG_WAIT
        while len(link.inbox) < self._expected and monotonic() < until:
            link.pump(until - monotonic())
        self._expected = 0

    def _sort(self, link: Link) -> None:
        """Put what has come in line; put off what is early."""
        early: list[tuple[Delivery, float]] = []
        now = time()
        while link.inbox:
            message = link.inbox.popleft()
            place = self._consumers.get(message.consumer)
            if place is None:
                self._returned[_count(message, _SERIAL)] = message.tag
                continue
            delivery = _delivery(link, message, *place, forgiven=self._forgives(message))
            if not self._is_new(link, delivery):
                continue
            due = _count(message, _DUE) / 1000
            if due > now:
                early.append((delivery, due))
            else:
                self._waiting[place[0]][9 - place[1]].append(delivery)
        if early:
            link.publish([_task(link, one.envelope, due=due, starts=one.starts) for one, due in early])
            link.ack([one.token.tag for one, _ in early])

    def _forgives(self, message: _Message) -> bool:
        """Whether that a task was delivered before is no sign that a worker died: after an outage it says nothing.

        What went back to a queue with a connection comes first, so this ends with the first that is new.
        """
        if not message.redelivered:
            self._settled.add(message.consumer)
            return False
        return monotonic() < self._forgives_until and message.consumer not in self._settled

    def _is_new(self, link: Link, delivery: Delivery) -> bool:
        """Whether this worker does not hold that task already: from a lost connection, or since it was sent twice."""
        held = self._held.get(_key(delivery.envelope))
        if held is None or not delivery.envelope.id:
            return True
        if held.link is link:
            link.ack([delivery.token.tag])
        else:
            held.link, held.tag = link, delivery.token.tag
        return False

    def _take(self, link: Link, queues: Sequence[str], room: int) -> list[Delivery]:
        claimed: list[Delivery] = []
        for queue in queues:
            for line in self._waiting.get(queue, ()):
                while line and len(claimed) < room:
                    delivery = line.popleft()
                    if self._is_new(link, delivery):
                        self._held[_key(delivery.envelope)] = delivery.token
                        claimed.append(delivery)
        self._taken = self._taken or bool(claimed)
        return claimed

    def _keep_up(self, link: Link, queues: Iterable[str], room: int) -> None:
        """Subscribe to as much as can be run, renew what was held long, give back what was fetched in vain."""
        now = monotonic()
        want = min(PREFETCH_MOST, max(1, room + len(self._held) + link.unconfirmed))
        if room > 0 or self._astray:
            # What still runs here went back to its queue with the last connection: it may come to this worker again.
            queues, self._astray = {*queues, *self._astray} if self._astray else queues, set()
            for queue in queues:
                if queue not in self._prefetch:
                    self._subscribe(link, queue, want)
                elif want > self._prefetch[queue]:
                    self._subscribe(link, queue, min(PREFETCH_MOST, 2 * want))
        self._renew(link, now)
        self._share(link, want, now)

    def _renew(self, link: Link, now: float) -> None:
        """Have what was kept long delivered anew, before the server takes offence."""
        safe = link.kept_safely()
        if now - self._renewed < safe / 10:
            return
        self._renewed = now
        held = [one for one in self._held.values() if self._is_ours(one) and now - one.since > safe]
        if held:
            link.probe()
            self._move(held)
        lines = [line for lines in self._waiting.values() for line in lines]
        waiting: list[_Claim] = []
        for line in lines:
            while line and now - line[0].token.since > safe:
                waiting.append(line.popleft().token)
        self._put_back(link, waiting)

    def _share(self, link: Link, want: int, now: float) -> None:
        """Put back what was fetched and cannot be run soon; fetch no more until there is room. Others may have it."""
        waiting = sum(len(line) for lines in self._waiting.values() for line in lines)
        if waiting == 0 or (self._taken and waiting <= want):
            self._enough, self._taken = now, False
        elif now - self._enough > SURPLUS_AFTER:
            self._enough = now
            self._unsubscribe(link)
            self._put_back(link, self._unstarted(link))

    def _subscribe(self, link: Link, queue: str, prefetch: int) -> None:
        """Consume from the queues of all priorities, the best first; the prefetch of a consumer cannot be changed."""
        self._prefetch[queue] = prefetch
        old = self._tags.get(queue, [])
        new = self._tags[queue] = []
        self._waiting.setdefault(queue, [deque() for _ in PRIORITIES])
        link.prefetch(prefetch)
        for priority in PRIORITIES:
            name, ready = _declare_tasks(link, queue, priority)
            self._numbers += 1
            tag = f"t{self._numbers}"
            self._consumers[tag] = (queue, priority)
            self._expected += min(ready, prefetch)
            new.append(tag)
            link.consume(name, tag)
        for tag in old:
            link.cancel(tag, wait=False)

    def _unsubscribe(self, link: Link) -> None:
        """Get no more tasks, until the next claim that has room."""
        for tags in self._tags.values():
            for tag in tags:
                link.cancel(tag)
        self._tags.clear()
        self._prefetch.clear()

    def _unstarted(self, link: Link) -> list[_Claim]:
        """Take out all that was fetched and not claimed."""
        self._sort(link)
        lines = [line for lines in self._waiting.values() for line in lines]
        claims = [one.token for line in lines for one in line]
        for line in lines:
            line.clear()
        return claims

    @staticmethod
    def _put_back(link: Link, claims: list[_Claim]) -> None:
        """Publish copies, which are suspects only if they were: what is rejected looks like what a dead worker had."""
        claims.sort(key=lambda claim: claim.tag)
        link.publish([_task(link, one.envelope, due=None, starts=one.starts, suspect=one.suspect) for one in claims])
        link.ack([one.tag for one in claims])

    # -- settling ---------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Publish reports and what is to come again; when that is confirmed, acknowledge. Return the stale ones.

        It does not wait for the confirms of reports: if they do not come, the server gives the tasks to another.
        """
        if not settlements:
            return []
        good = [one for one in settlements if self._is_ours(one.delivery.token)]
        if good:
            with self._talking_surely() as link:
                if any(one.verdict is Verdict.RETURN for one in good):  # who returns tasks does not want them again
                    self._unsubscribe(link)
                    self._put_back(link, self._unstarted(link))
                messages = _packs(link, [report for one in good for report in one.reports])
                again = [self._again(link, one) for one in good if one.verdict is not Verdict.ACK]
                again += [_task(link, task, due=task.due) for one in good for task in one.sends]
                link.publish_then_ack(messages + again, [one.delivery.token.tag for one in good])
                if again:
                    link.wait_for_confirms()
        for one in settlements:
            claim: _Claim = one.delivery.token
            claim.tag = 0
            if self._held.get(_key(claim.envelope)) is claim:
                del self._held[_key(claim.envelope)]
        if len(good) == len(settlements):
            return []
        kept = {id(one) for one in good}
        return [one for one in settlements if id(one) not in kept]

    def _is_ours(self, claim: _Claim) -> bool:
        return claim.tag != 0 and claim.link is self._link

    @staticmethod
    def _again(link: Link, one: Settlement) -> tuple[str, bytes, bytes]:
        """Make a copy of a task that is to come again."""
        envelope = one.delivery.envelope
        if one.frame is not None:
            envelope.frame = one.frame
        due = one.due if one.verdict is Verdict.LATER else None
        # A task with a new frame has run to its end here; any other is what it was when it came.
        suspect = one.delivery.suspect and one.frame is None
        return _task(link, envelope, due=due, starts=one.delivery.starts, suspect=suspect)

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on."""
        if not reports:
            return
        with self._talking_surely() as link:
            link.publish(_packs(link, reports))

    # -- suspects ---------------------------------------------------------------------------------------------

    def starting(self, delivery: Delivery) -> int:
        """Record a start: the task moves to a queue of this worker's, and from there back if the worker dies."""
        self.starting_all([delivery])
        return delivery.starts

    def starting_all(self, deliveries: Sequence[Delivery]) -> None:
        """Record the starts of several: they move together."""
        ours = [delivery for delivery in deliveries if self._is_ours(delivery.token)]
        for delivery in ours:
            delivery.token.starts = delivery.starts + 1
        try:
            self._move([delivery.token for delivery in ours])
        except BrokerUnavailable as error:
            # The claims went with the connection, and others get the tasks: what comes of them here is stale.
            for delivery in ours:
                self._emit(30, "start.unrecorded", f"{delivery.envelope.name} {delivery.envelope.id}: {error}")
            return
        for delivery in ours:
            delivery.starts = delivery.token.starts

    def _move(self, claims: Sequence[_Claim]) -> None:
        """Exchange claims for claims on copies in queues that are this worker's alone."""
        if not claims:
            return
        with self._talking_surely() as link:
            messages: list[tuple[str, bytes, bytes]] = []
            serials: dict[int, _Claim] = {}
            for claim in claims:
                self._numbers += 1
                serials[self._numbers] = claim
                messages.append(self._held_copy(link, claim, self._numbers))
            while (left := self._hold_from - monotonic()) > 0:
                link.pump(left)
            link.publish(messages)
            until = monotonic() + PATIENCE
            self._sort(link)
            while not all(serial in self._returned for serial in serials):
                if monotonic() > until:
                    raise _LostError("the server did not deliver what it took")
                link.pump(1.0)
                self._sort(link)
            link.ack([claim.tag for claim in claims])
            link.write(b"")  # at once: what comes of it may end this process
            for serial, claim in serials.items():
                claim.tag = self._returned.pop(serial)
                claim.since = monotonic()

    def _held_copy(self, link: Link, claim: _Claim, serial: int) -> tuple[str, bytes, bytes]:
        envelope = claim.envelope
        target = task_queue(envelope.queue, envelope.priority)
        name = self._holds.get(target)
        if name is None:
            name = self._holds[target] = _fitting(f"dingo.hold.{self._name}.{target}")
            link.declare(
                name,
                {
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": target,
                    "x-message-ttl": int(HOLD_TTL * 1000),
                    "x-expires": int(HOLD_EXPIRES * 1000),
                },
            )
            link.prefetch(0)
            link.consume(name, f"h{len(self._holds)}")
        headers = {_STARTS: claim.starts, _SUSPECT: True, _SERIAL: serial}
        return name, _properties(envelope.id, envelope.name, envelope.reply, headers=headers), envelope.frame

    # -- the end ----------------------------------------------------------------------------------------------

    def tend(self) -> list[Any]:
        """Return nothing: the connection says whether this worker lives, and nobody can ask for calls to be stopped."""
        return []

    def close(self) -> None:
        """Put back what was claimed or fetched, and close the connection."""
        self.wake()
        if self._link is not None:
            with contextlib.suppress(BrokerUnavailable), self._talking_surely() as link:
                link.wait_for_confirms()
                self._unsubscribe(link)
                self._put_back(link, [*filter(self._is_ours, self._held.values()), *self._unstarted(link)])
        self._held.clear()
        self._forget()
        super().close()


class AmqpReporter(AmqpWorker):
    """Reporter alone, where the tasks go another way: nothing is lost with its connection, so it needs no heartbeat."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, 0.0, connect_seconds)
        self._heartbeat = 0


def _count(message: _Message, header: str) -> int:
    """Return a number from the headers; whoever may publish may also have written nonsense."""
    value = message.headers.get(header, 0)
    return value if type(value) is int and value >= 0 else 0


def _key(envelope: Envelope) -> tuple[str, str]:
    return envelope.name, envelope.id


def _delivery(link: Link, message: _Message, queue: str, priority: int, *, forgiven: bool) -> Delivery:
    starts = _count(message, _STARTS)
    suspect = (message.redelivered and not forgiven) or _SUSPECT in message.headers
    envelope = Envelope(queue, message.id, message.name, message.body, priority, None, message.reply)
    return Delivery(envelope, _Claim(link, message.tag, envelope, monotonic(), suspect, starts), suspect, starts)


def _packs(link: Link, reports: Sequence[ReportEnvelope]) -> list[tuple[str, bytes, bytes]]:
    """Put reports for the same caller into one message, unless it grows too large."""
    lines: dict[str, list[list[bytes]]] = {}
    sizes: dict[str, int] = {}
    for one in reports:
        if not one.reply:
            continue
        packs = lines.setdefault(one.reply, [[]])
        size = sizes.get(one.reply, 0) + len(one.frame)
        if size > PACK_LIMIT and packs[-1]:
            packs.append([])
            size = len(one.frame)
        sizes[one.reply] = size
        packs[-1].append(one.frame)
    properties = _properties()
    return [
        (queue, properties, pack(frames))
        for reply, packs in lines.items()
        for queue in (_declare_reply(link, reply),)
        for frames in packs
    ]


class AmqpStore(_Part):
    """Gets reports. It can look nothing up: RabbitMQ hands messages on and keeps none."""

    apart = True

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, connect_seconds)
        self._replies: dict[str, str] = {}
        self._packs: dict[str, list[_Message]] = {}

    def _connect(self) -> Link:
        self._replies, self._packs = {}, {}
        return super()._connect()

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address."""
        until = monotonic() + wait
        with self._talking_surely() as link:
            self._listen(link, reply)
            while True:
                while link.inbox:
                    message = link.inbox.popleft()
                    self._packs[self._replies[message.consumer]].append(message)
                packs, self._packs[reply] = self._packs[reply], []
                link.ack([one.tag for one in packs])
                left = until - monotonic()
                if packs or link.woken or left <= 0:
                    link.woken = False
                    return [one.body for one in packs]
                link.pump(left)

    def _listen(self, link: Link, reply: str) -> None:
        queue = _declare_reply(link, reply)
        if reply not in self._packs:
            self._packs[reply] = []
            tag = f"r{len(self._replies)}"
            self._replies[tag] = reply
            link.prefetch(PREFETCH_MOST)
            link.consume(queue, tag)

    def close(self) -> None:
        """Delete the reply queues, unless there are still reports for somebody, and close the connection."""
        self.wake()
        if self._link is not None:
            with contextlib.suppress(BrokerUnavailable), self._talking_surely() as link:
                for tag, reply in self._replies.items():
                    link.cancel(tag)
                    link.channel.queue_delete(_reply_queue(reply), if_unused=True, if_empty=True)
        super().close()

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Raise NotAttached."""
        del id, name
        raise NotAttached(_NO_STORE.format(what="look up a call"))

    def forget(self, id: str, name: str | None) -> bool:
        """Raise NotAttached."""
        del id, name
        raise NotAttached(_NO_STORE.format(what="forget a result"))

    def cancel(self, id: str, name: str) -> bool | None:
        """Raise NotAttached."""
        del id, name
        raise NotAttached(_NO_STORE.format(what="cancel a call that was sent"))

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """Raise NotAttached."""
        del state, queue
        raise NotAttached(_NO_STORE.format(what="list calls"))
