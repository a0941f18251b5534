"""Looking for mail where nothing tells of it."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# The shortest and the longest time between two looks (seconds), and how much of the time without mail it is: so the
# wait for a report that took a second grows by at most a fortieth, and one who waits for nothing asks twice a second.
SHORTEST, LONGEST, SHARE = 0.002, 0.5, 1 / 40
# After a look it rests for at least this many times as long as the look took.
REST = 3


class Lookout:
    """Looks until there is mail: often at first, the more rarely the longer none has come."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._woken = False
        self._since = monotonic()

    def wake(self) -> None:
        """End the wait that is, or the next. Any thread may."""
        self._woken = True
        self._told.set()

    def expect(self) -> None:
        """Begin to look often again: mail is to be expected. Any thread may."""
        now = monotonic()
        if (now - self._since) * SHARE > SHORTEST:  # else it looks often
            self._since = now
            self._told.set()

    def watch(self, look: Callable[[], list[bytes]], wait: float) -> list[bytes]:
        """Look until something is found, for up to `wait` seconds."""
        begun = monotonic()
        until = begun + wait
        while True:
            found = look()
            now = monotonic()
            if found:
                self._since = now
            if found or now >= until or self._rest(now, max(SHORTEST, REST * (now - begun)), until):
                return found
            begun = monotonic()

    def _rest(self, now: float, least: float, until: float) -> bool:
        """Wait until it is time to look again. Whether it was woken."""
        again = now + max(least, min(LONGEST, (now - self._since) * SHARE))
        while not self._woken:
            if not self._told.wait(max(0.0, min(again, until) - monotonic())):
                return False
            self._told.clear()
            again = min(again, monotonic() + least)
        self._woken = False
        self._told.clear()
        return True
