"""Hooks: what users want called around their tasks."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.events import Hub


@dataclass(slots=True)
class Hooks:
    """The functions for each moment, in the order they were registered."""

    hub: Hub
    on_publish: list[Callable[..., object]] = field(default_factory=list)
    before_task: list[Callable[..., object]] = field(default_factory=list)
    after_task: list[Callable[..., object]] = field(default_factory=list)
    on_retry: list[Callable[..., object]] = field(default_factory=list)
    on_success: list[Callable[..., object]] = field(default_factory=list)
    on_failure: list[Callable[..., object]] = field(default_factory=list)
    on_error: list[Callable[..., object]] = field(default_factory=list)

    def add(self, moment: str, fn: Callable[..., object]) -> None:
        """Register a function. Raises TypeError where it cannot be called."""
        if not callable(fn):
            raise TypeError(f"{moment}() takes a function, not {fn!r}")
        if inspect.iscoroutinefunction(fn):
            raise TypeError(f"{moment}() takes a plain function, not an async one: nobody would await {fn!r}")
        getattr(self, moment).append(fn)

    @property
    def any(self) -> bool:
        """Whether anything at all is registered."""
        return bool(
            self.on_publish or self.before_task or self.after_task or self.on_retry
            or self.on_success or self.on_failure or self.on_error
        )  # fmt: skip

    def run(self, moment: str, *args: Any) -> None:
        """Call the functions of a moment; what they raise becomes an event and a log record."""
        for fn in getattr(self, moment):
            self.hub.guarded("hook", fn, *args)
