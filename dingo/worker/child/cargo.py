"""Cargo: functions, arguments, values and exceptions as bytes.

Plain pickle is fast, and enough for what both sides can import. What it refuses, and what it would only
refer to in `__main__` (which a child does not have), goes by cloudpickle, by value.
"""

from __future__ import annotations

import io
import pickle
import sys
from typing import TYPE_CHECKING, Any

from dingo.errors import BadArguments, DingoError
from dingo.job import Fault
from dingo.message.report import Code, Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.plan import Plan

_PROTOCOL = 5  # of pickle

load = pickle.loads


class RemoteError(DingoError):
    """Stands for an exception of a worker process that cannot be read here: its class has the same name."""


def dump(value: Any) -> bytes:
    """Write a value. Raises whatever the value does."""
    try:
        data = pickle.dumps(value, _PROTOCOL)
    except Exception:
        return _dump_by_value(value)
    return _dump_by_value(value) if b"__main__" in data else data


def _dump_by_value(value: Any) -> bytes:
    import cloudpickle  # noqa: PLC0415 - heavy, and most calls do not come here

    data: bytes = cloudpickle.dumps(value, _PROTOCOL)
    return data


def said(error: BaseException) -> str:
    """Put an exception in one line."""
    failure = Failure.of(Code.EXCEPTION, error)
    return f"{failure.type}: {failure.message}"


# -- functions -------------------------------------------------------------------------------------


def dump_function(fn: Callable[..., Any]) -> bytes:
    """Write a function: by name where a child can import it, else by value. Raises what pickling it does."""
    place = _place_of(fn)
    if place is not None:
        return pickle.dumps((place, None, None), _PROTOCOL)
    from dingo.worker.child.nested import dump_with_apps  # noqa: PLC0415 - brings cloudpickle along

    return pickle.dumps((None, *dump_with_apps(fn)), _PROTOCOL)


def load_function(data: bytes | bytearray) -> Callable[..., Any]:
    """Read a function. Raises ImportError, AttributeError and whatever importing its module does."""
    place, by_value, apps = load(data)
    if place is not None:
        return _find(*place)
    from dingo.worker.child.nested import load_with_apps  # noqa: PLC0415

    return load_with_apps(by_value, apps)


def _place_of(fn: Callable[..., Any]) -> tuple[str, str] | None:
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return None
    try:
        return (module, name) if module in sys.modules and _find(module, name) is fn else None
    except (ImportError, AttributeError):
        return None


def _find(module: str, name: str) -> Callable[..., Any]:
    from dingo.registry import Task  # noqa: PLC0415 - an import in a circle

    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found.fn if isinstance(found, Task) else found


# -- calls -----------------------------------------------------------------------------------------


def dump_call(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any] | None, facts: Any) -> bytes:
    """Write the arguments of a call and its context. Raises BadArguments naming what cannot be sent."""
    try:
        return dump((args, kwargs, facts))
    except Exception as error:  # anything can happen in a __reduce__
        raise BadArguments(
            f"{plan.name}(): {_culprit(plan, args, kwargs or {})} cannot be sent to a worker process: {said(error)}"
        ) from error


def _culprit(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    for name, value in plan.binding.signature.bind(*args, **kwargs).arguments.items():
        try:
            dump(value)
        except Exception:  # why was said by the first attempt
            return f"argument {name!r}"
    return "what its context holds"


# -- exceptions ------------------------------------------------------------------------------------


def dump_error(error: BaseException) -> bytes:
    """Write an exception: itself if that is possible, and in any case its name, message and traceback."""
    failure = Failure.of(Code.EXCEPTION, error)
    try:
        itself = dump(error)
    except BaseException:
        itself = None
    return pickle.dumps((failure.type, failure.message, failure.traceback, itself), _PROTOCOL)


def load_fault(data: bytes | bytearray, code_of: Callable[[BaseException], Code]) -> Fault:
    """Read an exception, or what stands for it, as the reason why a call failed."""
    kind, message, traceback, itself = load(data)
    error = _load_error(itself) or type(kind, (RemoteError,), {"__module__": __name__})(message)
    if traceback:
        error.add_note(f"In the worker process:\n{traceback}")
    code = code_of(error)
    return Fault(code, error, Failure(code, kind, message, traceback))


def _load_error(data: bytes | None) -> BaseException | None:
    try:
        error = load(data) if data is not None else None
    except BaseException:  # its class is not here, or is not made of what it was made of
        return None
    return error if isinstance(error, BaseException) else None


# -- pickling with a say in it ---------------------------------------------------------------------


def dump_with(reduce: Callable[[Any], Any], value: Any) -> bytes:
    """Write a value by cloudpickle; `reduce(part)` may say how a part is written (else NotImplemented)."""
    import cloudpickle  # noqa: PLC0415 - as above

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            reduced = reduce(obj)
            return super().reducer_override(obj) if reduced is NotImplemented else reduced

    out = io.BytesIO()
    Pickler(out, _PROTOCOL).dump(value)
    return out.getvalue()
