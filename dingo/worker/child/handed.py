"""Handed: a call that a child runs, as the parent sees it; and what becomes of it by the child's answer.

The correction of return values and the hooks happen here, in the parent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.errors import BadArguments, BadReturn
from dingo.job import Fault
from dingo.message.report import Code, Status
from dingo.worker.attempt import Attempt, _code_of
from dingo.worker.child.call import Facts
from dingo.worker.child.cargo import dump, load, load_fault, said
from dingo.worker.child.wire import BAD_VALUE, ERROR, VALUE

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.job import Job

_SUCCESS = Status.SUCCESS

# How much one more run counts in the mean run time of a function. A process that was kept from its core for a
# moment seems to run long: what is above the mean counts less.
_WEIGHT_BELOW, _WEIGHT_ABOVE = 1 / 4, 1 / 16


class Function:
    """A function as children get it, and how long it runs."""

    __slots__ = ("data", "mean", "number")

    def __init__(self, number: int, data: bytes) -> None:
        self.number = number
        self.data = data
        self.mean: float | None = None  # seconds; None: not yet measured

    def ran(self, seconds: float) -> None:
        """Note how long a run took."""
        mean = self.mean
        if mean is None:
            self.mean = seconds
        else:
            self.mean = mean + (seconds - mean) * (_WEIGHT_BELOW if seconds < mean else _WEIGHT_ABOVE)


class Handed(Attempt):
    """An attempt that runs in a child. What it has of its own is set when it is handed over."""

    __slots__ = ("cost", "function", "number")

    function: Function
    number: int
    """Its number in its child's line: another one each time it is handed over."""
    cost: float
    """How many seconds it was reckoned to take."""

    def end(self, fault: Fault) -> None:
        """End the call: there is no point in another attempt."""
        if self.claim():
            self._give_up(fault)
        self._ended()

    def fail_there(self, fault: Fault) -> None:
        """Note that the function raised in the child: try again later, or end the call."""
        delay = self._settle(fault) if self.claim() else None
        self._ended()
        if delay is not None:
            self._sleep(delay)

    def undo(self) -> None:
        """Take the start of the attempt back: the call waits again, with the place it has."""
        self.halt_clock()
        job = self.job
        if job._detail is not None and job._detail.attempt:
            job._detail.attempt -= 1
        if self._place is not None:
            job.detail().place = self._place
        job.restore(self.args)

    def halt_clock(self) -> None:
        """Stop its time limit: its child has ended."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def wind_clock(self, out_of_time: Callable[[Attempt], object]) -> None:
        """Start its time limit anew, if it has one: it is handed over once more."""
        timeout = self.job._plan.option.timeout
        if timeout is not None and self._alarm is None:
            self._set_deadline(timeout, out_of_time)

    @property
    def overdue(self) -> bool:
        """Whether its time is over: an alarm may be of a time limit from before."""
        return self._alarm is not None and self._until <= self.job._plan.bridge.timer.clock()

    def answered(self, kind: int, payload: bytearray) -> None:
        """End the call, or have it tried again, as the child has answered."""
        job = self.job
        if self.stopping:
            self.stopped()  # too late
            return
        try:
            if kind != VALUE:
                self.fail_there(_fault_of(kind, payload, job))
                return
            try:
                value = load(payload)
            except BaseException as error:
                raise BadReturn(f"{job.name}(): the returned value cannot be read: {said(error)}") from error
            self._succeed_with(value)
        except BaseException as error:  # in a correction or a component of the user's
            self.fail(error)

    def _succeed_with(self, value: Any) -> None:
        job, plan = self.job, self.job._plan
        if not plan.plain or job._detail is not None:
            self.succeed(value)
            return
        if type(value) is not plan.exact:
            value = plan.returned(value)
        job.finish(_SUCCESS, value)


def _fault_of(kind: int, payload: bytearray, job: Job) -> Fault:
    if kind == ERROR:
        return load_fault(payload, _code_of)
    why = payload.decode()
    if kind == BAD_VALUE:
        return Fault(Code.BAD_RETURN, BadReturn(f"{job.name}(): the returned value cannot be pickled: {why}"))
    return Fault(
        Code.BAD_ARGUMENTS, BadArguments(f"{job.name}(): the arguments cannot be read in a worker process: {why}")
    )


def dump_facts(job: Job) -> bytes:
    """Put what a call knows of itself into bytes."""
    facts = Facts(job)
    try:
        return dump(facts)
    except Exception:  # what cannot travel is left out: the call has begun already
        facts.headers, facts.previous = {}, None
        return dump(facts)
