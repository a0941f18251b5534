"""Turns: in which order a worker claims from its queues.

Without weights the first queue comes first, always. With weights each queue gets its share of the tasks that are
claimed: the queue that has had least, for its weight, is asked first. None waits for ever, and a queue that was empty
has no claim to what it has missed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo.config.kinds import queue_and_weight

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# With weights no more is claimed at once, so that no queue has the worker for long.
AT_ONCE = 64


class Turns:
    """The order of one worker's queues, each given as "NAME" or "NAME=WEIGHT". Raises BadConfig. One thread uses it."""

    def __init__(self, queues: Iterable[str]) -> None:
        given = [queue_and_weight(text) for text in queues]
        self.names = tuple(dict.fromkeys(name for name, _ in given))
        self.weighted = any(weight is not None for _, weight in given)
        self._weights = {name: weight or 1.0 for name, weight in given}
        self._had = dict.fromkeys(self.names, 0.0)

    def order(self, without: Collection[str]) -> tuple[str, ...]:
        """Return the queues to claim from now, the first one first."""
        names = tuple(name for name in self.names if name not in without) if without else self.names
        return tuple(sorted(names, key=self._had.__getitem__)) if self.weighted else names

    def took(self, asked: Sequence[str], taken: Iterable[str]) -> None:
        """Note which queues were asked, and for each task that came the queue it came from."""
        before = dict(self._had)
        for name in taken:
            self._had[name] += 1 / self._weights[name]
        gave = [name for name in asked if self._had[name] != before[name]]
        if gave:
            least = min(before[name] for name in gave)
            for name in asked:
                if name not in gave:  # it was empty, or not come to: it has missed nothing
                    self._had[name] = max(self._had[name], least)
