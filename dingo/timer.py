"""Timer: one thread that calls functions when their time has come.

For delays, retries, time limits and whatever else waits. What it calls must be quick: hand the work on.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from time import time as wall_time
from typing import TYPE_CHECKING

from dingo.blocking import here

if TYPE_CHECKING:
    from collections.abc import Callable

# The wall clock may be stepped while the timer sleeps, so it looks again at least so often (seconds).
_LOOK_AGAIN = 1.0

# Alarms are quick; one that is not does not hold up the end for longer than this (seconds).
_PATIENCE = 1.0

# Cancelled alarms are thrown out when there are more than this, and more than half of all.
_SWEEP_AT = 1000


class Alarm:
    """One thing that will be called, unless it is cancelled before."""

    __slots__ = ("fn", "timer")

    def __init__(self, timer: Timer, fn: Callable[[], object]) -> None:
        self.timer = timer
        self.fn: Callable[[], object] | None = fn

    def cancel(self) -> None:
        """Take it back, if it has not been called already."""
        if self.fn is not None:
            self.fn = None
            self.timer.sweep()


class Timer:
    """Alarms by the wall clock (seconds since the epoch). Its thread starts with the first alarm."""

    def __init__(self, failed: Callable[[BaseException], object], hub: object = None) -> None:
        self._hub = hub
        self._failed = failed
        self._heap: list[tuple[float, int, Alarm]] = []
        self._number = itertools.count()
        self._changed = threading.Condition()  # reentrant: an alarm that is called may set another
        self._thread: threading.Thread | None = None
        self._closed = False
        self._ahead = 0.0
        self._cancelled = 0
        self._calling = False

    def time(self) -> float:
        """Return the time it goes by: the wall clock, plus what it was advanced."""
        return wall_time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Put its clock forward, for tests: when this returns, what is due by then has been called."""
        with self._changed:
            self._ahead += seconds
            self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(self._is_idle)

    def _is_idle(self) -> bool:
        due = bool(self._heap) and self._heap[0][0] <= self.time()
        return self._closed or not (self._calling or due)

    def at(self, due: float, fn: Callable[[], object]) -> Alarm:
        """Have `fn()` called on the timer's thread when `time()` reaches `due`; at once if it has."""
        alarm = Alarm(self, fn)
        with self._changed:
            heapq.heappush(self._heap, (due, next(self._number), alarm))
            if self._heap[0][2] is alarm:
                self._changed.notify_all()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="dingo-timer", daemon=True)
                self._thread.start()
        return alarm

    def after(self, seconds: float, fn: Callable[[], object]) -> Alarm:
        """Have `fn()` called `seconds` from now."""
        return self.at(self.time() + seconds, fn)

    def sweep(self) -> None:
        """Note that an alarm was cancelled; when most are, throw them out (time limits rarely ring)."""
        with self._changed:
            self._cancelled += 1
            if self._cancelled > _SWEEP_AT and self._cancelled * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].fn is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def close(self) -> None:
        """End its thread, after the alarm that is being called. What waits is never called."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(lambda: not self._calling, _PATIENCE)

    def _run(self) -> None:
        here.hub = self._hub
        while True:
            with self._changed:
                self._calling = False
                self._changed.notify_all()  # who advanced the clock waits for that
                while not self._closed and (not self._heap or self._heap[0][0] > self.time()):
                    left = self._heap[0][0] - self.time() if self._heap else None
                    self._changed.wait(None if left is None else min(left, _LOOK_AGAIN))
                if self._closed:
                    return
                alarm = heapq.heappop(self._heap)[2]
                self._calling = True
            fn, alarm.fn = alarm.fn, None
            if fn is not None:
                self._call(fn)
            del fn, alarm  # while it waits it keeps nothing alive

    def _call(self, fn: Callable[[], object]) -> None:
        try:
            fn()
        except BaseException as error:
            self._failed(error)
