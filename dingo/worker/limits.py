"""Limits: how many calls of one task run at once, and how often one may start.

A call that finds no place waits here, not in a worker: the pool goes on with other tasks meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingo.job import Job
    from dingo.timer import Timer


class Limit:
    """The places of one task. `rate` is starts per second, evenly spaced; None: no such limit."""

    def __init__(self, timer: Timer, max_concurrency: int | None, rate: float | None) -> None:
        self._timer = timer
        self._lock = threading.Condition()
        self._max = max_concurrency
        self._rate = rate
        self._running = 0
        self._next_start = 0.0
        self._queue: deque[Job] = deque()

    def enter(self, job: Job) -> bool:
        """Take a place. False where there is none now: the call then comes back to its pool by itself."""
        detail = job.detail()
        with self._lock:
            if detail.admitted:
                return True
            if not self._queue and self._take():
                detail.admitted = True
                return True
            self._queue.append(job)
            self._wake_later()
            return False

    def leave(self) -> None:
        """Give a place back, when the function has returned."""
        with self._lock:
            self._running -= 1
        self._admit()

    def wait_empty(self, until: float | None) -> None:
        """Wait until nothing waits here any more, or until that moment (time.monotonic)."""
        with self._lock:
            self._lock.wait_for(lambda: not self._queue, None if until is None else max(0.0, until - monotonic()))

    def waiting(self) -> list[Job]:
        """Return the calls that wait here."""
        with self._lock:
            return list(self._queue)

    def drain(self) -> list[Job]:
        """Take out all that wait."""
        with self._lock:
            jobs = list(self._queue)
            self._queue.clear()
        return jobs

    def _take(self) -> bool:
        if self._max is not None and self._running >= self._max:
            return False
        if self._rate is not None:
            now = self._timer.time()
            if now < self._next_start:
                return False
            self._next_start = now + 1 / self._rate
        self._running += 1
        return True

    def _wake_later(self) -> None:
        # Only the rate passes by itself; a place is given back by leave().
        if self._rate is not None and (self._max is None or self._running < self._max):
            self._timer.at(self._next_start, self._admit)

    def _admit(self) -> None:
        admitted = []
        with self._lock:
            while self._queue:
                if self._queue[0].ended:
                    self._queue.popleft()
                    continue
                if not self._take():
                    self._wake_later()
                    break
                job = self._queue.popleft()
                job.detail().admitted = True
                admitted.append(job)
            self._lock.notify_all()
        for job in admitted:
            job._plan.pool.put(job)
