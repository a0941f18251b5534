"""What can be seen of calls from outside: those of this process, and those in a store."""

from __future__ import annotations

import datetime  # noqa: TC003 - for those who read the annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dingo.message.report import Failure, Status
from dingo.worker.context import Context

if TYPE_CHECKING:
    from dingo.job import Job


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What can be seen of a call from outside."""

    id: str
    name: str
    status: Status
    queue: str
    eta: datetime.datetime | None = None
    attempt: int = 0
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker that lives says of itself. `workers`: how many tasks it runs at once; `busy`: how many it has."""

    name: str
    host: str
    pid: int
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    workers: int
    busy: int
    since: datetime.datetime


def info(job: Job) -> CallInfo:
    """Describe a call of this process."""
    context = Context(job)
    ended = job._status in (Status.FAILURE, Status.CANCELLED)
    return CallInfo(
        job.id, job.name, job.status, context.queue, context.eta, job.attempt, job._value.failure if ended else None
    )
