"""Header and TaskMessage: a call as it travels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WIRE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Header:
    """What can be read of a message without knowing its marshaller.

    `marshaller` and `report_marshaller` are the keys under which both sides registered them;
    `headers` are the user's own (strings to JSON values; a trace context travels here).
    """

    id: str
    name: str
    marshaller: str = "json"
    report_marshaller: str = "json"
    headers: dict[str, Any] = field(default_factory=dict)
    version: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A call: its header and its arguments as given (defaults are the worker's business)."""

    header: Header
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The call's id."""
        return self.header.id

    @property
    def name(self) -> str:
        """The task's name."""
        return self.header.name
