"""The queues, and what they are called."""

from __future__ import annotations

import hashlib
import math
import re
from typing import Any

import kombu

# A task that is not due waits in the first queue whose horizon it is within; each is looked into so often (seconds).
HORIZONS = (2.0, 20.0, 200.0, 2000.0, math.inf)
LOOK_EVERY = (0.2, 1.0, 10.0, 100.0, 600.0)

_REPLIES = kombu.Exchange("dingo-reply", type="direct", durable=True)


def _word(name: str) -> str:
    """Return what stands for a name in the name of a queue: brokers differ in what they take, all take these."""
    if re.fullmatch(r"[A-Za-z0-9_]{1,40}", name):
        return name
    return f"{re.sub('[^A-Za-z0-9_]', '_', name)[:20]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def task_queue(queue: str) -> str:
    """Return the name of the queue for tasks."""
    return f"dingo-{_word(queue)}"


def later_queue(queue: str, level: int) -> str:
    """Return the name of a queue for tasks that are not due yet."""
    return f"{task_queue(queue)}-later{level}"


def level_of(wait: float) -> int:
    """Return in which of them a task waits that is due in so many seconds."""
    return next(level for level, horizon in enumerate(HORIZONS) if wait < horizon)


def reply_queue(reply: str) -> str:
    """Return the name of the queue for a caller's reports."""
    return f"dingo-reply-{_word(reply.removeprefix('reply.'))}"


def declared(channel: Any, name: str) -> Any:
    """Return a queue, which is there from now on."""
    queue = kombu.Queue(name, durable=True, auto_delete=False, channel=channel)
    channel.queue_declare(queue=name, durable=True, exclusive=False, auto_delete=False)
    return queue


def declared_for_reports(channel: Any, name: str) -> Any:
    """Return the same, but one that can be deleted: kombu deletes only those that are bound to an exchange."""
    queue = kombu.Queue(name, _REPLIES, routing_key=name, durable=True, auto_delete=False)(channel)
    queue.declare()
    return queue
