"""Outages: what happens between losing a connection and having it again, or giving it up.

connection.lost      WARNING   once per outage
connection.restored  INFO      once it is over
connection.given_up  ERROR     once, when the tries of `Config.reconnect` are used up
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo.events import Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.config import Reconnect


class Outage:
    """One connection's outages, one after the other. `what`: what cannot be done meanwhile. Used by one thread."""

    def __init__(self, emit: Callable[..., None], what: str) -> None:
        self._emit = emit
        self._what = what
        self._failed = 0
        self.given_up = False
        """Whether the policy's tries are used up. It can still end."""

    @property
    def lasts(self) -> bool:
        """Whether there is one now."""
        return self._failed > 0

    def failed(self, error: BaseException, policy: Reconnect) -> float | None:
        """Note that the connection failed. Return how long to wait before the next try; None: it is given up."""
        self._failed += 1
        tries = self._failed - 1
        if tries == 0:
            self._emit(Level.WARNING, "connection.lost", f"{self._what} has stopped: {error}", {"error": error})
        if policy.tries is not None and tries >= policy.tries and not self.given_up:
            self.given_up = True
            text = f"{self._what} is given up after {tries} tries to connect again: {error}"
            self._emit(Level.ERROR, "connection.given_up", text, {"tries": tries, "error": error})
        return None if self.given_up else policy.delay(tries)

    def over(self) -> None:
        """Note that it works."""
        if self._failed:
            tries, self._failed, self.given_up = self._failed, 0, False
            self._emit(Level.INFO, "connection.restored", f"{self._what} goes on", {"tries": tries})
