"""The Herald over RabbitMQ: one exchange that reaches all workers, and a queue for each who wants answers.

    dingo.fleet     a fanout exchange: wishes, and roll calls, to the exclusive queue of each worker
    dingo.wishing   another, to the queues of those who wish for something: a worker that begins asks them
    (unnamed)       exclusive queues of workers, of listeners and of who calls the roll; each goes with its connection

RabbitMQ keeps nothing to look into, so workers are found by a roll call: each answers with its card when it next
looks. News go straight to the queues of those who wished for them. py-amqp alone does all of it: it is rare.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.errors import BrokerUnavailable
from dingo.kombu.amqp.address import Address
from dingo.kombu.amqp.plain import message, plain_connection, speaking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXCHANGE, WISHING = "dingo.fleet", "dingo.wishing"
# How long it waits for workers to answer a roll call; they look about once a second (seconds).
ROLL_SECONDS = 3.0
# How many messages wait for one of us; the oldest go.
_MOST = 200
_WISH, _ROLL, _ASK = "wish", "roll", "ask"
# How long a worker that begins waits for the wishes of those who have some (seconds).
ASK_SECONDS = 0.5
# The shortest wait for input that py-amqp knows as one (seconds).
_INSTANT = 0.01


class _Desk:
    """A connection with a queue of its own, made when it is needed, for one thread at a time.

    `exchange`: what its queue is bound to, besides being known by its name.
    """

    def __init__(self, address: Address, connect_seconds: float, exchange: str = "") -> None:
        self._address = address
        self._connect_seconds = connect_seconds
        self._exchange = exchange
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._connection: Any = None
        self._inbox: list[Any] = []
        self._pipe: tuple[socket.socket, socket.socket] | None = None

    def _mine(self) -> threading.Lock:
        """Return the lock. In the child of a fork all else is the parent's: it is let go of without a word."""
        if self._process != os.getpid():
            self._begin()
        return self._lock

    def publish(self, exchange: str, queue: str, body: bytes, **properties: Any) -> None:
        """Send something; nobody has to get it. `answer=True`: answers are to come here."""
        with self._mine(), speaking(self._address):
            self._ready()
            if properties.pop("answer", False):
                properties["reply_to"] = self._queue
            self._try(lambda: self._channel.basic_publish(message(body, **properties), exchange, queue))

    def take(self, wait: float) -> list[Any]:
        """Return what has come; wait up to `wait` seconds for the first."""
        until = monotonic() + wait
        with self._mine(), speaking(self._address):
            self._ready()
            self._try(self._connection.heartbeat_tick)
            while len(self._inbox) < _MOST:
                left = _INSTANT if self._inbox else max(_INSTANT, until - monotonic())
                if not self._try(partial(self._drain, left)) and (self._inbox or monotonic() >= until):
                    break
            taken, self._inbox = self._inbox, []
            return taken

    def rest(self, seconds: float) -> bool:
        """Wait for so many seconds, or until something comes, or `wake`; whether something has come."""
        if self._pipe is None:
            self._pipe = socket.socketpair()
            for end in self._pipe:
                end.setblocking(False)
        connection = self._connection
        sources = [self._pipe[0]] if connection is None else [self._pipe[0], connection.transport.sock]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._pipe[0] in ready:
            self._pipe[0].recv(4096)
        return len(ready) > (self._pipe[0] in ready)

    def wake(self) -> None:
        """End a rest. Any thread may call it."""
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):  # rung often enough
                self._pipe[1].send(b"!")

    def _drain(self, wait: float) -> bool:
        try:
            self._connection.drain_events(timeout=wait)
        except TimeoutError:
            return False
        return True

    def _try(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except BaseException:
            self._drop()
            raise

    def _ready(self) -> None:
        if self._connection is None:
            self._connection = plain_connection(self._address, self._connect_seconds)
            self._try(self._declare)

    def _declare(self) -> None:
        self._channel = self._connection.channel()
        for exchange in (EXCHANGE, WISHING):
            self._channel.exchange_declare(exchange, "fanout", durable=False, auto_delete=False)
        self._queue = self._channel.queue_declare("", exclusive=True, arguments={"x-max-length": _MOST}).queue
        if self._exchange:
            self._channel.queue_bind(self._queue, self._exchange)
        self._channel.basic_consume(self._queue, no_ack=True, callback=self._got)
        if self._exchange == EXCHANGE:
            self._ask()

    def _ask(self) -> None:
        """Ask those who wish for something, if there are any, and wait for what they say."""
        returned: list[Any] = []
        asking = self._connection.channel()
        asking.confirm_select()
        asking.events["basic_return"].add(lambda *told: returned.append(told))
        question = message(b"", type=_ASK, reply_to=self._queue)
        asking.basic_publish_confirm(question, WISHING, "", mandatory=True)
        asking.close()
        until = monotonic() + ASK_SECONDS
        while not returned and (left := until - monotonic()) > 0:
            self._drain(max(_INSTANT, left))

    def _got(self, one: Any) -> None:
        self._inbox.append(one)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._inbox = []
        if connection is not None:
            connection.collect()

    def close(self) -> None:
        """Close the connection, and with it the queue."""
        with self._mine():
            if self._connection is not None:
                with contextlib.suppress(BrokerUnavailable), speaking(self._address):
                    self._connection.close()
            self._drop()
            pipe, self._pipe = self._pipe, None
            for end in pipe or ():
                end.close()


class AmqpHerald:
    """Carries what workers say of themselves."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        self._address = Address.of(url)
        self._connect_seconds = connect_seconds
        self._worker = _Desk(self._address, connect_seconds, EXCHANGE)
        self._listener = _Desk(self._address, connect_seconds, WISHING)
        self._card = b""
        self._wishes: dict[str, tuple[float, bytes]] = {}
        self._wished = (0.0, b"")

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. Connections are made when they are needed."""
        del emit

    def appear(self, owner: str, card: bytes, seconds: float) -> None:
        """Answer roll calls with a card, or no more."""
        del owner
        self._card = card if seconds > 0 else b""
        if seconds > 0:
            self._look()
        else:
            self._worker.close()

    def wishes(self) -> list[bytes]:
        """Return what listeners wish to hear."""
        self._look()
        return [wish for _, wish in self._wishes.values()]

    def rest(self, seconds: float) -> bool:
        """Let a worker wait until somebody wishes something, for so many seconds; whether that is so."""
        return self._worker.rest(seconds)

    def wake(self) -> None:
        """End that wait. Any thread may call it."""
        self._worker.wake()

    def _look(self) -> None:
        """Take note of wishes, and answer roll calls."""
        now = monotonic()
        for one in self._worker.take(0.0):
            queue, kind = str(one.properties.get("reply_to", "")), one.properties.get("type")
            if kind == _ROLL and self._card:
                self._worker.publish("", queue, self._card)
            elif kind == _WISH:
                self._wishes[queue] = (now + _seconds(one), _body(one))
        self._wishes = {queue: kept for queue, kept in self._wishes.items() if kept[0] > now}

    def tell(self, news: bytes) -> None:
        """Send news to each who wished for some."""
        for queue in self._wishes:
            self._worker.publish("", queue, news)

    def wish(self, listener: str, wish: bytes, seconds: float) -> None:
        """Let workers know what a listener wishes to hear."""
        del listener
        self._wished = (monotonic() + seconds, wish)
        self._wish(EXCHANGE, "")
        if seconds <= 0:
            self._listener.close()

    def _wish(self, exchange: str, queue: str) -> None:
        until, wish = self._wished
        holds = {"x-dingo-holds": max(0, int((until - monotonic()) * 1000))}
        self._listener.publish(exchange, queue, wish, type=_WISH, answer=True, application_headers=holds)

    def hear(self, listener: str, wait: float) -> list[bytes]:
        """Return the news that came since the last time, and tell workers that begin what is wished."""
        del listener
        news: list[bytes] = []
        for one in self._listener.take(wait):
            if one.properties.get("type") != _ASK:
                news.append(_body(one))
            elif self._wished[0] > monotonic():
                self._wish("", str(one.properties.get("reply_to", "")))
        return news

    def cards(self) -> Iterator[bytes]:
        """Call the roll, and yield the cards as they come in."""
        asker = _Desk(self._address, self._connect_seconds)
        try:
            asker.publish(EXCHANGE, "", b"", type=_ROLL, answer=True)
            until = monotonic() + ROLL_SECONDS
            while (left := until - monotonic()) > 0:
                for one in asker.take(left):
                    yield _body(one)
        finally:
            asker.close()

    def close(self) -> None:
        """Close the connections."""
        self._worker.close()
        self._listener.close()


def _body(one: Any) -> bytes:
    return one.body if isinstance(one.body, bytes) else str(one.body).encode()  # py-amqp makes text of no bytes


def _seconds(one: Any) -> float:
    """Return how long a wish holds; whoever may publish may also have written nonsense."""
    value = (one.properties.get("application_headers") or {}).get("x-dingo-holds")
    return min(value / 1000, 60.0) if type(value) is int and value > 0 else 0.0
