"""Codec: a call to an envelope and a report frame, and back. Both sides of a broker use the same one.

The header of a task, with what is left out when it is the default:

    v version | id | n name | m marshaller | rm report marshaller | r reply address | t sent (epoch seconds)
    o options of this call | h user headers | x expires (epoch) | e not before (epoch) | a attempt | er earlier errors
    l lengths of arguments and of `previous`, where more than the arguments follows

Behind the arguments stand, where there are any, the result of the call before it and what is to follow on this one.
"""

from __future__ import annotations

import datetime
from time import time
from typing import TYPE_CHECKING, Any

from dingo.bridge import travel
from dingo.components import key_of
from dingo.contracts import Envelope, ReportEnvelope
from dingo.errors import BadArguments, BadMessage
from dingo.events import Level, Origin
from dingo.message.frame import decode, header_text, quoted
from dingo.message.option import DEFAULT_PRIORITY
from dingo.message.task import WIRE_VERSION, Header, TaskMessage

if TYPE_CHECKING:
    from dingo.config import Config
    from dingo.job import Detail, Job
    from dingo.message.report import Report
    from dingo.plan import Plan


class Codec:
    """Puts calls and reports into frames."""

    def __init__(self, config: Config, reply: str, *, named: bool = False) -> None:
        self._config = config
        self._named = named  # whether there is a queue for each task name
        self._reply = reply
        self._prefixes: dict[int, tuple[Plan, Any, str, bytes]] = {}

    # -- at the caller -----------------------------------------------------------------------------

    def envelope(self, job: Job, reply: str) -> Envelope:
        """Make the envelope of a call. Raises BadArguments."""
        plan, option = job._plan, job._plan.option
        now = time()
        header = Header(job.id, job.name)
        body = plan.marshaller.encode_task(plan.registration.fn, TaskMessage(header, job._args, job._kwargs or {}))
        due, expires = _moments(option, now)
        detail = job._detail
        headers = option.headers if detail is None or detail.headers is None else detail.headers
        prefix, followers = self._prefix(plan, reply)
        text = f'{{{prefix},"id":{quoted(job.id)},"t":{now:.6f}'
        if expires is not None:
            text += f',"x":{expires!r}'
        if due is not None:
            text += f',"e":{due!r}'
        if followers or (detail is not None and detail.follows):
            previous = _previous(plan, detail)
            text += f',"l":[{len(body)},{len(previous)}]'
            body += previous + followers
        if headers:
            text += f",{header_text({'h': headers})}"
        text += "}\n"
        queue = option.queue or self._config.queue
        if self._named:
            queue = queue_of(queue, job.name)
        return Envelope(queue, job.id, job.name, text.encode() + body, option.priority, due, reply)

    def _prefix(self, plan: Plan, reply: str) -> tuple[str, bytes]:
        """Return what all calls of a plan share: a part of the header, and what is to follow on them.

        Raises BadOption, BadArguments for what cannot travel.
        """
        known = self._prefixes.get(id(plan))
        if known is not None and known[0] is plan and known[1] is plan.option and reply == self._reply:
            return known[2:]
        fields: dict[str, Any] = {"v": WIRE_VERSION, "n": plan.name, "m": key_of(plan.marshaller)}
        fields["rm"] = key_of(plan.report_marshaller)
        if reply:
            fields["r"] = reply
        options = travel.written(plan.given)
        if options:
            fields["o"] = options
        if plan.option.priority != DEFAULT_PRIORITY:
            fields["p"] = plan.option.priority
        text, followers = header_text(fields), travel.written_followers(plan.given)
        if reply == self._reply:
            if len(self._prefixes) > 1000:  # plans of single calls come and go
                self._prefixes.clear()
            self._prefixes[id(plan)] = (plan, plan.option, text, followers)
        return text, followers

    def report(self, frame: bytes, plan: Plan) -> Report:
        """Read a report. Raises BadMessage, BadReturn."""
        return self.report_of(*decode(frame), plan)

    def report_of(self, header: dict[str, Any], body: bytes, plan: Plan) -> Report:
        """Read a report whose frame has been taken apart. Raises BadMessage, BadReturn."""
        return plan.report_marshaller.decode_report(plan.registration.fn, Header(header["id"], plan.name), body)

    # -- at the worker -----------------------------------------------------------------------------

    def unfold(self, header: dict[str, Any], body: bytes) -> tuple[bytes, bytes, bytes]:
        """Take apart what follows a task's header: arguments, `previous`, followers. Raises BadMessage."""
        lengths = header.get("l")
        if lengths is None:
            return body, b"", b""
        try:
            first, second = (int(one) for one in lengths)
        except (TypeError, ValueError):
            raise BadMessage("a message whose parts have no lengths") from None
        if first < 0 or second < 0 or first + second > len(body):
            raise BadMessage("a message that was cut")
        return body[:first], body[first : first + second], body[first + second :]

    def previous(self, data: bytes, plan: Plan) -> Any:
        """Read the result of the call before. Raises BadMessage."""
        return plan.marshaller.decode_task(None, Header("", plan.name), data).args[0] if data else None

    def report_envelope(self, job: Job, report: Report, reply: str, keep: float) -> ReportEnvelope:
        """Make the envelope of a report. Raises BadReturn."""
        plan = job._plan
        body = plan.report_marshaller.encode_report(plan.registration.fn, report)
        frame = report_frame(report, body)
        return ReportEnvelope(reply, report.id, report.name, frame, report.final, keep)


def _previous(plan: Plan, detail: Detail | None) -> bytes:
    """Write the result of the call before it; nothing where that cannot be written without its annotation."""
    if detail is None or not detail.follows:
        return b""
    try:
        return plan.marshaller.encode_task(None, TaskMessage(Header("", plan.name), (detail.previous,)))
    except BadArguments as error:
        plan.hub.emit(
            Origin.PRODUCER, Level.INFO, "previous.left_out",
            f"{plan.name}: context.previous will be None, for the value before it cannot travel by itself: {error}",
        )  # fmt: skip
        return b""


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
