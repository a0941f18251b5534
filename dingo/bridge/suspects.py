"""Suspects: tasks that were claimed by a worker when it died, and may be what it died of.

Their starts are recorded with the broker before they run, so that who kills its workers again and again is found out.
Most of them are innocent, and thousands may come at once. So they go in groups, where the consumer can record several
starts in one step: the first has one task, each next one twice as many, as long as this worker lives.

The next group waits until the last one has ended, or has run for a while: nobody waits for a task that runs for hours.
Who has a start recorded already, or may run once only, goes alone; of those with a start recorded no two run at once.
So an innocent is blamed for what another does only if that begins beside it and has no start recorded, and for each
such once at most.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING

from dingo.message.report import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.bridge.delivered import RemoteJob
    from dingo.contracts import Delivery

# A task whose worker has died this often is not run again. The first death made it a suspect; the others are known by
# the starts that were recorded.
POISONED_AT = 3
# The largest group.
MOST = 64
# For how long the newest group has the worker for itself: what kills mostly kills soon (seconds).
ALONE_FOR = 5.0


class Suspects:
    """Those of one worker. Used by its I/O thread alone.

    `start` has a group run, or gives it back; `end_unrun` ends a task that is not to run again. `groups`: whether
    several starts are recorded in one step.
    """

    def __init__(self, start: Callable[[list[RemoteJob]], object],
                 end_unrun: Callable[[RemoteJob, Code, str], object], *, groups: bool) -> None:  # fmt: skip
        self._start, self._end_unrun = start, end_unrun
        self._most = MOST if groups else 1
        self._size = 1  # of the next group
        self._waiting: deque[RemoteJob] = deque()
        self._running: list[tuple[Delivery, bool]] = []  # and whether it had a start recorded before
        self._alone_until = 0.0

    def add(self, job: RemoteJob) -> None:
        """Have a task run when it is its turn."""
        self._waiting.append(job)

    def waiting(self) -> list[RemoteJob]:
        """Return those whose turn has not come."""
        return list(self._waiting)

    def left(self, delivery: Delivery) -> None:
        """Note that a task is settled."""
        self._running = [one for one in self._running if one[0] is not delivery]

    def turn(self) -> None:
        """Start the next group, if the last one no longer has the worker for itself."""
        if not self._waiting or (self._running and monotonic() < self._alone_until):
            return
        group = self._next_group()
        if group:
            self._running += [(job.delivery, job.delivery.starts > 0) for job in group]
            self._size = min(self._most, self._size * 2)
            self._alone_until = monotonic() + ALONE_FOR
            self._start(group)

    def _next_group(self) -> list[RemoteJob]:
        group: list[RemoteJob] = []
        passed: list[RemoteJob] = []
        guarded = any(started for _, started in self._running)
        while self._waiting and len(group) < self._size:
            job = self._waiting[0]
            alone = bool(job.delivery.starts) or not job._plan.option.redeliver
            if alone and group:
                break
            self._waiting.popleft()
            if not self._may_run(job):
                continue
            if guarded and job.delivery.starts:
                passed.append(job)
                continue
            group.append(job)
            if alone:
                break
        self._waiting.extendleft(reversed(passed))
        return group

    def _may_run(self, job: RemoteJob) -> bool:
        starts = job.delivery.starts
        if not job._plan.option.redeliver and starts:
            self._end_unrun(job, Code.WORKER_LOST, "its worker died while it ran, and it is not run twice")
            return False
        if 1 + starts >= POISONED_AT:
            self._end_unrun(job, Code.POISONED, f"its worker died {1 + starts} times while it ran")
            return False
        return not job.ended  # else it was cancelled while it waited for its turn
