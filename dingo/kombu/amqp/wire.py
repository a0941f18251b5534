"""Bytes to and from a server, on a connection that py-amqp has made, and signs of life."""

from __future__ import annotations

import contextlib
import math
import os
import select
import ssl
import weakref
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.kombu.amqp.connection import PATIENCE, Connection
from dingo.kombu.amqp.errors import ERRORS, LostError
from dingo.kombu.amqp.frames import HEARTBEAT_FRAME, QUESTION

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.kombu.amqp.address import Address

# The server gives up who is silent for two to three heartbeats; what has crashed it notices at once. A worker's is
# half its lease, so that what it had is taken over between one lease and one and a half. This is a caller's (seconds).
HEARTBEAT = 10
# This side speaks so often in a heartbeat, and gives the server up after so many of its.
SPEAK, SILENCE = 3, 1.5
# Who waits for messages asks so often whether the channel still answers (seconds): a connection may send heartbeats
# whose channel hangs, and those of a long lease are far between.
ASK = 10.0
# How much is read at once. From 128 KiB on, memory is mapped and unmapped for each read, at ten times its cost (bytes).
READ = 1 << 16

_DUMB = "the server lives, and does not answer on its channel"


class Wire:
    """A connection, used by one thread at a time. Who builds on it says what comes of what comes in (`_parse`)."""

    def __init__(self, address: Address, wake_fd: int, blocked: Callable[[str], None], heartbeat: int,
                 connect_seconds: float) -> None:  # fmt: skip
        self.woken = False
        self._wake_fd = wake_fd
        self._unread: deque[bytes] = deque()
        self._corked: list[bytes] = []
        self._ready = False
        self._spoken = self._heard = monotonic()
        self._asks_at = self._answers_by = math.inf
        self._connection: Any = Connection(address, connect_seconds, heartbeat, blocked, output=self)
        # py-amqp's own calls wait in here too, so that nothing is read past us.
        self._connection.blocking_read = self._read_for_amqp  # type: ignore[method-assign, unused-ignore]

    def _parse(self, data: bytes) -> None:
        raise NotImplementedError

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
        self._spoken = since = monotonic()
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view[: 1 << 18]) :]
                since = monotonic()
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if monotonic() - since > PATIENCE:
                    raise LostError(f"the server has not read for {PATIENCE:.0f} s") from None
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
            raise LostError("the server closed the connection")
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
        """Wait for input until the answer to what was asked last is overdue: heartbeats and messages are none."""
        until = self._connection.asked + (PATIENCE if timeout is None else timeout)
        while not self.pump(max(0.0, until - monotonic())):
            if monotonic() >= until:
                raise TimeoutError("the server does not answer")
        return True

    # -- signs of life ----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """From now on ask from time to time whether the channel answers."""
        self._asks_at, self._answers_by = monotonic() + ASK, math.inf

    def _tick(self, seconds: float) -> float:
        """Say that this side lives, and look whether the other does; return how long to wait at most until the next."""
        heartbeat: float = self._connection.heartbeat or 0.0
        if not heartbeat:
            return seconds
        now = monotonic()
        if now - self._spoken >= heartbeat / SPEAK:
            self.write(HEARTBEAT_FRAME)
        if now >= self._asks_at:
            self._asks_at, self._answers_by = math.inf, now + PATIENCE
            self.write(QUESTION)
        silent, dumb = now - self._heard > heartbeat * SILENCE, now > self._answers_by
        # Where this process was frozen, what the server said meanwhile has not been read yet.
        if (silent or dumb) and not self._receive():
            raise LostError(f"the server has been silent for {now - self._heard:.0f} s" if silent else _DUMB)
        return min(seconds, heartbeat / SPEAK)

    # -- the ends ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self._connection.connect()
        _wires.add(self)

    def close(self) -> None:
        """Say goodbye, as far as somebody listens."""
        with contextlib.suppress(*ERRORS):
            self._connection.close()
        self.abandon()

    def disown(self) -> None:
        """In the child of a fork: let go of the connection without a word, so that the parent's goes on."""
        _wires.discard(self)
        transport = self._connection.transport
        sock, transport.sock = transport.sock, None
        if sock is not None:
            os.close(sock.detach())

    def abandon(self) -> None:
        """Drop the connection."""
        _wires.discard(self)
        self._connection.collect()


_wires: weakref.WeakSet[Wire] = weakref.WeakSet()


def _after_fork() -> None:
    for wire in tuple(_wires):
        wire.disown()


os.register_at_fork(after_in_child=_after_fork)
