"""Codec: a call to an envelope and a report frame, and back. Both sides of a broker use the same one.

The header of a task, with what is left out when it is the default:

    v version | id | n name | m marshaller | rm report marshaller | r reply address | t sent (epoch seconds)
    o options of this call | h user headers | x expires (epoch) | e not before (epoch) | a attempt | er earlier errors
    k how many calls are packed in it (`dingo.message.packed`)
    l lengths of arguments and of `previous`, where more than the arguments follows | u key of a unique call

Behind the arguments stand, where there are any, the result of the call before it and what is to follow on this one.

The header of a report: v, id, n as above | s status | m marshaller, where it is not the one that `rm` asked for

With `Config.signing_keys` every frame is signed, and only signed ones are read.
"""

from __future__ import annotations

import datetime
import sys
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, TypeAlias

from dingo.bridge import travel
from dingo.bridge.short import PLANS_MOST, report_begin, report_tail, short_ways
from dingo.components import key_of
from dingo.contracts import Envelope, ReportEnvelope
from dingo.errors import BadArguments, BadMessage, BadReturn
from dingo.events import Level, Origin
from dingo.message.frame import HEADER_LIMIT, SEAL_BYTES, decode, encode, header_text, quoted
from dingo.message.option import DEFAULT_PRIORITY
from dingo.message.packed import MOST_BYTES
from dingo.message.report import MESSAGE_LIMIT, Code, Failure, Report, Status
from dingo.message.signing import REPORT, TASK, Seal, unsealed
from dingo.message.task import WIRE_VERSION, Header, TaskMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dingo.bridge.delivered import RemoteJob
    from dingo.bridge.short import Incoming
    from dingo.bridge.unpacking import Pack
    from dingo.config import Config
    from dingo.contracts import Marshaller
    from dingo.job import Detail, Job
    from dingo.marshaller.short import ShortWays
    from dingo.plan import Plan


# The fields of a header that ask for nothing more than running the function.
PLAIN_HEADER = frozenset({"v", "id", "n", "m", "rm", "r", "t", "o", "p", "k"})
# What the header of a call leaves free for trying it again (bytes), and how much is said there of each earlier error:
# the first of these lengths (characters) that there is room for.
_ROOM = 2048
_ERROR_LENGTHS = (MESSAGE_LIMIT, 400, 40)
# More calls are not taken out of one message.
MOST_IN_ONE = 10_000
# More often nothing is tried.
_MOST_ATTEMPTS = 1_000_000

Opened: TypeAlias = tuple[dict[str, Any], bytes]


class Outgoing:
    """What all calls of a plan share on their way out. Raises BadOption, BadArguments for what cannot travel."""

    __slots__ = ("begin", "followers", "option", "plan", "queue", "reply", "short", "timed")

    def __init__(self, plan: Plan, reply: str, queue: str) -> None:
        self.plan = plan
        self.option = option = plan.option
        self.reply = reply
        self.queue = queue
        self.begin = _begin(plan, reply)
        self.followers = travel.written_followers(plan.given)
        self.timed = option.eta is not None or option.delay is not None or option.expires is not None
        self.short: ShortWays | None = short_ways(plan.marshaller, plan)


def _begin(plan: Plan, reply: str) -> str:
    """Return the begin of a header."""
    fields: dict[str, Any] = {"v": WIRE_VERSION, "n": plan.name, "m": key_of(plan.marshaller)}
    fields["rm"] = key_of(plan.report_marshaller)
    if reply:
        fields["r"] = reply
    options = travel.written(plan.given)
    if options:
        fields["o"] = options
    if plan.option.priority != DEFAULT_PRIORITY:
        fields["p"] = plan.option.priority
    return f"{{{header_text(fields)}"


class Codec:
    """Puts calls and reports into frames, signed where there are keys."""

    open_task: Callable[[bytes], Opened]
    """Take the frame of a task apart, its signature verified. Raises BadMessage."""
    open_report: Callable[[bytes], Opened]
    """The same of a report."""

    def __init__(self, config: Config, *, named: bool = False) -> None:
        self._config = config
        self._named = named  # whether there is a queue for each task name
        self._outgoing: dict[int, Outgoing] = {}
        self.largest_report = sys.maxsize  # what the backend can take (bytes)
        self.use_keys(config.signing_keys)

    def use_keys(self, keys: Sequence[str]) -> None:
        """Sign with the first of these keys from now on, and read what any of them has signed; none: no signatures."""
        self._task_seal = Seal(keys, TASK) if keys else None
        self._report_seal = Seal(keys, REPORT) if keys else None
        self.unseal_task = None if self._task_seal is None else self._task_seal.open
        self.unseal_report = None if self._report_seal is None else self._report_seal.open
        self.open_task = decode if self._task_seal is None else partial(_open, self._task_seal)
        self.open_report = decode if self._report_seal is None else partial(_open, self._report_seal)

    # -- at the caller -----------------------------------------------------------------------------

    def envelope(self, job: Job, reply: str) -> Envelope:
        """Make the envelope of a call. Raises BadArguments, BadOption."""
        plan, call_id = job._plan, job.id
        way = self._outgoing_way(plan, reply)
        option, now, due = way.option, time(), None
        body = self._arguments(job, way)
        text = f'{way.begin},"id":{quoted(call_id)},"t":{now:.6f}'
        if way.timed:
            due, expires = _moments(option, now)
            if expires is not None:
                text += f',"x":{expires!r}'
            if due is not None:
                text += f',"e":{due!r}'
        detail = job._detail
        if way.followers or (detail is not None and detail.follows):
            previous = _previous(plan, detail)
            text += f',"l":[{len(body)},{len(previous)}]'
            body += previous + way.followers
        if option.unique is not None and detail is not None:
            text += f',"u":"{detail.unique}"'
        headers = option.headers if detail is None or detail.headers is None else detail.headers
        if headers:
            text += f",{header_text({'h': headers})}"
        if len(text) > HEADER_LIMIT - _ROOM:
            raise BadArguments(
                f"{plan.name}(): its headers and options take {len(text)} bytes, and {HEADER_LIMIT - _ROOM} is the most"
            )
        frame = f"{text}}}\n".encode() + body
        if self._task_seal is not None:
            frame = self._task_seal.put(frame)
        return Envelope(way.queue, call_id, plan.name, frame, option.priority, due, reply)

    def pack(self, plan: Plan, reply: str, call_id: str, several: Sequence[tuple[Any, ...]]) -> Envelope | None:
        """Make the envelope of several plain calls; None where they cannot be packed."""
        way = self._outgoing_way(plan, reply)
        body = None if way.short is None else way.short.write_calls(list(several))
        if body is None or len(body) > MOST_BYTES or way.followers:
            return None
        frame = f'{way.begin},"k":{len(several)},"id":"{call_id}","t":{time():.6f}}}\n'.encode() + body
        if self._task_seal is not None:
            frame = self._task_seal.put(frame)
        return Envelope(way.queue, call_id, plan.name, frame, way.option.priority, None, reply)

    def _arguments(self, job: Job, way: Outgoing) -> bytes:
        if way.short is not None and job._kwargs is None:
            body = way.short.write_call(job._args)
            if body is not None:
                return body
        message = TaskMessage(Header(job.id, job.name), job._args, job._kwargs or {})
        return way.plan.marshaller.encode_task(way.plan.registration.fn, message)

    def _outgoing_way(self, plan: Plan, reply: str) -> Outgoing:
        way = self._outgoing.get(id(plan))
        if way is not None and way.plan is plan and way.option is plan.option and way.reply == reply:
            return way
        queue = plan.option.queue or self._config.queue
        way = Outgoing(plan, reply, queue_of(queue, plan.name) if self._named else queue)
        if len(self._outgoing) >= PLANS_MOST:
            self._outgoing.clear()
        self._outgoing[id(plan)] = way
        return way

    def report_of(self, header: dict[str, Any], body: bytes, plan: Plan) -> Report:
        """Read a report whose frame has been taken apart. Raises BadMessage, BadReturn."""
        marshaller = plan.report_marshaller if "m" not in header else _marshaller_of(header["m"])
        return marshaller.decode_report(plan.registration.fn, Header(header["id"], plan.name), body)

    # -- at the worker -----------------------------------------------------------------------------

    def unfold(self, header: dict[str, Any], body: bytes) -> tuple[bytes, bytes, bytes]:
        """Take apart what follows a task's header: arguments, `previous`, followers. Raises BadMessage."""
        lengths = header.get("l")
        if lengths is None:
            return body, b"", b""
        try:
            first, second = lengths
        except (TypeError, ValueError):
            raise BadMessage("a message whose parts have no lengths") from None
        if type(first) is not int or type(second) is not int or first < 0 or second < 0 or first + second > len(body):
            raise BadMessage("a message that was cut")
        return body[:first], body[first : first + second], body[first + second :]

    def previous(self, data: bytes, plan: Plan) -> Any:
        """Read the result of the call before. Raises BadMessage."""
        return plan.marshaller.decode_task(None, Header("", plan.name), data).args[0] if data else None

    def report_envelope(self, job: RemoteJob, report: Report, keep: float) -> ReportEnvelope:
        """Make the envelope of a report. Raises BadReturn."""
        plan, task = job._plan, job.delivery.envelope.frame
        frame = self._report_frame(task, report, plan.report_marshaller.encode_report(plan.registration.fn, report))
        if len(frame) > self._config.max_message_bytes and report.failure is None:
            raise BadReturn(
                f"{report.name}(): a report of {len(frame)} bytes, and a message has at most "
                f"{self._config.max_message_bytes} (Config.max_message_bytes): return a reference to large data"
            )
        if len(frame) > self.largest_report:
            raise BadReturn(
                f"{report.name}(): a report of {len(frame)} bytes, and this backend takes at most "
                f"{self.largest_report}: return a reference to large data"
            )
        return ReportEnvelope(job.reply, report.id, report.name, frame, report.final, keep)

    def refusal(self, envelope: Envelope, failure: Failure, keep: float) -> ReportEnvelope:
        """Make the envelope of an end without a run, for a task that may not even be readable.

        It is in JSON, whatever the task asked for; CANCELLED if that is the failure's code, else FAILURE.
        """
        status = Status.CANCELLED if failure.code is Code.CANCELLED else Status.FAILURE
        report = Report(envelope.id, envelope.name, status, failure=failure)
        body = _marshaller_of("json").encode_report(None, report)
        frame = self._report_frame(envelope.frame, report, body, b',"m":"json"')
        return ReportEnvelope(envelope.reply, envelope.id, envelope.name, frame, True, keep)

    def cancellation(self, call_id: str, name: str, failure: Failure) -> bytes:
        """Make the final report of a call, or of a pack, that is withdrawn before any worker has it."""
        report = Report(call_id, name, Status.CANCELLED, failure=failure)
        header = report_begin(call_id) + report_tail(name, report.status) + b',"m":"json"'
        frame = header + b"}\n" + _marshaller_of("json").encode_report(None, report)
        return frame if self._report_seal is None else self._report_seal.put(frame)

    def success(self, job: RemoteJob) -> ReportEnvelope | None:
        """Make the envelope of a success by the short way; None where it is not that plain."""
        incoming = job.incoming
        frame = incoming.success(job)
        return None if frame is None else self._short_report(frame, job.id, incoming, job.delivery.envelope.frame)

    def successes(self, pack: Pack) -> ReportEnvelope | None:
        """Make the envelope of the successes of a pack; None where they are not that plain."""
        incoming, values = pack.incoming, pack.values()
        if values is None:
            return None
        task = pack.delivery.envelope
        frame = incoming.successes(task.id, values, time())
        return None if frame is None else self._short_report(frame, task.id, incoming, task.frame)

    def _short_report(self, frame: bytes, call_id: str, incoming: Incoming, task: bytes) -> ReportEnvelope | None:
        if len(frame) > min(self._config.max_message_bytes, self.largest_report) - SEAL_BYTES:
            return None
        if self._report_seal is not None:
            frame = self._report_seal.answer(frame, task)
        return ReportEnvelope(incoming.reply, call_id, incoming.plan.name, frame, True, incoming.keep)

    def final_report(self, job: RemoteJob) -> ReportEnvelope:
        """Make the envelope of a call's final report: BAD_RETURN where it cannot be sent."""
        report, keep = job.final_report(), job.incoming.keep
        try:
            return self.report_envelope(job, report, keep)
        except BadReturn as error:
            failure = Failure.of(Code.BAD_RETURN, error)
            report = Report(report.id, report.name, Status.FAILURE, failure=failure, attempt=report.attempt)
            return self.report_envelope(job, report, keep)

    def _report_frame(self, task: bytes, report: Report, body: bytes, more: bytes = b"") -> bytes:
        header = report_begin(report.id) + report_tail(report.name, report.status) + more
        frame = header + b"}\n" + body
        return frame if self._report_seal is None else self._report_seal.answer(frame, task)

    def again(self, task: bytes, fields: dict[str, Any], errors: Sequence[Failure]) -> bytes:
        """Return a task's frame, which was opened here, with these fields in its header and its earlier errors.

        Where there is no room for them, the errors are shortened.
        """
        before, body = decode(unsealed(task))
        for length in _ERROR_LENGTHS:
            kept = [[one.code, one.type[:length], one.message[:length]] for one in errors]
            header = encode(before | fields | {"er": kept}, b"")
            if len(header) <= HEADER_LIMIT:
                break
        return self.answered(header + body, task)

    def answered(self, frame: bytes, task: bytes) -> bytes:
        """Sign the frame of a task with the key of the one that it was made of here, if that is signed."""
        return frame if self._task_seal is None else self._task_seal.answer(frame, task)


def _open(seal: Seal, data: bytes) -> Opened:
    return decode(seal.open(data))


def _marshaller_of(key: Any) -> Marshaller:
    """Return the marshaller of a refusal: only json, which runs no code. Raises BadMessage."""
    if key != "json":
        raise BadMessage(f"a report by the marshaller {key!r}, which was not asked for")
    from dingo.marshaller.json import JsonMarshaller  # noqa: PLC0415 - only for refusals

    return JsonMarshaller()


def check_header(header: dict[str, Any]) -> None:
    """See that what a task's header says besides its version, id and name is of the right kind. Raises BadMessage."""
    if type(header.get("r", "")) is not str:
        raise BadMessage("a message whose reply address is no text")
    if type(header.get("k", 1)) is not int or not 0 < header.get("k", 1) < MOST_IN_ONE:
        raise BadMessage("a message that holds a number of calls that makes no sense")
    if not header.keys() <= PLAIN_HEADER:
        _check_rare(header)


def _check_rare(header: dict[str, Any]) -> None:
    attempt = header.get("a", 0)
    if type(attempt) is not int or not 0 <= attempt <= _MOST_ATTEMPTS:
        raise BadMessage("a message whose number of attempts makes no sense")
    if not (_is_time(header.get("x", 0)) and _is_time(header.get("e", 0))):
        raise BadMessage("a message whose times make no sense")
    if type(header.get("u", "")) is not str:
        raise BadMessage("a message whose key is no text")
    if type(header.get("h", {})) is not dict:
        raise BadMessage("a message whose headers are no object")


def sent_at(header: dict[str, Any]) -> float:
    """Return when a message says it was sent. Raises BadMessage where that makes no sense."""
    sent: Any = header.get("t")
    if not _is_time(sent):
        raise BadMessage("a message that does not say when it was sent")
    return float(sent)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300  # no NaN, no infinity, no integer beyond all floats


def errors_of(header: dict[str, Any]) -> tuple[Failure, ...]:
    """Read how a task's earlier attempts failed. Raises BadMessage."""
    try:
        return tuple(Failure(Code(code), str(kind), str(text)) for code, kind, text in header.get("er", ()))
    except (TypeError, ValueError):
        raise BadMessage("a message whose earlier errors make no sense") from None


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


def most_bytes(config: Config, component: Any) -> int:
    """Return how many bytes a message may have that this component sends: some brokers take little."""
    limit: int | None = getattr(component, "max_message_bytes", None)
    return config.max_message_bytes if limit is None else min(limit, config.max_message_bytes)


def queue_of(queue: str, name: str) -> str:
    """Return the queue of one task name."""
    return f"{queue}.{name}"


def _moments(option: Any, now: float) -> tuple[float | None, float | None]:
    due = option.eta.timestamp() if option.eta is not None else now + option.delay if option.delay else None
    expires = option.expires
    if isinstance(expires, datetime.datetime):
        return due, expires.timestamp()
    return due, None if expires is None else now + expires
