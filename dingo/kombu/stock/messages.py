"""Tasks as messages: what a broker has to know stands in headers, the body is the frame as it is."""

from __future__ import annotations

from typing import Any

from dingo.contracts import Envelope

ID, NAME, REPLY, DUE, PRIORITY = "dingo-id", "dingo-name", "dingo-reply", "dingo-due", "dingo-priority"


def headers_of(envelope: Envelope) -> dict[str, Any]:
    """Return the headers of a task that is due."""
    return {ID: envelope.id, NAME: envelope.name, REPLY: envelope.reply, PRIORITY: envelope.priority}


def envelope_of(queue: str, message: Any) -> Envelope:
    """Read a message; what a stranger wrote is for the worker to judge."""
    headers = message.headers if isinstance(message.headers, dict) else {}

    def text(name: str) -> str:
        value = headers.get(name, "")
        return value if isinstance(value, str) else ""

    due, priority = headers.get(DUE), headers.get(PRIORITY)
    body = message.body
    return Envelope(
        queue, text(ID), text(NAME), body if isinstance(body, bytes) else bytes(str(body or ""), "utf-8"),
        priority if type(priority) is int and 0 <= priority <= 9 else 4,
        float(due) if isinstance(due, int | float) else None, text(REPLY),
    )  # fmt: skip


def as_it_came(base: type[Any]) -> type[Any]:
    """Return a class of messages that are not inflated: that would be done before anybody could look at the size."""

    class Message(base):  # type: ignore[misc]
        def __init__(self, raw: Any, channel: Any = None, **fields: Any) -> None:
            headers = raw.get("headers") if isinstance(raw, dict) else raw.properties.get("application_headers")
            if isinstance(headers, dict):
                headers.pop("compression", None)
            super().__init__(raw, channel=channel, **fields)

    return Message
