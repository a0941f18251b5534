"""Limits: how many calls of one task run at once, and how often one may start.

A call that finds no place waits here, not in a worker: the pool goes on with other tasks meanwhile. When it is
given one it goes back into its pool with the place in hand (`Detail.place`); whoever takes it from there, to run
it or to find that it has ended, gives the place back.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self._waits = False  # whether the timer will call for the next start
        self._queue: list[tuple[int, int, Job]] = []  # a heap: by priority, then by arrival
        self._number = itertools.count()
        self._open = 0

    def expect(self, job: Job) -> None:
        """Count an accepted call, until it ends."""
        with self._lock:
            self._open += 1
        if not job.watch(latch=self._forget):
            self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._open -= 1
            self._lock.notify_all()

    def enter(self, job: Job) -> bool:
        """Take a place. False where there is none now: the call then comes back to its pool by itself."""
        with self._lock:
            if not self._queue and self._take():
                return True
            heapq.heappush(self._queue, (-job._plan.option.priority, next(self._number), job))
            self._wake_later()
            return False

    def leave(self) -> None:
        """Give a place back, when the function has returned."""
        with self._lock:
            self._running -= 1
        self._admit()

    def wait_empty(self, until: float | None) -> None:
        """Wait until all calls counted have ended, or until that moment (time.monotonic)."""
        with self._lock:
            self._lock.wait_for(lambda: not self._open, None if until is None else max(0.0, until - monotonic()))

    def waiting(self) -> list[Job]:
        """Return the calls that wait here, in the order they will be given a place."""
        with self._lock:
            return [job for _, _, job in sorted(self._queue)]

    def renew(self) -> list[Job]:
        """In the child of a fork: renew the lock and return the calls that wait here."""
        self._lock = threading.Condition()
        return [job for _, _, job in self._queue]

    def drain(self) -> list[Job]:
        """Take out all that wait."""
        with self._lock:
            jobs = [job for _, _, job in sorted(self._queue)]
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
        if self._rate is not None and not self._waits and (self._max is None or self._running < self._max):
            self._waits = True
            self._timer.at(self._next_start, self._ring)

    def _ring(self) -> None:
        with self._lock:
            self._waits = False
        self._admit()

    def _admit(self) -> None:
        with self._lock:
            while self._queue:
                job = self._queue[0][2]
                if job._plan.limit is not self:  # the task's limits were changed: this one holds it no more
                    job._plan.bridge.put_back(job)
                elif not job.started:  # else it was withdrawn, or is run by one who waits for it
                    if not self._take():
                        self._wake_later()
                        return
                    job.detail().place = self
                    job._plan.bridge.put_back(job)
                heapq.heappop(self._queue)


class Gate(Limit):
    """Stands where a task's Limit does, or would, while its queue is paused: nobody gets in.

    When the queue goes on, what waits here goes back to its pool, and from there by the Limit `behind` it.
    """

    def __init__(self, timer: Timer, behind: Limit | None) -> None:
        super().__init__(timer, 0, None)
        self._behind = behind
        self._open_now = False
        self._refuse: Callable[[Job], object] | None = None

    def expect(self, job: Job) -> None:
        """Count an accepted call where it will want a place."""
        if self._behind is not None:
            self._behind.expect(job)

    def enter(self, job: Job) -> bool:
        """Keep a call. One that comes after the opening goes on, one that comes after the closing ends."""
        entered = super().enter(job)
        if self._open_now:
            self._admit()
        if self._refuse is not None:
            self.close(self._refuse)
        return entered

    def open(self) -> None:
        """Let all go on: their plans have another limit now, or none."""
        self._open_now = True
        self._admit()

    def close(self, refuse: Callable[[Job], object]) -> None:
        """End what waits here, and whatever comes."""
        self._refuse = refuse
        for job in self.drain():
            refuse(job)
