"""The pickle marshaller: any object, closures and lambdas too, between those who trust each other.

Reading a pickle runs what its author wrote: never read one from a stranger. Whether a pickle from the wire
is read at all is decided elsewhere; this module reads what it is given.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from dingo.errors import BadArguments, BadMessage, BadReturn
from dingo.marshaller.binding import Binding, binding_of
from dingo.marshaller.correction import Mismatch, cut, shown
from dingo.message.report import Failure, Progress, Report, Status
from dingo.message.task import Header, TaskMessage

if TYPE_CHECKING:
    from collections.abc import Callable


class PickleMarshaller:
    """Writes with cloudpickle, reads with pickle; what is read is corrected to the annotations."""

    key = "pickle"
    unpickles = True

    def __init__(self) -> None:
        # Holding the bindings keeps what was prepared for their functions.
        self._prepared: dict[str, Binding] = {}

    def prepare(self, name: str, fn: Callable[..., Any]) -> None:
        """Prepare for calls of a function under a name. Raises `Unresolved`."""
        self._prepared[name] = binding_of(fn)

    def encode_task(self, fn: Callable[..., Any] | None, task: TaskMessage) -> bytes:  # noqa: ARG002
        """Write the arguments of a call. Raises `BadArguments`, naming the one that cannot be pickled."""
        try:
            return _dumps((task.args, task.kwargs))
        except Exception as error:  # anything can happen in a __reduce__
            place = _culprit(task) or "the arguments"
            raise BadArguments(f"{task.name}(): {place} cannot be pickled: {_said(error)}") from error

    def decode_task(self, fn: Callable[..., Any] | None, header: Header, data: bytes) -> TaskMessage:
        """Read a call's arguments, corrected to the annotations.

        Raises `BadMessage` for bytes that are no call, `BadArguments` for arguments that do not fit.
        """
        args, kwargs = _arguments(_loads(data, header), header)
        if fn is None:
            return TaskMessage(header, args, kwargs)
        return TaskMessage(header, *binding_of(fn).corrected(args, kwargs))

    def encode_report(self, fn: Callable[..., Any] | None, report: Report) -> bytes:  # noqa: ARG002
        """Write a report but its id and name. Raises `BadReturn` if its value cannot be pickled."""
        fields = (
            int(report.status),
            report.value,
            report.failure,
            report.progress,
            report.attempt,
            report.time,
        )
        try:
            return _dumps(fields)
        except Exception as error:  # as with a call
            raise BadReturn(f"{report.name}(): the returned value cannot be pickled: {_said(error)}") from error

    def decode_report(self, fn: Callable[..., Any] | None, header: Header, data: bytes) -> Report:
        """Read a report; the value of a SUCCESS is corrected to the return annotation.

        Raises `BadMessage` for bytes that are no report, `BadReturn` for a value that does not fit.
        """
        report = _report(_loads(data, header), header)
        if fn is None or report.status is not Status.SUCCESS:
            return report
        try:
            value = binding_of(fn).returns.apply(report.value)
        except Mismatch as mismatch:
            raise BadReturn(f"{header.name}(): the returned value: {mismatch}") from None
        if value is report.value:
            return report
        return Report(
            *(header.id, header.name, report.status, value),
            *(report.failure, report.progress, report.attempt, report.time),
        )


def _dumps(value: Any) -> bytes:
    import cloudpickle  # noqa: PLC0415 - heavy, and most programs never come here

    data: bytes = cloudpickle.dumps(value)
    return data


def _loads(data: bytes, header: Header) -> Any:
    try:
        return pickle.loads(data)  # noqa: S301 - see above
    except Exception as error:  # anything can happen in a pickle
        raise BadMessage(f"{header.name}(): not a pickle that can be read here: {_said(error)}") from error


def _said(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {cut(str(error))}"
    except Exception:  # the user's own exception may not even be printable
        return type(error).__name__


def _culprit(task: TaskMessage) -> str | None:
    """Find the argument that cannot be pickled by itself."""
    places = [(f"args[{number}]", value) for number, value in enumerate(task.args)]
    places += [(f"kwargs[{name!r}]", value) for name, value in task.kwargs.items()]
    for place, value in places:
        try:
            _dumps(value)
        except Exception:  # this one it is; why was said by the first attempt
            return f"{place}: {shown(value)}"
    return None


def _arguments(tree: Any, header: Header) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if type(tree) is tuple and len(tree) == 2:
        args, kwargs = tree
        if type(args) is tuple and type(kwargs) is dict and all(type(name) is str for name in kwargs):
            return args, kwargs
    raise BadMessage(f"{header.name}(): the message holds no arguments")


def _report(tree: Any, header: Header) -> Report:
    if type(tree) is tuple and len(tree) == 6:
        status, value, failure, progress, attempt, time = tree
        if (
            type(status) is int
            and 0 <= status <= Status.CANCELLED
            and isinstance(failure, Failure | None)
            and isinstance(progress, Progress | None)
            and type(attempt) is int
            and type(time) in {int, float}
        ):
            return Report(header.id, header.name, Status(status), value, failure, progress, attempt, time)
    raise BadMessage(f"{header.name}(): the message holds no report")
