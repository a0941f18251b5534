"""Timer: one thread that calls functions when their time has come.

For delays, retries, time limits and whatever else waits. What it calls must be quick: hand the work on.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from math import inf
from time import monotonic
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


class _Line:
    """Alarms that go by one clock, the earliest first."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.alarms: list[tuple[float, int, Alarm]] = []

    def left(self) -> float:
        """Seconds until the next one; infinity where there is none."""
        return self.alarms[0][0] - self.now() if self.alarms else inf

    def sweep(self) -> None:
        """Throw out what was cancelled."""
        self.alarms = [entry for entry in self.alarms if entry[2].fn is not None]
        heapq.heapify(self.alarms)


class Timer:
    """Alarms at a moment (seconds since the epoch) or after a while. Its thread starts with the first alarm.

    A while is a while: stepping the wall clock changes nothing about what was set with `after`.
    """

    def __init__(self, failed: Callable[[BaseException], object], hub: object = None) -> None:
        self._hub = hub
        self._failed = failed
        self._ahead = 0.0
        self.clock: Callable[[], float] = monotonic
        """What `after` goes by: seconds from some moment."""
        self._moments, self._whiles = _Line(self.time), _Line(self._lapsed)
        self._number = itertools.count()
        self._changed = threading.Condition()  # reentrant: an alarm that is called may set another
        self._thread: threading.Thread | None = None
        self._closed = False
        self._cancelled = 0
        self._calling = False

    @property
    def ahead(self) -> float:
        """How far its clocks were put forward (seconds)."""
        return self._ahead

    def time(self) -> float:
        """Return the time of day it goes by: the wall clock, plus what it was advanced."""
        return wall_time() + self._ahead

    def advance(self, seconds: float) -> None:
        """Put its clocks forward, for tests: when this returns, what is due by then has been called."""
        with self._changed:
            self._ahead += seconds
            self.clock = self._clock_ahead
            self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(self._is_idle)

    def _lapsed(self) -> float:
        return self.clock()

    def _clock_ahead(self) -> float:
        return monotonic() + self._ahead

    def _left(self) -> float:
        return min(self._moments.left(), self._whiles.left())

    def _is_idle(self) -> bool:
        return self._closed or not (self._calling or self._left() <= 0)

    def at(self, due: float, fn: Callable[[], object]) -> Alarm:
        """Have `fn()` called on the timer's thread when `time()` reaches `due`; at once if it has."""
        return self._set(self._moments, due, fn)

    def after(self, seconds: float, fn: Callable[[], object]) -> Alarm:
        """Have `fn()` called `seconds` from now."""
        return self._set(self._whiles, self.clock() + seconds, fn)

    def _set(self, line: _Line, due: float, fn: Callable[[], object]) -> Alarm:
        alarm = Alarm(self, fn)
        with self._changed:
            heapq.heappush(line.alarms, (due, next(self._number), alarm))
            if line.alarms[0][2] is alarm:
                self._changed.notify_all()
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="dingo-timer", daemon=True)
                self._thread.start()
        return alarm

    def sweep(self) -> None:
        """Note that an alarm was cancelled; when most are, throw them out (time limits rarely ring)."""
        with self._changed:
            self._cancelled += 1
            alarms = len(self._moments.alarms) + len(self._whiles.alarms)
            if self._cancelled > _SWEEP_AT and self._cancelled * 2 > alarms:
                self._moments.sweep()
                self._whiles.sweep()
                self._cancelled = 0

    def close(self) -> None:
        """End its thread, after the alarm that is being called. What waits is never called."""
        with self._changed:
            self._closed = True
            self._moments.alarms.clear()
            self._whiles.alarms.clear()
            self._changed.notify_all()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(lambda: not self._calling, _PATIENCE)

    def _run(self) -> None:
        here.hub = self._hub
        while True:
            with self._changed:
                self._calling = False
                self._changed.notify_all()  # who advanced the clock waits for that
                while not self._closed and (left := self._left()) > 0:
                    self._changed.wait(None if left == inf else min(left, _LOOK_AGAIN))
                if self._closed:
                    return
                line = min(self._moments, self._whiles, key=_Line.left)
                alarm = heapq.heappop(line.alarms)[2]
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
