"""Suspects: tasks that were claimed by a worker when it died, and may be what it died of.

Their starts are recorded with the broker before they run, so that who kills its workers again and again is found out.
Most of them are innocent, and thousands may come at once. So they go in groups, where the consumer can record several
starts in one step: the first has one task, each next one twice as many, as long as this worker lives.

Who has a start recorded already goes alone. So an innocent has one recorded start at most that was another's fault, and
none ends POISONED but who was alone when two more workers died of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from dingo.message.report import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.bridge.delivered import RemoteJob
    from dingo.contracts import Delivery

    Record: TypeAlias = Callable[[list[RemoteJob]], bool]

# A task whose worker died this often while it ran is not run again.
POISONED_AT = 3
# The largest group.
MOST = 64


class Suspects:
    """Those of one worker. Used by its I/O thread alone.

    `record` records the starts of a group, False where that cannot be; then none of it is put, and all are given back.
    `end_unrun` ends a task that is not to run again. `groups`: whether several starts are recorded in one step.
    """

    def __init__(self, record: Record, put: Callable[[RemoteJob], object],
                 end_unrun: Callable[[RemoteJob, Code, str], object], *, groups: bool) -> None:  # fmt: skip
        self._record, self._put, self._end_unrun = record, put, end_unrun
        self._most = MOST if groups else 1
        self._size = 1  # of the next group
        self._waiting: deque[RemoteJob] = deque()
        self._running: list[Delivery] = []

    def add(self, job: RemoteJob) -> None:
        """Have a task run when it is its turn."""
        self._waiting.append(job)

    def waiting(self) -> list[RemoteJob]:
        """Return those whose turn has not come."""
        return list(self._waiting)

    def left(self, delivery: Delivery) -> None:
        """Note that a task is settled."""
        for index, running in enumerate(self._running):
            if running is delivery:
                del self._running[index]
                if not self._running:
                    self._size = min(self._most, self._size * 2)
                return

    def turn(self) -> None:
        """Start the next group, if none runs."""
        if self._running:
            return
        group = self._next_group()
        self._running = [job.delivery for job in group]
        if group and self._record(group):
            for job in group:
                self._put(job)

    def _next_group(self) -> list[RemoteJob]:
        group: list[RemoteJob] = []
        while self._waiting and len(group) < self._size:
            job = self._waiting[0]
            alone = bool(job.delivery.starts) or not job._plan.option.redeliver
            if alone and group:
                break
            self._waiting.popleft()
            if self._may_run(job):
                group.append(job)
                if alone:
                    break
        return group

    def _may_run(self, job: RemoteJob) -> bool:
        starts = job.delivery.starts
        if not job._plan.option.redeliver and starts:
            self._end_unrun(job, Code.WORKER_LOST, "its worker died while it ran, and it is not run twice")
            return False
        if starts >= POISONED_AT:
            self._end_unrun(job, Code.POISONED, f"its worker died {starts} times while it ran")
            return False
        return not job.ended  # else it was cancelled while it waited for its turn
