"""Expiry: when the calls of the short way expire.

To read the clock for each call would be a good part of what the call costs. So those that are made within a moment
share an Expiry, and the clock is read at the end of the moment, after the last of them: none expires early, whatever
holds up this process, and none later than by the moment. What expires soon has an Expiry each.
"""

from __future__ import annotations

import threading
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingo.timer import Timer

# How long a moment is (seconds), and from when on that much later is near enough.
_MOMENT = 0.05
SHARED_FROM = 5.0


class Expiry:
    """When calls expire, by the timer's clock."""

    __slots__ = ("until",)

    def __init__(self, until: float = inf) -> None:
        self.until = until


class Expiries:
    """Those of one plan: its calls expire `seconds` after they were made.

    Who makes a call takes `now`, and begins a moment if it finds none going on.
    """

    __slots__ = ("_ahead", "_lock", "_seconds", "_timer", "going", "now")

    def __init__(self, timer: Timer, seconds: float) -> None:
        self._timer, self._seconds = timer, seconds
        self._lock = threading.Lock()
        self._ahead = 0.0
        self.now = Expiry()
        self.going = False

    def begin(self) -> None:
        """Begin a moment, unless another thread was first."""
        with self._lock:
            if self.going:
                return
            self._ahead = self._timer.ahead
            self.going = True
        self._timer.after(_MOMENT, self._end)

    def _end(self) -> None:
        # In this order: who takes the next one finds that no moment goes on, or that a newer one does.
        advanced = self._timer.ahead - self._ahead
        self.going = False
        over, self.now = self.now, Expiry()
        over.until = self._timer.clock() - advanced + self._seconds


def at(timer: Timer, moment: float) -> Expiry:
    """Return the expiry of a call that expires at a moment (seconds since the epoch)."""
    return Expiry(timer.clock() + moment - timer.time())


def after(timer: Timer, seconds: float) -> Expiry:
    """Return the expiry of a call that expires so many seconds from now."""
    return Expiry(timer.clock() + seconds)
