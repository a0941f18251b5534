"""Many calls of one task: sent at once, or streamed."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.errors import BadArguments, NotAttached, ResultTimeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dingo.caller.result import Result
    from dingo.plan import Plan

# How far `stream` is ahead of what was consumed. Enough to keep every worker busy with the shortest tasks;
# small against the memory of any program.
WINDOW = 1000
# So many are sent together, when that many have been consumed.
REFILL = 250


def send_many(plan: Plan, argument_tuples: Iterable[tuple[Any, ...]]) -> list[Result[Any]]:
    """Check all arguments, then send all calls. Raises BadArguments before anything is sent."""
    several = []
    for arguments in argument_tuples:
        if not isinstance(arguments, tuple | list):
            raise BadArguments(
                f"{plan.name}(): call_many takes a tuple of arguments for each call, not {type(arguments).__name__}"
            )
        several.append(plan.checked(tuple(arguments), {}))
    return _send_all(plan, several)


def _send_all(plan: Plan, several: list[tuple[tuple[Any, ...], dict[str, Any] | None]]) -> list[Result[Any]]:
    together = getattr(plan.bridge, "accept_many", None)  # over a broker several travel together
    if together is not None:
        sent: list[Result[Any]] = together(plan, several)
        return sent
    return [plan.send(args, kwargs or {}) for args, kwargs in several]


def stream(plan: Plan, iterables: tuple[Iterable[Any], ...], timeout: float | None) -> Iterator[Any]:
    """Send a window of calls and return an iterator over the values, in order, that sends the rest."""
    until = None if timeout is None else monotonic() + timeout
    arguments = zip(*iterables, strict=False)
    ahead: deque[Result[Any]] = deque()
    _fill(plan, arguments, ahead)
    return _values(plan, arguments, ahead, until, timeout)


def _fill(plan: Plan, arguments: Iterator[tuple[Any, ...]], ahead: deque[Result[Any]]) -> None:
    if len(ahead) > WINDOW - REFILL:
        return
    several = [plan.checked(args, {}) for args in islice(arguments, WINDOW - len(ahead))]
    ahead.extend(_send_all(plan, several))


def _values(plan: Plan, arguments: Iterator[tuple[Any, ...]], ahead: deque[Result[Any]],
            until: float | None, timeout: float | None) -> Iterator[Any]:  # fmt: skip
    try:
        while ahead:
            if until is None or ahead[0].wait(max(0.0, until - monotonic())):
                value = ahead[0].result()
            else:
                raise ResultTimeout(f"map over {plan.name!r} was not done within {timeout} s")
            ahead.popleft()
            _fill(plan, arguments, ahead)
            yield value
    finally:
        for result in ahead:  # nobody will consume them: what has not started need not
            with suppress(NotAttached):  # a broker that cannot withdraw what it has
                result.cancel()
