"""Signature: a call not yet made, to be sent later or when another one ends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Unpack

from dingo.message.option import Option, OptionFields, laid_over


@dataclass(frozen=True, slots=True)
class Signature:
    """The name, arguments and options of a call to make.

    `immutable`: it takes nothing from the task before it (its arguments are complete as they are).
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    immutable: bool = False

    def with_options(self, **options: Unpack[OptionFields]) -> Signature:
        """Return the same call with these options on top. Raises BadOption."""
        Option.of(options)
        return replace(self, options=laid_over(self.options, options))

    def prepended(self, *values: Any) -> Signature:
        """Return the same call with values before its own arguments (itself if it is immutable)."""
        return self if self.immutable else replace(self, args=(*values, *self.args))
