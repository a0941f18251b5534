"""Codec: a call to an envelope and a report frame, and back. Both sides of a broker use the same one.

The header of a task, with what is left out when it is the default:

    v version | id | n name | m marshaller | rm report marshaller | r reply address | t sent (epoch seconds)
    o options of this call | h user headers | x expires (epoch) | a attempt | er earlier errors | q queue
"""

from __future__ import annotations

import datetime
from time import time
from typing import TYPE_CHECKING, Any

from dingo.components import key_of
from dingo.contracts import Envelope, ReportEnvelope
from dingo.errors import BadMessage, BadOption
from dingo.message.frame import decode, header_text, quoted
from dingo.message.option import DEFAULT_PRIORITY
from dingo.message.retry import Retry
from dingo.message.signature import Signature
from dingo.message.task import WIRE_VERSION, Header, TaskMessage

if TYPE_CHECKING:
    from dingo.config import Config
    from dingo.job import Job
    from dingo.message.report import Report
    from dingo.plan import Plan

# Which of a call's own options its worker must know; the others have done their work at the caller.
_TRAVEL = (
    "ignore_report", "monitor_progress", "retry", "timeout", "on_success", "on_error", "pass_result", "redeliver",
    "keep_result", "immutable",
)  # fmt: skip


class Codec:
    """Puts calls and reports into frames."""

    def __init__(self, config: Config, reply: str, *, named: bool = False) -> None:
        self._config = config
        self._named = named  # whether there is a queue for each task name
        self._reply = reply
        self._prefixes: dict[int, tuple[Plan, Any, str]] = {}

    # -- at the caller -----------------------------------------------------------------------------

    def envelope(self, job: Job, reply: str) -> Envelope:
        """Make the envelope of a call. Raises BadArguments."""
        plan, option = job._plan, job._plan.option
        now = time()
        header = Header(job.id, job.name)
        body = plan.marshaller.encode_task(plan.registration.fn, TaskMessage(header, job._args, job._kwargs or {}))
        due, expires = _moments(option, now)
        headers = option.headers if job._detail is None or job._detail.headers is None else job._detail.headers
        text = f'{{{self._prefix(plan, reply)},"id":{quoted(job.id)},"t":{now:.6f}'
        if expires is not None:
            text += f',"x":{expires!r}'
        if headers:
            text += f",{header_text({'h': headers})}"
        text += "}\n"
        queue = option.queue or self._config.queue
        if self._named:
            queue = queue_of(queue, job.name)
        return Envelope(queue, job.id, job.name, text.encode() + body, option.priority, due, reply)

    def _prefix(self, plan: Plan, reply: str) -> str:
        """Return the part of the header that all calls of a plan share."""
        known = self._prefixes.get(id(plan))
        if known is not None and known[0] is plan and known[1] is plan.option and reply == self._reply:
            return known[2]
        fields: dict[str, Any] = {"v": WIRE_VERSION, "n": plan.name, "m": key_of(plan.marshaller)}
        fields["rm"] = key_of(plan.report_marshaller)
        if reply:
            fields["r"] = reply
        options = {name: _plain(name, value) for name, value in plan.given.items() if name in _TRAVEL}
        if options:
            fields["o"] = options
        if plan.option.priority != DEFAULT_PRIORITY:
            fields["p"] = plan.option.priority
        text = header_text(fields)
        if reply == self._reply:
            if len(self._prefixes) > 1000:  # plans of single calls come and go
                self._prefixes.clear()
            self._prefixes[id(plan)] = (plan, plan.option, text)
        return text

    def report(self, frame: bytes, plan: Plan) -> Report:
        """Read a report. Raises BadMessage, BadReturn."""
        return self.report_of(*decode(frame), plan)

    def report_of(self, header: dict[str, Any], body: bytes, plan: Plan) -> Report:
        """Read a report whose frame has been taken apart. Raises BadMessage, BadReturn."""
        return plan.report_marshaller.decode_report(plan.registration.fn, Header(header["id"], plan.name), body)

    # -- at the worker -----------------------------------------------------------------------------

    def report_envelope(self, job: Job, report: Report, reply: str, keep: float) -> ReportEnvelope:
        """Make the envelope of a report. Raises BadReturn."""
        plan = job._plan
        body = plan.report_marshaller.encode_report(plan.registration.fn, report)
        frame = report_frame(report, body)
        return ReportEnvelope(reply, report.id, report.name, frame, report.final, keep)


def queue_of(queue: str, name: str) -> str:
    """Return the queue of one task name."""
    return f"{queue}.{name}"


def report_frame(report: Report, body: bytes) -> bytes:
    """Put a report's header before its body."""
    header = f'{{"v":{WIRE_VERSION},"id":{quoted(report.id)},"n":{quoted(report.name)},"s":{int(report.status)}}}\n'
    return header.encode() + body


def _moments(option: Any, now: float) -> tuple[float | None, float | None]:
    due = option.eta.timestamp() if option.eta is not None else now + option.delay if option.delay else None
    expires = option.expires
    if isinstance(expires, datetime.datetime):
        return due, expires.timestamp()
    return due, None if expires is None else now + expires


def _plain(name: str, value: Any) -> Any:
    """Turn an option's value into what JSON carries. Raises BadOption."""
    if isinstance(value, Retry):
        if callable(value.backoff):
            raise BadOption("a Retry with a function as backoff cannot travel: give it to the task, not to one call")
        if value.on != (Exception,) or value.give_up_on:
            raise BadOption("a Retry with exception classes cannot travel: give it to the task, not to one call")
        return {
            "max": value.max,
            "backoff": value.backoff,
            "base": value.base,
            "cap": value.cap,
            "jitter": value.jitter,
        }
    if name in ("on_success", "on_error"):
        several = (value,) if isinstance(value, Signature) else value
        return [[one.name, list(one.args), one.kwargs, one.options, one.immutable] for one in several]
    return value


def options_of(fields: Any) -> dict[str, Any]:
    """Read the options of a call from its header. Raises BadMessage."""
    if not isinstance(fields, dict):
        raise BadMessage("a message whose options are no object")
    options = {name: value for name, value in fields.items() if name in _TRAVEL}
    try:
        if isinstance(options.get("retry"), dict):
            options["retry"] = Retry(**options["retry"])
        for name in ("on_success", "on_error"):
            if name in options:
                options[name] = [
                    Signature(one, tuple(args), kwargs, given, immutable)
                    for one, args, kwargs, given, immutable in options[name]
                ]
    except (TypeError, ValueError) as error:
        raise BadMessage(f"a message with options that make no sense: {error}") from None
    return options
