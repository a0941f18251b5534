"""What of a call's options goes with it to its worker, as JSON, and back.

Options that have done their work at the caller (delay, id, queue ...) stay there. What is code cannot go at all:
nothing from the wire is ever imported. Exception classes go by their full names, and are compared by name.
"""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from dingo.errors import BadMessage, BadOption
from dingo.marshaller.json import JsonMarshaller
from dingo.message.retry import Retry, full_name
from dingo.message.signature import Signature
from dingo.message.task import Header, TaskMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Which of a call's own options its worker must know.
_TRAVEL = frozenset({
    "ignore_report", "monitor_progress", "retry", "timeout", "pass_result", "immutable", "redeliver", "keep_result",
    "marshaller", "report_marshaller", "invoker", "rate_limit", "max_concurrency",
})  # fmt: skip
# Those that say what follows: they stand behind the arguments, where there is room for arguments of their own.
_FOLLOWERS = ("on_success", "on_error")
_CODE = ("marshaller", "report_marshaller", "id_maker", "invoker")

_json = JsonMarshaller()


def written(given: Mapping[str, Any]) -> dict[str, Any]:
    """Write the options of a call that its worker must know. Raises BadOption."""
    return {name: _plain(name, value) for name, value in given.items() if name in _TRAVEL}


def written_followers(given: Mapping[str, Any]) -> bytes:
    """Write what is to follow on a call. Raises BadOption, BadArguments."""
    several = {name: _signatures(given[name]) for name in _FOLLOWERS if name in given}
    return json.dumps(several).encode() if several else b""


def read(fields: Any, followers: bytes) -> dict[str, Any]:
    """Read options that were written. Raises BadMessage."""
    try:
        options = {name: _read(name, value) for name, value in fields.items() if name in _TRAVEL}
        if followers:
            several = json.loads(followers)
            options.update({name: _read(name, several[name]) for name in _FOLLOWERS if name in several})
    except BadMessage:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise BadMessage(f"a message with options that make no sense: {error}") from None
    return options


def _plain(name: str, value: Any) -> Any:
    """Turn an option's value into what JSON carries. Raises BadOption."""
    if isinstance(value, Retry):
        return _retry(value)
    if name in _FOLLOWERS:
        return _signatures(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if name in _CODE and not isinstance(value, str | None):
        raise BadOption(f"option {name!r}: an object cannot travel with one call: give it to the task, at both ends")
    if callable(value):
        raise BadOption(f"option {name!r}: a function cannot travel with one call: give it to the task, at both ends")
    return dict(value) if name == "headers" else value


def _retry(policy: Retry) -> dict[str, Any]:
    if callable(policy.backoff):
        raise BadOption("a Retry with a function as backoff cannot travel with one call: give it to the task")
    written: dict[str, Any] = {name: getattr(policy, name) for name in ("max", "backoff", "base", "cap", "jitter")}
    for name in ("on", "give_up_on"):
        written[name] = [one if isinstance(one, str) else full_name(one) for one in getattr(policy, name)]
    return written


def _signatures(several: Signature | Iterable[Signature]) -> list[Any]:
    if isinstance(several, Signature):
        several = (several,)
    return [_signature(one) for one in several]


def _signature(one: Signature) -> list[Any]:
    message = TaskMessage(Header("", one.name), one.args, one.kwargs)
    arguments = _json.encode_task(None, message).decode()
    return [one.name, arguments, {name: _plain(name, value) for name, value in one.options.items()}, one.immutable]


def _read(name: str, value: Any) -> Any:
    if name == "retry" and isinstance(value, dict):
        return Retry(**value)
    if name in ("eta", "expires") and isinstance(value, str):
        return datetime.datetime.fromisoformat(value)
    if name in _FOLLOWERS:
        return [_read_signature(*one) for one in value]
    return value


def _read_signature(name: str, arguments: str, options: dict[str, Any], immutable: bool) -> Signature:
    message = _json.decode_task(None, Header("", name), arguments.encode())
    given = {each: _read(each, value) for each, value in options.items()}
    return Signature(name, message.args, message.kwargs, given, immutable)
