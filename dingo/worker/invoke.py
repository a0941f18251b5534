"""How a function is run that wants more than its arguments: its context, or an invoker around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.worker.context import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.contracts import Invoker


def with_context(run: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run it with the context of its call first. The last progress it told is shown before it has returned."""
    context = current()
    value = run(context, *args, **kwargs)
    context.flush()
    return value


def through(invoker: Invoker, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Run it as an invoker does."""
    return invoker.invoke(fn, args, kwargs)
