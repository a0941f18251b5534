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


class Lookout:
    """Looks until there is mail: often at first, the more rarely the longer none has come.

    `wake` ends a wait and begins anew: whoever has just sent a call does that. Any thread may.
    """

    def __init__(self) -> None:
        self._woken = threading.Event()
        self._since = monotonic()

    def wake(self) -> None:
        """End the wait that is, or the next."""
        self._woken.set()

    def watch(self, look: Callable[[], list[bytes]], wait: float) -> list[bytes]:
        """Look until something is found, for up to `wait` seconds."""
        until = monotonic() + wait
        while True:
            found = look()
            now = monotonic()
            if found:
                self._since = now
            if found or now >= until:
                return found
            pause = max(SHORTEST, min(LONGEST, (now - self._since) * SHARE))
            if self._woken.wait(min(pause, until - now)):
                self._woken.clear()
                self._since = monotonic()
                return []
