"""Fields of a kind: dataclasses whose values are checked when they are made, and refused with a `BadConfig`."""

from __future__ import annotations

import difflib
import functools
from dataclasses import MISSING, field, fields
from typing import TYPE_CHECKING, Any, TypeVar, overload

from dingo.errors import BadConfig
from dingo.masking import SHOWN_LIMIT, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dingo.config.kinds import Kind

T = TypeVar("T")


@overload
def knob(kind: Kind, default: T) -> T: ...
@overload
def knob(kind: Kind, *, make: Callable[[], T], hash: bool | None = ...) -> T: ...
def knob(kind: Kind, default: Any = MISSING, *, make: Any = MISSING, hash: bool | None = None) -> Any:
    """Declare a field that takes this kind of value, with its default or what makes one."""
    return field(default=default, default_factory=make, hash=hash, metadata={"kind": kind})


_kinds_of: dict[Any, dict[str, Kind]] = {}


def kinds_of(cls: Any) -> dict[str, Kind]:
    """Return the fields that can be given, with what each takes. They are looked up once."""
    if cls not in _kinds_of:
        _kinds_of[cls] = {one.name: one.metadata["kind"] for one in fields(cls) if "kind" in one.metadata}
    return _kinds_of[cls]


def accept_all(instance: object) -> None:
    """Check the fields of a frozen value, and put what they shall hold in their place. Raises BadConfig."""
    for name, kind in kinds_of(type(instance)).items():
        object.__setattr__(instance, name, kind.checked(name, getattr(instance, name)))


def unknown(given: object, known: Iterable[str], *, prefix: str = "") -> BadConfig:
    """Make the error for a key that does not exist, with the nearest one that does.

    With a prefix, `given` and the suggestion are names of environment variables.
    """
    guess = str(given).removeprefix(prefix).lower()[:SHOWN_LIMIT]
    spelled = {name: prefix + name.upper() if prefix else name for name in known}
    near = difflib.get_close_matches(guess, spelled, n=1, cutoff=0.5)
    hint = f"did you mean {spelled[near[0]]!r}?" if near else f"choose from {', '.join(spelled.values())}"
    return BadConfig(f"unknown key {shown(given)}: {hint}")


def refusing_unknown(cls: type[T]) -> type[T]:
    """Make a dataclass raise `BadConfig` for keywords that it does not know.

    The generated `__init__` stays what type checkers, editors and `inspect.signature` see.
    """
    generated: Callable[..., None] = cls.__init__

    @functools.wraps(generated)
    def __init__(self: T, *args: object, **values: object) -> None:  # noqa: N807
        known = kinds_of(cls)
        for name in values:
            if name not in known:
                raise unknown(name, known)
        generated(self, *args, **values)

    cls.__init__ = __init__  # type: ignore[assignment]
    return cls
