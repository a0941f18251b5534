"""Aside: a thread for users' callbacks, where the thread that has them to call must not be held up.

A worker thread calls the callbacks of what it ran itself. Event loops, the timer and the thread that cancels or
closes hand them to this thread, so that a slow callback slows none of them.
"""

from __future__ import annotations

import threading
from _queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from dingo.blocking import here

if TYPE_CHECKING:
    from collections.abc import Callable


class Aside:
    """One thread, started by the first thing there is to do, that does one after the other."""

    def __init__(self, hub: object = None) -> None:
        self._hub = hub
        self._queue: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def do(self, fn: Callable[..., object], *args: Any) -> None:
        """Have `fn(*args)` called soon. It must not raise."""
        self._queue.put((fn, args))
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="dingo-callbacks", daemon=True)
                    self._thread.start()

    def close(self, timeout: float | None) -> bool:
        """Finish what there is to do, for up to `timeout` seconds; whether that was enough."""
        self._closed = True
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        self._queue.put(None)
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self) -> None:
        here.hub = self._hub
        while True:
            entry = self._queue.get()
            if entry is not None:
                fn, args = entry
                fn(*args)
                del entry, fn, args
            if self._closed and self._has_ended():
                return

    def _has_ended(self) -> bool:
        """Whether nothing is left to do: what is done may bring more. What comes later starts another thread."""
        with self._lock:
            thread, self._thread = self._thread, None  # before the look: who has put something sees this, or is seen
            if self._queue.empty():
                return True
            self._thread = thread
            return False
