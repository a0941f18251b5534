"""Channel: how reports and events reach those who listen, in threads and on event loops alike.

Written by any thread or loop with `put`, which never blocks; read with `get` / `for` by a thread or `aget` /
`async for` on an event loop; ended by `close`, after which readers still get what it holds. Whoever makes a
channel owns it and closes it.

The items wait in a deque, whose append and popleft are atomic. Waking a reader is the costly part (a thread
switch, or a write to a loop's self-pipe), so it happens once for all that came while the reader slept: a
reader that finds nothing arms the channel and waits at a janus queue, which threads can ring for a loop; the next
`put` disarms it and rings. A janus queue is bound to one loop, so the readers of each loop have one of their own.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

from dingo.blocking import HAS_GIL, away, away_on_loop
from dingo.errors import ChannelClosed

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Iterator

    import janus

T = TypeVar("T")


class _Bell:
    """Where the readers of one loop wait, or those in threads."""

    __slots__ = ("queue", "readers")

    def __init__(self) -> None:
        import janus  # noqa: PLC0415 - most programs never listen, and it brings asyncio along

        self.queue: janus.Queue[None] = janus.Queue()
        self.readers = 0


class Channel(Generic[T]):
    """A channel of items for one listener. `maxsize` 0: unbounded; else the newest are dropped when full."""

    def __init__(self, maxsize: int = 0) -> None:
        self._items: deque[T] = deque()
        self._maxsize = maxsize
        self._lock = threading.Lock()
        self._bells: dict[asyncio.AbstractEventLoop | None, _Bell] = {}  # by loop; of threads: None
        self._armed = False
        self._closed = False
        self.dropped = 0
        """How many items were lost because the listener was slower than what it listens to."""

    def __bool__(self) -> bool:
        """A channel is something, also when nothing waits in it."""
        return True

    def __len__(self) -> int:
        """Return how many items wait to be read."""
        return len(self._items)

    @property
    def closed(self) -> bool:
        """Whether nothing more can be put. What it still holds can be read."""
        return self._closed

    @property
    def full(self) -> bool:
        """Whether the next item would be dropped."""
        return 0 < self._maxsize <= len(self._items)

    def put(self, item: T) -> bool:
        """Add an item; never blocks. False when it was dropped (full or closed)."""
        if self._closed or 0 < self._maxsize <= len(self._items):
            if HAS_GIL:
                self.dropped += 1  # the interpreter switches threads at calls and jumps: not in the middle of this
            else:
                with self._lock:
                    self.dropped += 1
            return False
        self._items.append(item)
        if self._armed:
            self._ring()
        return True

    def close(self) -> None:
        """End the channel. Idempotent; wakes all readers."""
        with self._lock:
            self._closed = True
        self._ring()

    def get(self, timeout: float | None = None) -> T:
        """Return the next item, waiting up to `timeout` seconds (None: for ever).

        Raises TimeoutError when none came, ChannelClosed after the last one.
        """
        until = None if timeout is None else monotonic() + timeout
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                self._wait_in_thread(until)

    async def aget(self) -> T:
        """Return the next item on an event loop. Raises ChannelClosed after the last one."""
        while True:
            try:
                return self._items.popleft()
            except IndexError:
                await self._wait_on_loop()

    def __iter__(self) -> Iterator[T]:
        """Read until the end."""
        try:
            while True:
                yield self.get()
        except ChannelClosed:
            return

    async def __aiter__(self) -> AsyncIterator[T]:
        """Read until the end, on an event loop."""
        try:
            while True:
                yield await self.aget()
        except ChannelClosed:
            return

    # A reader arms the channel first and looks at the items after; a writer does the reverse. So one of them
    # sees the other. (Appending, popping and storing one attribute are atomic; on a build without the GIL the
    # per-object locks of deque order them.)

    def _arm(self, loop: asyncio.AbstractEventLoop | None) -> _Bell | None:
        """Get ready to wait. None where there is something to read, or an end to notice, already."""
        with self._lock:
            bell = self._bells.get(loop)
            if bell is None:
                bell = self._bells[loop] = _Bell()
            self._armed = True
            if self._items:
                return None
            if self._closed:
                raise ChannelClosed("the channel has ended")
            bell.readers += 1
            return bell

    def _wait_in_thread(self, until: float | None) -> None:
        from queue import Empty  # noqa: PLC0415 - as above

        bell = self._arm(None)
        if bell is None:
            return
        try:
            with away():
                bell.queue.sync_q.get(timeout=None if until is None else max(0.0, until - monotonic()))
        except Empty:
            if not self._items:
                raise TimeoutError("nothing came in time") from None
        finally:
            self._left(bell)

    async def _wait_on_loop(self) -> None:
        import asyncio  # noqa: PLC0415 - whoever comes here has it

        bell = self._arm(asyncio.get_running_loop())
        if bell is None:
            return
        try:
            with away_on_loop():
                await bell.queue.async_q.get()
        finally:
            self._left(bell)

    def _left(self, bell: _Bell) -> None:
        with self._lock:
            bell.readers -= 1

    def _ring(self) -> None:
        with self._lock:
            self._armed = False
            for loop, bell in tuple(self._bells.items()):
                if loop is not None and loop.is_closed():  # under its readers, if it had any
                    del self._bells[loop]
                    continue
                with contextlib.suppress(RuntimeError):  # closed just now
                    for _ in range(bell.readers):
                        bell.queue.sync_q.put_nowait(None)
