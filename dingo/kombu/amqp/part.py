"""What the components share: a connection that is made when it is needed, and a way to be woken."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

from dingo.errors import BrokerUnavailable, SendUncertain
from dingo.kombu.amqp.address import Address
from dingo.kombu.amqp.connection import CONNECT_SECONDS
from dingo.kombu.amqp.errors import ERRORS, LostError, UnconfirmedError, said
from dingo.kombu.amqp.link import Link
from dingo.kombu.amqp.wire import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Part:
    """A component. One thread uses it; `wake` and `close` may come from others."""

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
        except UnconfirmedError as error:
            self._drop()
            raise SendUncertain(f"{self._address.url}: {error}") from error
        except ERRORS as error:
            self._drop()
            raise BrokerUnavailable(f"{self._address.url}: {said(error)}") from error
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
            raise LostError("the component is closed")
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
