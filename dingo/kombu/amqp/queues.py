"""The queues: their names, and how they are made where they are not there yet."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.kombu.amqp.errors import LostError, PreconditionFailed, answering_for

if TYPE_CHECKING:
    from collections.abc import Callable

PRIORITIES = range(9, -1, -1)
# What a task queue may be: the first is the one that is made where nobody says anything else. Starts are counted, not
# deliveries: the server's own limit would throw tasks away that never ran.
QUEUE_TYPES: dict[str, dict[str, Any]] = {
    "classic": {"x-queue-type": "classic"},
    "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000},
}
# As which such a queue may be there too, made by another program.
_TAKEN: dict[str, list[dict[str, Any]]] = {
    "classic": [
        {**QUEUE_TYPES["classic"], **arguments}
        for arguments in (
            {"x-queue-mode": "lazy"},
            {"x-queue-version": 2},
            {"x-queue-mode": "lazy", "x-queue-version": 2},
        )
    ],
    "quorum": [],
}
# What a queue that is there may have been made with, other than we would.
_TYPING = ("x-queue-type", "x-queue-version", "x-queue-mode")
# Tasks are delayed to the next of these moments (seconds) ...
SLOT = 0.1
# ... within this horizon. What is due later moves to a nearer moment about three times on its way.
FINE_HORIZON = 60.0
# RabbitMQ holds nothing longer than 49 days (seconds).
FAR = 20 * 86400.0
# A queue is declared again after this long, since it may have expired (seconds).
DECLARED_FOR = 600.0
REPLY_EXPIRES = 3600.0
# How long the recorded start of a task whose worker died stays with the dead (seconds).
HOLD_TTL = 1.0
HOLD_EXPIRES = 120.0
# How many queues are known to be there; those of moments come and go.
KNOWN = 10_000

REPLY = "dingo.reply."


def _fitting(name: str) -> str:
    """Return a queue name that AMQP can carry."""
    if len(name.encode()) <= 255:
        return name
    return f"{name[:40]}.{hashlib.sha256(name.encode()).hexdigest()}"


@lru_cache(maxsize=1000)
def task_queue(queue: str, priority: int) -> str:
    """Return the name of the queue for tasks of one priority."""
    return _fitting(f"dingo.{queue}.{priority}")


def reply_queue(reply: str) -> str:
    """Return the name of the queue for the reports to one address."""
    return _fitting(REPLY + reply.removeprefix("reply."))


def slot_of(due: float, now: float) -> tuple[float, float]:
    """Return the moment a task waits for next, and how exact that is. It is never after the slot that `due` is in."""
    delay = min(due - now, FAR)
    if delay <= FINE_HORIZON:
        return math.ceil(due / SLOT) * SLOT, SLOT
    width = 2.0 ** math.floor(math.log2(delay / 16))
    return math.floor((now + delay) / width) * width, width


class Queues:
    """The queues of one server, as they are used over one connection: each is made when it is first needed."""

    def __init__(self, channel: Any, trial: Callable[[], Any], queue_type: str | None) -> None:
        """`trial`: gives a channel for what may be refused, which costs no more than that channel."""
        self._channel = channel
        self._trial = trial
        self._types = [queue_type] if queue_type else [*QUEUE_TYPES]
        self._declared: dict[str, float] = {}

    def tasks(self, queue: str, priority: int) -> tuple[str, int]:
        """Return the queue for tasks of one priority, and how many messages wait in it (0 if it was known)."""
        name = task_queue(queue, priority)
        return name, 0 if self._knows(name) else self._declare_tasks(name)

    def later(self, queue: str, priority: int, due: float, now: float) -> tuple[str, int]:
        """Return the queue where a task waits, and for how long (milliseconds)."""
        moment, width = slot_of(due, now)
        target, _ = self.tasks(queue, priority)
        name = _fitting(f"dingo.later.{queue}.{priority}.{width:g}.{moment:.1f}")
        expires = int((64 * width + 2 * FINE_HORIZON) * 1000)
        self._declare(name, {**_on_to(target), "x-expires": expires})
        return name, math.ceil((moment - now) * 1000)

    def reply(self, reply: str) -> str:
        """Return the queue for the reports to one address."""
        name = reply_queue(reply)
        self._declare(name, {"x-expires": int(REPLY_EXPIRES * 1000)})
        return name

    def hold(self, worker: str, target: str) -> str:
        """Return the queue for what a worker has started of a task queue."""
        name = _fitting(f"dingo.hold.{worker}.{target}")
        life = {"x-message-ttl": int(HOLD_TTL * 1000), "x-expires": int(HOLD_EXPIRES * 1000)}
        self._declare(name, {**_on_to(target), **life})
        return name

    def delete_reply(self, reply: str) -> None:
        """Delete the queue for the reports to one address, unless there are some in it or somebody else reads it."""
        name = reply_queue(reply)
        with answering_for(name):
            self._channel.queue_delete(name, if_unused=True, if_empty=True)

    def _declare(self, queue: str, arguments: dict[str, Any]) -> None:
        if not self._knows(queue):
            _make(self._channel, queue, arguments)

    def _declare_tasks(self, queue: str) -> int:
        """Make a task queue if it is not there; return how many messages wait in it.

        One that is there is taken as it is, unless the URL says of which type it has to be.
        """
        channel = self._trial()
        trials = [(one, arguments) for one in self._types for arguments in (QUEUE_TYPES[one], *_TAKEN[one])]
        for kind, arguments in trials:
            try:
                found = _make(channel, queue, arguments)
            except PreconditionFailed as error:
                if not any(argument in str(error) for argument in _TYPING):
                    raise
            else:
                self._types.sort(key=lambda other: other != kind)  # the next is probably of the same type
                return int(found.message_count)
        said = len(self._types) == 1
        use = "leave queue_type out of the URL to use it as it is, or " if said else ""
        raise LostError(
            f"the queue {queue!r} is there already, and is no {' or '.join(self._types)} queue: {use}"
            "delete it when it is empty, to have it made anew"
        )

    def _knows(self, queue: str) -> bool:
        """Whether a queue was declared lately; if not, it is now."""
        now = monotonic()
        if now - self._declared.get(queue, -DECLARED_FOR) < DECLARED_FOR:
            return True
        if len(self._declared) > KNOWN:
            self._declared.clear()
        self._declared[queue] = now
        return False


def _make(channel: Any, queue: str, arguments: dict[str, Any]) -> Any:
    with answering_for(queue):
        return channel.queue_declare(queue, durable=True, auto_delete=False, arguments=arguments)


def _on_to(queue: str) -> dict[str, Any]:
    """Where what has waited its time goes."""
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
