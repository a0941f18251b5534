"""Putting tasks into Redis, a batch with each script."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.kombu.redis.keys import data_of, number_text, prefix_of
from dingo.kombu.redis.scripts import SEND
from dingo.kombu.redis.server import CONNECT_SECONDS, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dingo.contracts import Envelope

# How many tasks are sent with one script.
SEND_AT_ONCE = 250
# A stream that was written down so long ago is left alone (seconds).
WRITTEN_FOR = 30.0


class RedisProducer:
    """Puts tasks into Redis."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._server = Server(url, connect_seconds)
        self._name = os.urandom(12).hex()
        self._unsure: list[tuple[str, str]] = []
        self._first = self._next = 1
        self._written: dict[tuple[str, int], float] = {}  # when the stream of a queue and priority was written down

    def open(self, emit: Callable[..., None]) -> None:
        """Look whether the server is there. Raises BrokerUnavailable, BadConfig."""
        self._server.open(emit)

    def send(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Send a batch, in parts that do not keep the server from others for long. Return what was there already.

        What was not answered may be sent again: even if all of it has ended meanwhile, nothing runs twice.
        """
        known: list[Envelope] = []
        if not envelopes:
            return known
        calls = [(one.name, one.id) for one in envelopes]
        again = self._unsure == calls
        if again:
            self._written.clear()
        else:
            self._unsure, self._first = calls, self._next
        parts = [envelopes[at : at + SEND_AT_ONCE] for at in range(0, len(envelopes), SEND_AT_ONCE)]
        self._next = max(self._next, self._first + len(parts))
        answers = self._server.run_all(
            SEND, [self._arguments(number, part, again=again) for number, part in enumerate(parts, self._first)]
        )
        for part, answer in zip(parts, answers, strict=True):
            known += [part[index] for index in answer]
        self._unsure = []
        return known

    def _arguments(self, number: int, envelopes: Sequence[Envelope], *, again: bool) -> list[Any]:
        # The child of a fork is another producer.
        who, follows = f"{self._name}.{os.getpid()}", number > self._first
        arguments: list[Any] = [who, number, "1" if again else "", "1" if follows else ""]
        group: tuple[str, int, str] | None = None
        count_at = 0
        for one in envelopes:
            if group != (one.queue, one.priority, one.name):
                group = (one.queue, one.priority, one.name)
                new = self._is_to_be_written(one.queue, one.priority)
                arguments += (prefix_of(one.queue), one.priority, new, one.name, 0)
                count_at = len(arguments) - 1
            arguments[count_at] += 1
            arguments += (number_text(one.due), one.id, data_of(one, one.frame))
        return arguments

    def _is_to_be_written(self, queue: str, priority: int) -> str:
        """Return "1" where the stream is to be written down: the first time, and from time to time."""
        now = monotonic()
        if now - self._written.get((queue, priority), -WRITTEN_FOR) < WRITTEN_FOR:
            return ""
        self._written[queue, priority] = now
        return "1"

    def close(self) -> None:
        """Close the connection."""
        self._server.close()
