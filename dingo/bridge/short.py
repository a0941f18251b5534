r"""The short ways of plain calls and plain successes through their frames.

Of most messages everything is known before but the id, the time and a few plain values: the begin of the header is
the same for all calls of a plan, and so is what stands behind the id in a report. So it is made and looked at once,
and compared from then on. What is not that plain, byte for byte, takes the long way of `dingo.bridge.codec`.

    {"v":1,"n":"add",...,"r":"reply.9f","id":"9f01","t":1700000000.5}\n[[2,3]]
    |-- the begin -----------------------|     |-- plain end -----|  |- `dingo.marshaller.short`

    {"v":1,"id":"9f01","n":"add","s":6}\n[6,5,null,null,1,1700000000.6]
                      |-- the tail ----|  |- likewise
"""

from __future__ import annotations

import copy
import re
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.message.frame import quoted
from dingo.message.report import Status
from dingo.message.task import WIRE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.contracts import Envelope
    from dingo.job import Job
    from dingo.marshaller.short import ShortWays, Success
    from dingo.plan import Plan

# Where the begin of a task's header ends that all calls of a plan share.
_HEAD_END = b',"id":"'
_PLAIN_END = re.compile(rb'([0-9A-Za-z]+)","t":[0-9]{1,12}\.[0-9]{1,9}\}\n')
_REPORT_BEGIN = f'{{"v":{WIRE_VERSION},"id":'.encode()
_ID_AT = len(_REPORT_BEGIN) + 1
# One of so many calls is timed.
_TIMED_OF = 16
# Plans of single calls come and go: what is known of them is forgotten when it is of so many.
PLANS_MOST = 1000


def short_ways(marshaller: Any, plan: Plan) -> ShortWays | None:
    """Return the short ways of a marshaller for a plan's function, if it has any."""
    make = getattr(marshaller, "short_ways", None)
    return None if make is None else make(plan.registration.fn)


def report_begin(call_id: str) -> bytes:
    """Return a report's header up to its id."""
    return _REPORT_BEGIN + quoted(call_id).encode()


def report_tail(name: str, status: Status) -> bytes:
    """Return what stands behind the id in a report's header, but for its end."""
    return f',"n":{quoted(name)},"s":{int(status)}'.encode()


class Incoming:
    """What the calls with the same begin of their header have in common at their worker."""

    __slots__ = ("_came", "_option", "_reads", "_tail", "_timed", "_writes", "keep", "plan", "reply", "seconds", "size")

    def __init__(self, plan: Plan, reply: str, keep: float, size: int = 0) -> None:
        self.plan = plan
        self.reply = reply
        self.keep = keep
        self.size = size
        """How many calls are packed in one; 0: it is a single call."""
        self.seconds: float | None = None
        """How long the function takes, smoothed."""
        self._option = plan.option
        self._came = 0  # how many came by the short way
        self._timed: Plan | None = None  # by which some of them run, to learn how long they take
        self._reads = short_ways(plan.marshaller, plan)
        self._writes = short_ways(plan.report_marshaller, plan)
        self._tail = report_tail(plan.name, Status.SUCCESS) + b"}\n"

    def arguments(self, frame: bytes, at: int) -> tuple[Any, ...] | None:
        """Read a call's arguments, corrected, or those of all that are packed; None for the long way."""
        if self._reads is None or self._option is not self.plan.option:  # compiled anew meanwhile
            return None
        self._came += 1
        if self.size:
            several = self._reads.read_calls(frame[at:], self.size)
            return None if several is None else tuple(several)
        return self._reads.read_call(frame[at:])

    def success(self, job: Job) -> bytes | None:
        """Write the report of a success; None for the long way."""
        if self._writes is None:
            return None
        return self._report(job.id, self._writes.write_value(job._value, job.attempt, job._time, self.seconds))

    def successes(self, pack_id: str, values: list[Any], time: float) -> bytes | None:
        """Write the report of a pack whose calls have all succeeded; None for the long way."""
        if self._writes is None:
            return None
        return self._report(pack_id, self._writes.write_values(values, time, self.seconds))

    def _report(self, call_id: str, body: bytes | None) -> bytes | None:
        return None if body is None else b"".join((report_begin(call_id), self._tail, body))

    def plan_of_next(self) -> Plan:
        """Return the plan by which the next of them runs: of those that run in threads, now and then one is timed."""
        plan = self.plan
        if self._came == 0 or (self._came % _TIMED_OF and self.seconds is not None) or plan.pool.kind != "thread":
            return plan
        if self._timed is None or self._timed.pool is not plan.pool:
            self._timed = copy.copy(plan)
            self._timed.run = partial(self._time, plan.run)
        return self._timed

    def _time(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began = monotonic()
        try:
            return run(*args, **kwargs)
        finally:
            took = monotonic() - began
            self.seconds = took if self.seconds is None else self.seconds * 0.8 + took * 0.2


class Known:
    """The kinds of calls that a worker has seen, by the begin of their headers."""

    def __init__(self) -> None:
        self._by_begin: dict[bytes, Incoming] = {}

    def add(self, frame: bytes, incoming: Incoming) -> None:
        """Remember a kind, if nothing but the id and the time of sending follows that begin in a header."""
        at = frame.find(_HEAD_END)
        if at > 0 and _PLAIN_END.match(frame, at + len(_HEAD_END)):
            if len(self._by_begin) >= PLANS_MOST:
                self._by_begin.clear()
            self._by_begin[frame[:at]] = incoming

    def read(self, envelope: Envelope, frame: bytes) -> tuple[Incoming, tuple[Any, ...]] | None:
        """Read a plain call of a known kind; None for the long way."""
        at = frame.find(_HEAD_END)
        incoming = self._by_begin.get(frame[:at])
        if incoming is None or incoming.plan.name != envelope.name:
            return None
        end = _PLAIN_END.match(frame, at + len(_HEAD_END))
        if end is None or end[1].decode() != envelope.id:
            return None
        args = incoming.arguments(frame, end.end())
        return None if args is None else (incoming, args)


class Returning:
    """What the plain successes of a plan have in common at their caller."""

    __slots__ = ("_option", "_plan", "_short", "_tail")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._option = plan.option
        self._short = short_ways(plan.report_marshaller, plan)
        self._tail = report_tail(plan.name, Status.SUCCESS) + b"}\n"

    def is_for(self, plan: Plan) -> bool:
        """Whether it is of this plan, as that is now."""
        return self._plan is plan and self._option is plan.option

    def success(self, frame: bytes, id_end: int) -> Success | None:
        """Read the report of a success; None for the long way."""
        if self._short is None or not frame.startswith(self._tail, id_end):
            return None
        return self._short.read_value(frame[id_end + len(self._tail) :])

    def successes(self, frame: bytes, id_end: int, count: int) -> Success | None:
        """Read the report of a pack of so many calls that have all succeeded; None for the long way."""
        if self._short is None or not frame.startswith(self._tail, id_end):
            return None
        return self._short.read_values(frame[id_end + len(self._tail) :], count)


class Returns:
    """What a caller knows of the reports of its plans."""

    def __init__(self) -> None:
        self._by_plan: dict[int, Returning] = {}

    def of(self, plan: Plan) -> Returning:
        """Return what is known of a plan's reports."""
        known = self._by_plan.get(id(plan))
        if known is None or not known.is_for(plan):
            if len(self._by_plan) >= PLANS_MOST:
                self._by_plan.clear()
            known = self._by_plan[id(plan)] = Returning(plan)
        return known


def plain_id(frame: bytes) -> tuple[str, int]:
    """Return the id in a report's header and where it ends; "" for the long way."""
    end = frame.find(b'"', _ID_AT)
    text = frame[_ID_AT:end]
    if not frame.startswith(_REPORT_BEGIN) or not text.isalnum():
        return "", 0
    return text.decode(), end + 1
