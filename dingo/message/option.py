"""Option: what may be said about how a task, or one call of it, is carried out."""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from dingo.errors import BadOption
from dingo.message.retry import Retry

if TYPE_CHECKING:
    from dingo.contracts import IDMaker, Invoker, Marshaller
    from dingo.message.signature import Signature

DEFAULT_PRIORITY = 4
MAX_PRIORITY = 9


class OptionFields(TypedDict, total=False):
    """The options as keyword arguments, for type checkers and editors. Their meaning is in `Option`."""

    ignore_report: bool
    monitor_progress: bool
    retry: int | Retry
    timeout: float | None
    delay: float | None
    eta: datetime.datetime | None
    expires: float | datetime.datetime | None
    priority: int
    queue: str | None
    id: str | None
    headers: Mapping[str, Any]
    on_success: Iterable[Signature]
    on_error: Iterable[Signature]
    pass_result: bool
    immutable: bool
    unique: bool | str | Callable[..., str] | None
    pool: str | None
    workers: int | None
    confirm: bool
    rate_limit: str | None
    max_concurrency: int | None
    redeliver: bool
    keep_result: float | None
    marshaller: str | Marshaller | None
    report_marshaller: str | Marshaller | None
    id_maker: str | IDMaker | None
    invoker: Invoker | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """The options of a task or of one call, checked. All times are in seconds.

    ignore_report: the caller is not told how it ends. monitor_progress: every report travels, not only the
    final one. retry: a policy, or None. timeout: per attempt. delay, eta: not before. expires: not after
    (seconds from the call, or an aware datetime). priority: 0 to 9, 9 first. queue: where it waits. id: the
    call's id, chosen by the caller. headers: the user's own, seen as `context.headers`. on_success,
    on_error: calls to make when it ends. pass_result: whether its result is given to those. unique: one at a
    time per key. pool: "thread", "process" or "async". workers: how many a serving process shall use.
    confirm: `call` waits until it is SENT. rate_limit: starts per second (a float; given as "10/s").
    max_concurrency: how many run at once. redeliver: whether a call whose worker died runs again.
    keep_result: how long a finished result can be looked up by id.
    """

    ignore_report: bool = False
    monitor_progress: bool = False
    retry: Retry | None = None
    timeout: float | None = None
    delay: float | None = None
    eta: datetime.datetime | None = None
    expires: float | datetime.datetime | None = None
    priority: int = DEFAULT_PRIORITY
    queue: str | None = None
    id: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)
    on_success: tuple[Signature, ...] = ()
    on_error: tuple[Signature, ...] = ()
    pass_result: bool = True
    unique: bool | str | Callable[..., str] | None = None
    pool: str | None = None
    workers: int | None = None
    confirm: bool = False
    rate_limit: float | None = None
    max_concurrency: int | None = None
    redeliver: bool = True
    keep_result: float | None = None
    marshaller: str | Marshaller | None = None
    report_marshaller: str | Marshaller | None = None
    id_maker: str | IDMaker | None = None
    invoker: Invoker | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], base: Option | None = None, *, on_task: bool = False) -> Option:
        """Check what was given and lay it over `base`, field by field.

        Raises BadOption for an unknown option, a wrong value, one that cannot be said of a whole task
        (`on_task`) or only of one, or two that contradict each other.
        """
        checked = {}
        for name, value in given.items():
            field_name, field_value = _checked(name, value)
            if on_task and (field_name in _CALL_ONLY or (field_name == "unique" and isinstance(value, str))):
                raise BadOption(f"option {name!r} makes no sense on a task: give it to one call, with app.options()")
            if not on_task and field_name in _TASK_ONLY:
                raise BadOption(f"option {name!r} belongs to a task, not to one call: give it to register()")
            checked[field_name] = field_value
        if checked.get("delay") is not None and checked.get("eta") is not None:
            raise BadOption("options 'delay' and 'eta' contradict each other: give one of them")
        if "delay" in checked:
            checked.setdefault("eta", None)
        if checked.get("eta") is not None:
            checked["delay"] = None
        return replace(base, **checked) if base is not None else cls(**checked)


def laid_over(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay options as they were given over earlier ones: a later delay replaces an earlier eta, and vice versa."""
    instead = {"delay": "eta", "eta": "delay"}
    replaced = {instead[name] for name in given if name in instead}
    return {**{name: value for name, value in before.items() if name not in replaced}, **given}


# Said of one call only: a whole task cannot have one id or one moment.
_CALL_ONLY = frozenset({"id", "eta"})
# Said of a whole task only: a serving process has made its workers before a call comes.
_TASK_ONLY = frozenset({"pool", "workers"})


def _checked(name: str, value: Any) -> tuple[str, Any]:
    check = _CHECKS.get(name)
    if check is None:
        near = difflib.get_close_matches(name, _CHECKS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known options are: {', '.join(sorted(_CHECKS))}"
        raise BadOption(f"option {name!r} is unknown: {hint}")
    try:
        checked = check(value)
    except ValueError as error:
        if isinstance(error, BadOption):
            raise
        raise BadOption(f"option {name!r} is {error}, not {value!r}") from None
    return ("pass_result", not checked) if name == "immutable" else (name, checked)


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("True or False")
    return value


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _retry(value: Any) -> Retry | None:
    if isinstance(value, Retry):
        return value
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise ValueError("a count from 0 or a dingo.Retry(...)")
    return Retry(max=value) if value else None


def _seconds(*, zero: bool) -> Callable[[Any], float | None]:
    def check(value: Any) -> float | None:
        if value is None:
            return None
        if not _number(value) or not 0 <= value < math.inf or (value == 0 and not zero):
            raise ValueError(f"a number of seconds {'from 0' if zero else 'over 0'}, or None")
        return float(value)

    return check


def _moment(value: Any) -> datetime.datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime.datetime) or value.utcoffset() is None:
        raise ValueError(
            "an aware datetime (with a time zone, for instance datetime.now(timezone.utc) + timedelta(...)), or None"
        )
    return value


def _expires(value: Any) -> float | datetime.datetime | None:
    if isinstance(value, datetime.datetime):
        return _moment(value)
    return _seconds(zero=True)(value)


def _whole(low: int, high: float = math.inf, *, none: bool = False) -> Callable[[Any], int | None]:
    upto = f" to {int(high)}" if high < math.inf else ""

    def check(value: Any) -> int | None:
        if value is None and none:
            return None
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"a whole number from {low}{upto}{', or None' if none else ''}")
        return int(value)

    return check


_NAME = re.compile(r"[^\x00-\x20\x7f]{1,255}")


def _text(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not _NAME.fullmatch(value)):
        raise ValueError("a text of 1 to 255 characters without spaces or control characters, or None")
    return value


def _headers(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("a mapping with text keys")
    return dict(value)


def _signatures(value: Any) -> tuple[Signature, ...]:
    from dingo.message.signature import Signature  # noqa: PLC0415 - a Signature has options itself

    wanted = "a list of signatures (task.s(...))"
    if isinstance(value, Signature):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ValueError(wanted)  # noqa: TRY004 - turned into a BadOption, which is both
    several = tuple(value)
    if not all(isinstance(one, Signature) for one in several):
        raise ValueError(wanted)
    return several


def _unique(value: Any) -> Any:
    if value is None or value is False:
        return None
    if value is True or (isinstance(value, str) and value) or (callable(value) and not isinstance(value, type)):
        return value
    raise ValueError("True (name and arguments), a key, or a callable of the arguments that returns one")


def _pool(value: Any) -> str | None:
    if value not in (None, "thread", "process", "async"):
        raise ValueError('"thread", "process" or "async"')
    return value  # type: ignore[no-any-return]


_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|m|h|sec|min|hour|second|minute)\s*")
_PER = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) <= 0:
        raise ValueError('a rate over 0 such as "10/s", "100/m" or "5/h"')
    return float(match[1]) / _PER[match[2]]


def _component(*methods: str, text: bool) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value is None or (text and isinstance(value, str) and value):
            return value
        if isinstance(value, str | type) or not all(callable(getattr(value, one, None)) for one in methods):
            raise ValueError(f"{'a key or ' if text else ''}an object with {', '.join(f'{m}()' for m in methods)}")
        return value

    return check


_CHECKS: dict[str, Callable[[Any], Any]] = {
    "ignore_report": _bool,
    "monitor_progress": _bool,
    "retry": _retry,
    "timeout": _seconds(zero=False),
    "delay": _seconds(zero=True),
    "eta": _moment,
    "expires": _expires,
    "priority": _whole(0, MAX_PRIORITY),
    "queue": _text,
    "id": _text,
    "headers": _headers,
    "on_success": _signatures,
    "on_error": _signatures,
    "pass_result": _bool,
    "immutable": _bool,
    "unique": _unique,
    "pool": _pool,
    "workers": _whole(1, none=True),
    "confirm": _bool,
    "rate_limit": _rate,
    "max_concurrency": _whole(1, none=True),
    "redeliver": _bool,
    "keep_result": _seconds(zero=True),
    "marshaller": _component("encode_task", "decode_task", text=True),
    "report_marshaller": _component("encode_report", "decode_report", text=True),
    "id_maker": _component("new_id", text=True),
    "invoker": _component("invoke", "returned", text=False),
}
assert set(_CHECKS) == {one.name for one in fields(Option)} | {"immutable"}
