"""A connection with one channel: messages out, confirmed, and messages in, acknowledged, in batches."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.kombu.amqp.connection import CONNECT_SECONDS, PATIENCE
from dingo.kombu.amqp.errors import ERRORS, LostError, UnconfirmedError, answering_for, said
from dingo.kombu.amqp.frames import (
    ACK,
    ANSWER,
    CHANNEL_CLOSE,
    CONFIRMED,
    CONTENT,
    DELIVER,
    END,
    HEAD,
    METHOD,
    REFUSED,
    RETURNED,
    Message,
    closed,
    reason,
)
from dingo.kombu.amqp.probe import Probe
from dingo.kombu.amqp.properties import read_properties, short, write_properties
from dingo.kombu.amqp.queues import KNOWN, REPLY, Queues
from dingo.kombu.amqp.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dingo.kombu.amqp.address import Address

# The channels: of everything, of the probe, and of what may be refused.
_MAIN, _PROBE, _TRIAL = 1, 2, 3

_UNCONFIRMED = "the server has not confirmed anything for {seconds:.0f} s"

# Queue, properties and body of a message to be sent.
Outgoing = tuple[str, bytes, bytes]


class Link(Wire):
    """A connection with one channel, used by one thread at a time. What comes in is put in `inbox`."""

    def __init__(self, address: Address, wake_fd: int, blocked: Callable[[str], None], heartbeat: int,
                 connect_seconds: float = CONNECT_SECONDS) -> None:  # fmt: skip
        super().__init__(address, wake_fd, blocked, heartbeat, connect_seconds)
        self.inbox: deque[Message] = deque()
        self.probe = Probe()
        self._rest = b""
        self._coming: tuple[str, int, bool] = ("", 0, False)
        self._properties: tuple[int, bytes] = (0, b"")
        self._left = 0
        self._body: list[bytes] = []
        self._number = self._confirmed_to = 0
        self._unconfirmed: set[int] = set()
        self._deferred: deque[tuple[range, list[int], float]] = deque()
        self._out: dict[int, None] = {}
        self._routes: dict[str, bytes] = {}
        try:
            self._connect()
            self._channel: Any = self._connection.channel(_MAIN)
            self._channel.confirm_select()
        except BaseException:
            self.abandon()
            raise
        self._watch()
        self.queues = Queues(self._channel, lambda: self._connection.channel(_TRIAL), address.queue_type)

    # -- what comes in --------------------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = HEAD.unpack_from(data, at)
            stop = at + 7 + size
            if stop >= end:
                break
            if data[stop] != 0xCE:
                raise LostError("the server sent something that is no frame")
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
            _, _, self._left, flags = CONTENT.unpack_from(data)
            self._properties = (flags, data[14:])
            self._body = []
        elif kind == 1:
            self._method(channel, data)
            return
        else:
            return  # a heartbeat
        if self._left == 0:
            consumer, tag, redelivered = self._coming
            id, name, reply, headers = read_properties(*self._properties)
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._out[tag] = None
            self.inbox.append(Message(consumer, tag, redelivered, body, id, name, reply, headers))

    def _method(self, channel: int, data: bytes) -> None:
        method = METHOD.unpack_from(data)
        if channel == _PROBE and method in {DELIVER, CHANNEL_CLOSE}:
            if method == CHANNEL_CLOSE:
                self.probe.learn(reason(data))
                self._corked.append(closed(_PROBE))
        elif method == DELIVER:
            end = 5 + data[4]
            self._coming = (data[5:end].decode(), int.from_bytes(data[end : end + 8]), bool(data[end + 8]))
        elif method in {CONFIRMED, REFUSED}:
            self._confirm(int.from_bytes(data[4:12]), multiple=bool(data[12] & 1), refused=method == REFUSED)
        elif method == RETURNED:
            raise LostError("a queue was deleted meanwhile")  # the next connection makes it again
        elif method == CHANNEL_CLOSE and channel != _TRIAL:
            self.probe.learn(reason(data))
            raise LostError(reason(data))
        elif method == ANSWER:
            self._watch()
        else:
            self._connection.on_inbound_frame((1, channel, data))

    def _confirm(self, number: int, *, multiple: bool, refused: bool) -> None:
        if refused:
            raise LostError("the server refused to take a message")
        if multiple:
            self._unconfirmed.difference_update(range(self._confirmed_to + 1, number + 1))
            self._confirmed_to = max(self._confirmed_to, number)
        else:
            self._unconfirmed.discard(number)

    # -- what goes out --------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Send messages, and return when the server has confirmed all of them."""
        if not messages:
            return
        first = self._number + 1
        try:
            self._publish(messages)
            self.wait_for_confirms()
        except ERRORS as error:
            uncertain = UnconfirmedError(said(error))
            uncertain.confirmed = [at for at in range(len(messages)) if first + at not in self._unconfirmed]
            raise uncertain from error

    def publish_then_ack(self, messages: Sequence[Outgoing], tags: list[int]) -> None:
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
                    raise LostError(_UNCONFIRMED.format(seconds=PATIENCE))
                break
            tags += waiting
            self._deferred.popleft()
        self.ack(tags)

    @property
    def unconfirmed(self) -> int:
        """How many messages wait to be acknowledged."""
        return sum(len(tags) for _, tags, _ in self._deferred)

    def _publish(self, messages: Sequence[Outgoing]) -> range:
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
        left, since = len(self._unconfirmed), monotonic()
        while self._unconfirmed:
            self.pump(1.0)
            if len(self._unconfirmed) < left:
                left, since = len(self._unconfirmed), monotonic()
            elif monotonic() - since > PATIENCE and not self.pump(0):
                raise LostError(_UNCONFIRMED.format(seconds=PATIENCE))
        self.ack_confirmed()

    def _put(self, parts: list[bytes], queue: str, properties: bytes, body: bytes) -> None:
        route = self._routes.get(queue)
        if route is None:
            route = self._route(queue)
        parts += (
            route, HEAD.pack(2, 1, len(properties) + 12), b"\0\x3c\0\0", len(body).to_bytes(8), properties, END,
        )  # fmt: skip
        most = self._connection.frame_max - 8
        for at in range(0, len(body), most):
            piece = body if len(body) <= most else body[at : at + most]
            parts += (HEAD.pack(3, 1, len(piece)), piece, END)

    def _route(self, queue: str) -> bytes:
        """Write what says where a message goes.

        A task for a queue that is gone comes back, and is sent again. A report may vanish with who waited for it.
        """
        if len(self._routes) > KNOWN:
            self._routes.clear()
        mandatory = b"\0" if queue.startswith(REPLY) else b"\1"
        method = METHOD.pack(60, 40) + b"\0\0\0" + short(queue) + mandatory
        route = self._routes[queue] = HEAD.pack(1, 1, len(method)) + method + END
        return route

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
        parts = [ACK.pack(1, 1, 13, 60, 80, together, 1, 0xCE)] if together else []
        parts += [ACK.pack(1, 1, 13, 60, 80, tag, 0, 0xCE) for tag in sorted(done) if tag > together]
        for tag in done:
            del self._out[tag]
        self._corked += parts

    def ack_surely(self, tags: Iterable[int]) -> None:
        """Let the server forget messages, and return when it has: what was only sent goes with the connection."""
        self.ack(tags)
        self.prefetch(0)  # whatever is answered over the same channel is answered after that

    # -- consumers ------------------------------------------------------------------------------------------------

    def prefetch(self, count: int) -> None:
        """Let the consumers made from now on have so many unacknowledged messages each (0: any number)."""
        self._channel.basic_qos(0, count, False)

    def consume(self, queue: str, tag: str) -> None:
        """Have the messages of a queue sent here."""
        # No answer comes where RabbitMQ 3.10 was killed seconds after the queue was made: only deleting it helps.
        with answering_for(queue):
            self._channel.basic_consume(queue, tag, callback=_nothing)

    def cancel(self, tag: str, *, wait: bool = True) -> None:
        """Get no more of them. With `wait`, what was on its way has come."""
        self._channel.basic_cancel(tag, nowait=not wait)

    def begin_probe(self) -> None:
        """Find out how long a message may be kept, unless that is known or a probe runs."""
        if self.probe.is_needed:
            channel = self._connection.channel(_PROBE)
            queue: str = channel.queue_declare("", exclusive=True).queue
            channel.basic_consume(queue, callback=_nothing)
            self.publish([(queue, write_properties(), b"")])
            self.probe.begin()


def _nothing(_message: Any) -> None:
    """Stand where py-amqp wants a callback: what comes in never gets there."""
