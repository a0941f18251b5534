"""How long a message may be kept unacknowledged.

RabbitMQ closes the channel of who keeps one longer than its `consumer_timeout` (30 minutes, if nobody set it). Nothing
tells the limit but breaking it: a probe does that, on a channel of its own, and meanwhile proves that more than its
age, less what lies between two looks of the server, is allowed.
"""

from __future__ import annotations

import re
from time import monotonic

# What a worker holds is delivered to it anew in such times (seconds).
RENEW_FIRST, RENEW_MOST = 4.0, 600.0
LOOKED_AT_EVERY = 60.0

_LIMIT = re.compile(r"Timeout value used: (\d+) ms")


class Probe:
    """What is known of one server's limit."""

    def __init__(self) -> None:
        self.allowed: float | None = None
        """The limit, once the server has said it (seconds)."""
        self._since: float | None = None

    @property
    def is_needed(self) -> bool:
        """Whether a message is to be kept for good, to find out."""
        return self._since is None and self.allowed is None

    def begin(self) -> None:
        """Note that one is kept from now on."""
        self._since = monotonic()

    def learn(self, text: str) -> None:
        """See why the server has closed a channel."""
        if limit := _LIMIT.search(text):
            self.allowed = int(limit[1]) / 1000

    def safe(self) -> float:
        """How long a message may be kept for certain (seconds): far within what is known to be allowed."""
        if self.allowed is not None:
            return min(RENEW_MOST, self.allowed / 3)
        proven = 0.0 if self._since is None else monotonic() - self._since - LOOKED_AT_EVERY
        return min(RENEW_MOST, max(RENEW_FIRST, proven / 2))
