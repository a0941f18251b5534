"""Tasks and reports to messages, and messages to tasks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.contracts import Delivery, Envelope
from dingo.kombu.amqp.properties import DUE, STARTS, SUSPECT, write_properties
from dingo.store.mail import packs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.contracts import ReportEnvelope
    from dingo.kombu.amqp.frames import Message
    from dingo.kombu.amqp.link import Link, Outgoing


@dataclass(slots=True, eq=False)
class Claim:
    """The token of a delivery: it is good for one connection, and until it is settled (tag 0).

    When the connection breaks and the server gives the task to this worker again, the claim lives on.
    """

    link: Link
    tag: int
    envelope: Envelope
    since: float
    suspect: bool
    starts: int


def key_of(envelope: Envelope) -> tuple[str, str]:
    """Return what tells a call from all others."""
    return envelope.name, envelope.id


def count_in(message: Message, header: str) -> int:
    """Return a number from the headers; whoever may publish may also have written nonsense."""
    value = message.headers.get(header, 0)
    return value if type(value) is int and value >= 0 else 0


def delivery_of(link: Link, message: Message, queue: str, priority: int, *, forgiven: bool) -> Delivery:
    """Read a task. `forgiven`: that it was delivered before is no reason to suspect it."""
    starts = count_in(message, STARTS)
    suspect = (message.redelivered and not forgiven) or SUSPECT in message.headers
    envelope = Envelope(queue, message.id, message.name, message.body, priority, None, message.reply)
    return Delivery(envelope, Claim(link, message.tag, envelope, monotonic(), suspect, starts), suspect, starts)


def task_message(
    link: Link, envelope: Envelope, *, due: float | None, starts: int = 0, suspect: bool = False
) -> Outgoing:
    """Make the message that brings a task to its queue, or to where it waits for its time."""
    now = time()
    headers: dict[str, Any] = {STARTS: starts} if starts else {}
    if suspect:
        headers[SUSPECT] = True
    wait = None
    if due is not None and due > now:
        queue, wait = link.queues.later(envelope.queue, envelope.priority, due, now)
        headers[DUE] = math.ceil(due * 1000)
    else:
        queue, _ = link.queues.tasks(envelope.queue, envelope.priority)
    properties = write_properties(envelope.id, envelope.name, envelope.reply, expiration=wait, headers=headers)
    return queue, properties, envelope.frame


def report_messages(link: Link, reports: Sequence[ReportEnvelope]) -> list[Outgoing]:
    """Put reports for the same caller into one message, unless it grows too large."""
    properties = write_properties()
    return [(link.queues.reply(reply), properties, data) for reply, data in packs(reports)]
