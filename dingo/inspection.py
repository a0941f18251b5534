"""What can be seen of calls from outside: those of this process, and those in a store."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dingo.contracts import StoredCall
from dingo.message.frame import decode
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


def info(job: Job | StoredCall) -> CallInfo:
    """Describe a call."""
    if isinstance(job, StoredCall):
        return _stored_info(job)
    context = Context(job)
    ended = job._status in (Status.FAILURE, Status.CANCELLED)
    return CallInfo(
        job.id, job.name, job.status, context.queue, context.eta, job.attempt, job._value.failure if ended else None
    )


def _stored_info(call: StoredCall) -> CallInfo:
    status = {"waiting": Status.SENT, "delayed": Status.SENT, "running": Status.RECEIVED}.get(call.state)
    if status is None:
        status = Status(decode(call.frame or b"")[0]["s"])
    eta = None if call.due is None else datetime.datetime.fromtimestamp(call.due, datetime.UTC)
    return CallInfo(call.id, call.name, status, call.queue, eta)
