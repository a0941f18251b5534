"""Packing: plain calls of one short task, made at once, travel in one message.

    call_many, map -> RemoteCaller.accept_many -> PackedCalls, one for each message
    its report     -> Arrivals -> the Results of all that are still open

A pack is taken apart again where one of its calls has to go its own way: it was cancelled before it was sent, or
withdrawn from a pack that still waited. The others then go singly, under their own ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from dingo.events import Level
from dingo.message import packed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.caller.result import Result
    from dingo.contracts import Envelope
    from dingo.job import Fault, Job
    from dingo.message.report import Status
    from dingo.plan import Plan


Departing: TypeAlias = "tuple[Job | PackedCalls, Envelope]"
"""What is on its way out, and what brings it there."""


class PackedCalls:
    """Calls that travel together. Stands for them where a single call stands elsewhere."""

    _detail = None  # as of a call that asks for nothing more

    __slots__ = ("_args", "_id", "_plan", "_singly", "jobs", "left", "name")

    def __init__(self, pack_id: str, jobs: list[Result[Any]], singly: Callable[[Result[Any]], None]) -> None:
        self._id = pack_id
        self._singly = singly
        self._args: list[tuple[Any, ...]] = []
        self._plan = jobs[0]._plan
        self.name = self._plan.name
        self.jobs = jobs
        self.left = set(range(len(jobs)))  # the calls whose report has not come

    @property
    def id(self) -> str:
        """The id of the pack."""
        return self._id

    @property
    def started(self) -> bool:
        """Whether it is being sent, or has been."""
        return any(job.started for job in self.jobs)

    @property
    def ended(self) -> bool:
        """Whether all of them have ended."""
        return all(job.ended for job in self.jobs)

    def holds(self, job: Job) -> bool:
        """Whether that is one of them."""
        return job in self.jobs

    def start(self) -> list[tuple[Any, ...]] | None:
        """Claim the right to send it. None where one was cancelled before: then the others are sent singly."""
        claimed = [job.start() for job in self.jobs]
        self._args = [args or () for args in claimed]
        if all(args is not None for args in claimed):
            return self._args
        self._scatter({index for index, args in enumerate(claimed) if args is not None})
        return None

    def scatter(self) -> None:
        """Send those that have not ended singly: the pack has been withdrawn."""
        self._scatter(self.left)

    def _scatter(self, those: set[int]) -> None:
        for index in sorted(those):
            job = self.jobs[index]
            if job.restore(self._args[index]):
                self._singly(job)

    def finish(self, status: Status, value: Fault) -> bool:
        """End all of them that have not ended; whether there were any."""
        return sum(job.finish(status, value) for job in self.jobs) > 0

    def withdraw(self) -> bool:
        """Keep what has not been sent from being sent; whether there was any."""
        return sum(job.start() is not None for job in self.jobs) > 0


def pack_size(plan: Plan, seconds: float | None) -> int:
    """Return how many calls of a plan to put into one message: 1 where they are not known to be plain and short.

    `seconds`: how long one of them takes, as far as is known.
    """
    if seconds is None or not _is_plain(plan):
        return 1
    return max(1, min(packed.MOST, int(packed.SECONDS / max(seconds, 1e-6))))


def _is_plain(plan: Plan) -> bool:
    option, bridge = plan.option, plan.bridge
    return not (
        plan.asks_for_more or plan.clocked or option.monitor_progress or option.confirm or not option.redeliver
        or option.headers or option.rate_limit is not None or option.max_concurrency is not None
        or bridge.hooks.on_publish or bridge.hub.floor <= Level.DEBUG
    )  # fmt: skip


def parts(several: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Divide calls into as many as fit into one message."""
    for at in range(0, len(several), size):
        yield several[at : at + size]
