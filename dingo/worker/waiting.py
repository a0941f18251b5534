"""Waiting: the calls of a process pool that no child has, in the order they come to one."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from dingo.worker.child.handed import Handed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dingo.job import Job

# What a child gives back has waited longer than all others of its priority.
_BEFORE_ALL = 1 << 60


class Waiting:
    """One line, by priority once it is `ranked`. Any thread may put calls into `inbox` and look; one takes."""

    def __init__(self) -> None:
        self.inbox: deque[Job] = deque()
        self.ranked = False
        self._heap: list[tuple[int, int, Handed | Job]] = []
        self._again: deque[Handed | Job] = deque()  # before all others: they have waited already
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """Count the calls."""
        return len(self._again) + len(self.inbox) + len(self._heap)

    def take(self) -> Handed | Job | None:
        """Take the next call; None where there is none."""
        try:
            if self._again:
                return self._again.popleft()
            if not self.ranked:
                return self.inbox.popleft() if self.inbox else None
        except IndexError:  # another thread has taken out what waits
            return None
        with _lock:
            for job in _drained(self.inbox):
                heapq.heappush(self._heap, (-job._plan.option.priority, next(self._numbers), job))
            return heapq.heappop(self._heap)[2] if self._heap else None

    def put_before_all(self, item: Handed | Job) -> None:
        """Have a call be the next one."""
        self._again.appendleft(item)

    def give_back(self, given: list[Handed]) -> None:
        """Put calls that a child has not started before the others of their priority."""
        if not self.ranked:
            self._again.extendleft(reversed(given))
            return
        with _lock:
            for handed in given:
                place = handed.number - _BEFORE_ALL
                heapq.heappush(self._heap, (-handed.job._plan.option.priority, place, handed))

    def take_all(self) -> list[Job]:
        """Take out all calls; those that had been begun wait to be begun again."""
        jobs = []
        with _lock:
            items = [*_drained(self._again), *_drained(self.inbox), *(entry[2] for entry in sorted(self._heap))]
            self._heap.clear()
        for item in items:
            if isinstance(item, Handed):
                item.undo()
                item = item.job  # noqa: PLW2901
            jobs.append(item)
        return jobs

    def peek(self) -> list[Job]:
        """Return all calls that have not been begun."""
        with _lock:
            items = [*self._again.copy(), *self.inbox.copy(), *(entry[2] for entry in sorted(self._heap))]
        return [item for item in items if not isinstance(item, Handed)]

    def begun(self) -> list[Handed]:
        """Return the calls that had been begun, and wait for another child."""
        with _lock:
            items: Iterable[Any] = [*self._again.copy(), *(entry[2] for entry in self._heap)]
        return [item for item in items if isinstance(item, Handed)]


def _drained(items: deque[Any]) -> list[Any]:
    drained = []
    with contextlib.suppress(IndexError):
        while True:
            drained.append(items.popleft())
    return drained


# Guards the heaps of all pools. Held across a fork, so that it is whole in the child of one; reentrant, for
# other hooks of a fork look into the pools.
_lock = threading.RLock()

os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
