"""Retry: how often and how late a failed attempt is tried again."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dingo.errors import BadOption

if TYPE_CHECKING:
    from typing import Literal

    Backoff = Literal["fibonacci", "exponential", "fixed"] | Callable[[int], float]

# Asked for by RetryLater where the task itself has no `retry`.
RETRY_LATER_MAX = 10


def _fibonacci(attempt: int) -> float:
    """1, 2, 3, 5, 8 ... (Binet's formula keeps a late attempt from counting up through all before it)."""
    if attempt > 70:  # beyond this a float no longer tells neighbours apart; every sensible cap is far below
        return math.inf
    root = math.sqrt(5)
    return float(round(((1 + root) / 2) ** (attempt + 1) / root))


def _exponential(attempt: int) -> float:
    return math.inf if attempt > 1000 else 2.0 ** (attempt - 1)


_BACKOFFS: dict[str, Callable[[int], float]] = {
    "fibonacci": _fibonacci,
    "exponential": _exponential,
    "fixed": lambda _attempt: 1.0,
}


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy: `max` retries after the first run (so max + 1 runs), waiting in between.

    The wait before retry n is `base` seconds times 1, 2, 3, 5, 8 ... ("fibonacci"), 1, 2, 4, 8 ...
    ("exponential") or 1 ("fixed"), or what a callable returns for n (seconds), never over `cap` seconds.
    With `jitter` an exponential wait is drawn evenly from zero to that ("full jitter": after a common
    cause, retries must not come back together), the others from 75 to 125 % of it.

    Only exceptions that are instances of `on` and not of `give_up_on` are retried. Beside classes there may be
    full names of classes ("package.module.Class"), which need not be imported here.

    Raises BadOption for a value that makes no sense.
    """

    max: int = 3
    backoff: Backoff = "fibonacci"
    base: float = 1.0
    cap: float = 600.0
    jitter: bool = True
    on: tuple[type[BaseException] | str, ...] = (Exception,)
    give_up_on: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field."""
        if type(self.max) is not int or self.max < 0:
            raise BadOption(f"Retry.max is a whole number from 0, not {self.max!r}")
        if not callable(self.backoff) and self.backoff not in _BACKOFFS:
            raise BadOption(f"Retry.backoff is one of {', '.join(_BACKOFFS)} or a callable, not {self.backoff!r}")
        for name in ("base", "cap"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise BadOption(f"Retry.{name} is a number of seconds from 0, not {value!r}")
        if type(self.jitter) is not bool:
            raise BadOption(f"Retry.jitter is True or False, not {self.jitter!r}")
        for name in ("on", "give_up_on"):
            object.__setattr__(self, name, self._exceptions(name))

    def _exceptions(self, name: str) -> tuple[type[BaseException] | str, ...]:
        given = getattr(self, name)
        classes = (given,) if isinstance(given, type | str) or not isinstance(given, Iterable) else tuple(given)
        for one in classes:
            if not (
                (isinstance(one, str) and "." in one) or (isinstance(one, type) and issubclass(one, BaseException))
            ):
                raise BadOption(
                    f"Retry.{name} is a tuple of exception classes (or their full names), not one with {one!r}"
                )
        return classes

    def wants(self, error: BaseException) -> bool:
        """Whether this exception is one to try again after."""
        return _is_one(type(error), self.on) and not _is_one(type(error), self.give_up_on)

    @property
    def names_timeout(self) -> bool:
        """Whether it names TimeoutError itself, and not only something more general."""
        return any(one == "builtins.TimeoutError" or _is_timeout(one) for one in self.on)

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the given attempt (1 = the first run) has failed."""
        step = self.backoff if callable(self.backoff) else _BACKOFFS[self.backoff]
        factor = 1.0 if callable(self.backoff) else self.base
        wait = factor * step(attempt) if factor else 0.0  # nothing times a step beyond all floats is nothing
        wait = min(self.cap, max(0.0, float(wait)))
        if not self.jitter or callable(self.backoff):
            return wait
        low = 0.0 if self.backoff == "exponential" else 0.75
        high = 1.0 if self.backoff == "exponential" else 1.25
        return min(self.cap, wait * random.uniform(low, high))  # noqa: S311 - spreading load, not keeping secrets


def full_name(one: type) -> str:
    """Return the name by which a class is known in every process."""
    return f"{one.__module__}.{one.__qualname__}"


def _is_one(kind: type[BaseException], classes: tuple[type[BaseException] | str, ...]) -> bool:
    for one in classes:
        if isinstance(one, str):
            if any(full_name(base) == one for base in kind.__mro__):
                return True
        elif issubclass(kind, one):
            return True
    return False


def _is_timeout(one: type[BaseException] | str) -> bool:
    return not isinstance(one, str) and issubclass(one, TimeoutError)
