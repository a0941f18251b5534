"""What the json and msgpack marshallers share: calls and reports as trees, prepared per function.

A call is `[args]` or `[args, kwargs]`; a report is `[status, value, failure, progress, attempt, time]`
(behind it may stand how many seconds such a call takes), a
failure `[code, type, message, traceback]`, a progress `[done, total, message]`. Id and name travel in the
header.
"""

from __future__ import annotations

import abc
from inspect import Parameter
from typing import TYPE_CHECKING, Any, ClassVar

from dingo.errors import BadArguments, BadMessage, BadReturn
from dingo.marshaller.binding import Binding, binding_of
from dingo.marshaller.correction import Mismatch, correction, cut, shown
from dingo.marshaller.forms import Codec, Form, Uncarried, escaped
from dingo.marshaller.tags import MEMBER, unwrapped
from dingo.message.report import Code, Failure, Progress, Report, Status
from dingo.message.task import Header, TaskMessage

if TYPE_CHECKING:
    from collections.abc import Callable

# What a format's own library raises for a tree that it cannot write.
UNWRITABLE = (ValueError, TypeError, OverflowError, RecursionError)
# Bytes without it hold no value that says which member of a Union it is.
_MARK = MEMBER.encode()
_STATUSES = {int(status): status for status in Status}
_NUMBER = correction(int | float)


class Plan:
    """What is prepared for one function: the form of every parameter and of the return value.

    `plain` tells that every argument by position is written as it is, `plain_return` the same of the result. `loose`
    and `loose_return` tell that this is so at least for numbers, texts, booleans and None: no annotation says more.
    """

    def __init__(self, binding: Binding, codec: Codec) -> None:
        self.binding = binding
        self.by_position: list[Form] = []
        self.by_name: dict[str, Form] = {}
        self.rest = self.extra = codec.undecided
        for each in binding.signature.parameters.values():
            self._take(each, codec.form(binding.corrections[each.name].annotation))
        self.returned = codec.form(binding.returns.annotation)
        takes_rest = any(p.kind is Parameter.VAR_POSITIONAL for p in binding.signature.parameters.values())
        forms = [*self.by_position, *([self.rest] if takes_rest else ())]
        self.plain = all(form.encode is None for form in forms)
        self.loose = all(form.encode is None or form is codec.undecided for form in forms)
        self.plain_return = self.returned.encode is None
        self.loose_return = self.plain_return or self.returned is codec.undecided

    def _take(self, parameter: Parameter, form: Form) -> None:
        if parameter.kind is Parameter.VAR_POSITIONAL:
            self.rest = form
        elif parameter.kind is Parameter.VAR_KEYWORD:
            self.extra = form
        else:
            if parameter.kind is not Parameter.KEYWORD_ONLY:
                self.by_position.append(form)
            if parameter.kind is not Parameter.POSITIONAL_ONLY:
                self.by_name[parameter.name] = form

    def at(self, position: int) -> Form:
        """Return the form of an argument by position."""
        return self.by_position[position] if position < len(self.by_position) else self.rest

    def named(self, name: str) -> Form:
        """Return the form of an argument by name."""
        return self.by_name.get(name, self.extra)


class TypedMarshaller(abc.ABC):
    """A marshaller that writes trees typed by annotations.

    Arguments are written as `Binding.check` returned them, corrected. What cannot come back as the same value
    of the same type is refused: `BadArguments` for a call, `BadReturn` for a report. Without a function (only
    the name is known here) no annotation decides: what is no plain JSON type is tagged, and trees are read as
    they were written.
    """

    key: ClassVar[str]
    carries_bytes: ClassVar[bool] = False

    def __init__(self) -> None:
        self._codec = Codec(self.key, carries_bytes=self.carries_bytes)
        # Holding the bindings keeps what was prepared for their functions.
        self._prepared: dict[str, Binding] = {}

    @abc.abstractmethod
    def write(self, tree: Any) -> bytes:
        """Write a tree. Raises one of `UNWRITABLE` for what the format does not have."""

    @abc.abstractmethod
    def patch(self, tree: Any) -> Any:
        """Return a tree with tags for the scalars that `write` refuses."""

    @abc.abstractmethod
    def read(self, data: bytes, *, marked: bool) -> Any:
        """Read a tree, its tags resolved; `marked`: the members of Unions stay marked.

        May raise any Exception for bytes that are none, and must for what is nested too deep.
        """

    def prepare(self, name: str, fn: Callable[..., Any]) -> None:
        """Prepare for calls of a function under a name. Raises `Unresolved`."""
        binding = binding_of(fn)
        self._plan_of(binding)
        self._prepared[name] = binding

    # --- calls

    def encode_task(self, fn: Callable[..., Any] | None, task: TaskMessage) -> bytes:
        """Write the arguments of a call. Raises `BadArguments`, naming the path to what cannot be carried."""
        plan = self._plan(fn)
        if plan is not None and plan.plain and not task.kwargs:
            try:
                return self.write((task.args,))
            except UNWRITABLE:
                pass  # a scalar that the format does not have: it is tagged below, or named in the error
        try:
            return self._written(self._call(plan, task))
        except Uncarried as error:
            raise BadArguments(f"{task.name}(): {error}") from error.__cause__

    def decode_task(self, fn: Callable[..., Any] | None, header: Header, data: bytes) -> TaskMessage:
        """Read a call's arguments, corrected to the annotations.

        Raises `BadMessage` for bytes that are no call, `BadArguments` for arguments that do not fit.
        """
        plan = self._plan(fn)
        marked = plan is not None and _MARK in data
        args, kwargs = _arguments(self._tree(data, header, marked=marked), header)
        if plan is None:
            return TaskMessage(header, tuple(args), kwargs)
        try:
            if marked:
                args = [plan.at(number).decode(each) for number, each in enumerate(args)]
                kwargs = {name: plan.named(name).decode(each) for name, each in kwargs.items()}
        except Mismatch as mismatch:
            raise BadArguments(f"{header.name}(): {mismatch}") from None
        return TaskMessage(header, *plan.binding.corrected(args, kwargs))

    def _call(self, plan: Plan | None, task: TaskMessage) -> list[Any]:
        args = [
            self._encoded(plan.at(number) if plan else None, each, f"args[{number}]")
            for number, each in enumerate(task.args)
        ]
        if not task.kwargs:
            return [args]
        kwargs = {
            name: self._encoded(plan.named(name) if plan else None, each, f"kwargs[{name!r}]")
            for name, each in task.kwargs.items()
        }
        return [args, escaped(kwargs)]

    # --- reports

    def encode_report(self, fn: Callable[..., Any] | None, report: Report) -> bytes:
        """Write a report but its id and name. Raises `BadReturn`, naming the path to what is not carried."""
        plan = self._plan(fn) if report.status is Status.SUCCESS else None
        if plan is not None and plan.plain_return and report.failure is None and report.progress is None:
            tree = (int(report.status), report.value, None, None, report.attempt, report.time)
            try:
                return self.write(tree)
            except UNWRITABLE:
                pass  # as with a call
        try:
            return self._written(self._report(plan, report))
        except Uncarried as error:
            raise BadReturn(f"{report.name}(): the returned {error}") from error.__cause__

    def decode_report(self, fn: Callable[..., Any] | None, header: Header, data: bytes) -> Report:
        """Read a report; the value of a SUCCESS is corrected to the return annotation.

        Raises `BadMessage` for bytes that are no report, `BadReturn` for a value that does not fit.
        """
        plan = self._plan(fn)
        marked = plan is not None and _MARK in data
        tree = self._tree(data, header, marked=marked)
        status, value, failure, progress, attempt, time = _report_fields(tree, header)
        if plan is not None and status is Status.SUCCESS:
            try:
                value = plan.binding.returns.apply(plan.returned.decode(value) if marked else value)
            except Mismatch as mismatch:
                raise BadReturn(f"{header.name}(): the returned value: {mismatch}") from None
        elif marked:
            value = unwrapped(value)
        return Report(header.id, header.name, status, value, failure, progress, attempt, time)

    def _report(self, plan: Plan | None, report: Report) -> list[Any]:
        return [
            int(report.status),
            self._encoded(plan.returned if plan else None, report.value, "value"),
            _failure_tree(report.failure),
            _progress_tree(report.progress),
            report.attempt,
            report.time,
        ]

    # --- parts

    def _plan(self, fn: Callable[..., Any] | None) -> Plan | None:
        return None if fn is None else self._plan_of(binding_of(fn))

    def _plan_of(self, binding: Binding) -> Plan:
        plan: Plan | None = binding.plans.get(self)
        if plan is None:
            plan = binding.plans[self] = Plan(binding, self._codec)
        return plan

    def _encoded(self, form: Form | None, value: Any, place: str) -> Any:
        encode = form.encode if form is not None else None
        try:
            return self._codec.write(value) if encode is None else encode(value, 0)
        except Uncarried as error:
            raise error.inside(place) from error.__cause__

    def _written(self, tree: list[Any]) -> bytes:
        try:
            return self.write(tree)
        except UNWRITABLE:
            pass  # rare: most values need no patch, and looking for what does is slow
        try:
            return self.write(self.patch(tree))
        except UNWRITABLE as error:
            raise Uncarried(f"{error} (the {self.key} marshaller)") from error

    def _tree(self, data: bytes, header: Header, *, marked: bool) -> Any:
        try:
            return self.read(data, marked=marked)
        except Exception as error:  # whatever a parser raises for bytes from anywhere
            why = f"{type(error).__name__}: {cut(str(error))}"
            raise BadMessage(f"{header.name}(): not a message in {self.key}: {why}") from error


def _arguments(tree: Any, header: Header) -> tuple[list[Any], dict[str, Any]]:
    if type(tree) is list and 1 <= len(tree) <= 2 and type(tree[0]) is list:
        if len(tree) == 1:
            return tree[0], {}
        if type(tree[1]) is dict and all(type(name) is str for name in tree[1]):
            return tree[0], tree[1]
    raise BadMessage(f"{header.name}(): the message holds no arguments: [args] or [args, kwargs] is expected")


def _report_fields(tree: Any, header: Header) -> tuple[Status, Any, Failure | None, Progress | None, int, float]:
    try:
        status, value, failure, progress, attempt, time, *_ = _typed(tree, list)  # what newer ones add is left out
        return (
            _STATUSES[_typed(status, int)],
            value,
            None if failure is None else _read_failure(failure),
            None if progress is None else _read_progress(progress),
            _typed(attempt, int),
            _typed(time, float, int),
        )
    except (ValueError, TypeError, LookupError) as error:
        raise BadMessage(f"{header.name}(): the message holds no report: {error}") from error


def _typed(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{shown(value)} where {kinds[0].__name__} is expected")
    return value


def _failure_tree(failure: Failure | None) -> list[str] | None:
    if failure is None:
        return None
    return [str(failure.code), failure.type, failure.message, failure.traceback]


def _read_failure(tree: Any) -> Failure:
    code, kind, message, traceback = (_typed(each, str) for each in _typed(tree, list))
    return Failure(Code(code), kind, message, traceback)


def _progress_tree(progress: Progress | None) -> list[Any] | None:
    if progress is None:
        return None
    try:
        total = None if progress.total is None else _NUMBER.apply(progress.total)
        return [_NUMBER.apply(progress.done), total, progress.message]
    except Mismatch as mismatch:
        raise Uncarried(str(mismatch), "progress") from None


def _read_progress(tree: Any) -> Progress:
    done, total, message = _typed(tree, list)
    return Progress(
        _typed(done, float, int),
        None if total is None else _typed(total, float, int),
        None if message is None else _typed(message, str),
    )
