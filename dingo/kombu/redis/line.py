"""Waiting for Redis: blocking commands on a connection of their own, which another thread can wake."""

from __future__ import annotations

import contextlib
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

import redis

from dingo.errors import BrokerUnavailable

if TYPE_CHECKING:
    from dingo.kombu.redis.server import Server

# How long a blocking command waits in the server, and how much later its answer may come (seconds).
BLOCK = 5
GRACE = 5.0

WOKEN: Any = object()
FORGOTTEN: Any = object()


class Line:
    """A connection for blocking commands, whose wait another thread can end.

    A command stays in the server when the wait for it ends, and the next wait goes on with it. Nothing is asked
    of the server to end a wait, so that to wake costs the one who wakes no round trip. What is to be done when the
    answer has come may be sent along with the command: the server then does it at once.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: Any = None
        self.asked: tuple[Any, ...] | None = None
        """The command whose answer has not come."""
        self._answers = 0  # how many are to come
        self._until = 0.0
        self._hears, self._rings = socket.socketpair()
        self._hears.setblocking(False)
        self._rings.setblocking(False)

    def wake(self) -> None:
        """End the wait that is, or the next. Any thread may call it."""
        with contextlib.suppress(OSError):  # full: rung often enough; closed: nobody waits
            self._rings.send(b"!")

    def wait(self, command: tuple[Any, ...] | None, seconds: float, then: tuple[Any, ...] | None = None) -> Any:
        """Wait for the answer to a command (None: to the one that was asked, if any) for so many seconds.

        Returns WOKEN after `wake`, None if nothing came. With `then`, a command that is sent right behind, returns
        that one's answer: FORGOTTEN if it is a script that the server does not know. Raises BrokerUnavailable.
        """
        try:
            with self._server.errors():
                if command is not None and command != self.asked:
                    self._ask(command, then)
                return self._listen(seconds)
        except BrokerUnavailable:
            self.drop()
            raise

    def _ask(self, command: tuple[Any, ...], then: tuple[Any, ...] | None) -> None:
        if self.asked is not None:
            self.drop()
        if self._connection is None:
            self._connection = self._server.pool.connection_class(**self._server.pool.connection_kwargs)
            self._connection.connect()
        commands = [command] if then is None else [command, then]
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        self.asked, self._answers = command, len(commands)
        self._until = monotonic() + BLOCK + GRACE

    def _listen(self, seconds: float) -> Any:
        poll = select.poll()
        poll.register(self._hears, select.POLLIN)
        if self.asked is not None:
            poll.register(self._connection._sock, select.POLLIN)
        ready = {one for one, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self._hears.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                while self._hears.recv(4096):
                    pass
            return WOKEN
        if ready:
            return self._read()
        if self.asked is not None and monotonic() > self._until:
            raise redis.TimeoutError("the server does not answer")
        return None

    def _read(self) -> Any:
        """Return the last answer to what was asked."""
        try:
            for _ in range(self._answers):
                answer = self._connection.read_response()
        except redis.exceptions.NoScriptError:
            answer = FORGOTTEN
        self.asked = None
        return answer

    def drop(self) -> None:
        """Close the connection; the next command makes a new one."""
        connection, self._connection, self.asked = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(redis.RedisError, OSError):
                connection.disconnect()

    def close(self) -> None:
        """Let go of everything."""
        self.drop()
        self._hears.close()
        self._rings.close()
