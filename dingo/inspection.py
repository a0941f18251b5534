"""What can be seen of calls from outside: those of this process, and those in a store."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dingo.contracts import StoredCall
from dingo.errors import BadMessage
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


def worker_info(card: dict[str, Any]) -> WorkerInfo:
    """Read a worker's card. Raises BadMessage."""
    try:
        return WorkerInfo(
            str(card["w"]), str(card["host"]), int(card["pid"]), tuple(map(str, card["queues"])),
            tuple(map(str, card["tasks"])), int(card["workers"]), int(card["busy"]),
            datetime.datetime.fromtimestamp(float(card["since"]), datetime.UTC),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise BadMessage("a worker's card that lacks something") from None


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
