"""Room: how many tasks a worker claims from its broker.

As many as it can start, so that no other worker is idle while tasks wait here; short ones ahead, so that it need not
ask for each. Tasks on event loops take no thread: of those it has thousands. What a claim will bring is not known
before, so it is reckoned from what came: a worker of mostly async tasks claims many at once, any other few.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from dingo.worker.loops import LoopPool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dingo.bridge.local import AnyPool
    from dingo.config import Config

# A worker that knows how short its tasks are claims about this much work ahead (seconds), and at most so many tasks.
AHEAD_SECONDS = 0.05
AHEAD_MOST = 500
# How many tasks one event loop has at once.
ON_A_LOOP = 10_000
# How much one more task counts in the share of those that need a thread, and the least that share is taken for.
_WEIGHT, _LEAST_SHARE = 0.05, 1 / 256


class Room:
    """What a worker holds, and how much more it can take. Used by its I/O thread alone."""

    def __init__(self) -> None:
        self._blocking = 0  # how many it holds that need a thread or a process
        self._looping = 0  # how many that run on event loops
        self._share = 1.0  # how many of those that came needed a thread, smoothed
        self._in_one = 1.0  # how many tasks came in one message, smoothed
        self._mean: float | None = None  # how long one of those takes a thread at most, smoothed (seconds)
        self._settled_at = monotonic()
        self._each = 0.0  # how long the newest that were settled took a thread at most (seconds)
        self._threads = 1

    def take(self, count: int = 1, *, on_loop: bool) -> None:
        """Note that a message with so many tasks has come."""
        if on_loop:
            self._looping += count
        else:
            self._blocking += count
        self._in_one += (count - self._in_one) * _WEIGHT
        self._share += ((not on_loop) - self._share) * _WEIGHT

    def settled(self, now: float, count: int) -> None:
        """Note that so many are done, none of which leaves before: all threads had no more time for them than this."""
        self._each = (now - self._settled_at) * self._threads / count
        self._settled_at = now

    def leave(self, seconds: float, count: int = 1, *, on_loop: bool) -> None:
        """Note that one has gone, with so many tasks, so many seconds after it came."""
        if on_loop:
            self._looping -= count
            return
        self._blocking -= count
        taken = min(seconds, self._each)  # short tasks wait here for longer than they take
        self._mean = taken if self._mean is None else self._mean * 0.9 + taken * 0.1

    def now(self, pools: Iterable[AnyPool], config: Config) -> int:
        """Return how many messages to claim now."""
        loops = threads = lent = 0
        for pool in pools:
            if isinstance(pool, LoopPool):
                loops += pool.count
            else:
                threads += pool.count
                lent += pool.lent  # who waits for another task must not keep that from coming
        if config.prefetch is not None:
            return config.prefetch + lent - self._blocking - self._looping
        self._threads = threads = (threads or config.workers) + lent
        ahead = 0 if self._mean is None else min(AHEAD_MOST, int(threads * AHEAD_SECONDS / max(self._mean, 1e-6)))
        free = max(threads, ahead) - self._blocking
        if free > 0 and self._in_one > 1:
            free = max(1, int(free / self._in_one))
        if not loops:
            return free
        return max(0, min(ON_A_LOOP * loops - self._looping, int(free / max(self._share, _LEAST_SHARE))))
