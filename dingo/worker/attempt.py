"""Attempt: the life of a call in a worker, by the full way.

    begin -> run -> succeed
                 -> fail -> retry | give up

Thread pools and loops take the same steps; they differ only in how they run the function.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from dingo.errors import BadArguments, BadReturn, RetryLater
from dingo.events import Level, Origin
from dingo.job import Fault
from dingo.message.report import Code, Failure, Status
from dingo.message.retry import RETRY_LATER_MAX, Retry
from dingo.worker.context import Context, show_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.job import Job
    from dingo.timer import Alarm

_DEBUG = Level.DEBUG

# How many of the failures before the last travel and stay with a call that is tried again and again.
_ERRORS_KEPT = 3


class Attempt:
    """One attempt at running one call. Made by `begin`; ended by `succeed` or `fail`, in the same worker."""

    __slots__ = ("_alarm", "_place", "_void", "args", "job", "stopping")

    def __init__(self, job: Job, args: tuple[Any, ...]) -> None:
        self.job = job
        self.args = args
        self._alarm: Alarm | None = None
        self._place = False  # whether it has a place under its task's limits, to be given back when it ends
        self._void = False  # its time is over: whatever the function still does counts no more
        self.stopping = False  # its time is over and the pool is stopping the function

    @classmethod
    def begin(cls, job: Job, out_of_time: Callable[[Attempt], object]) -> Attempt | None:
        """Claim the call and start the attempt. None where it is not to run (now): then all is said.

        `out_of_time(attempt)` is called on the timer's thread when it has had its `timeout`.
        """
        plan = job._plan
        limit = plan.limit
        if job.ended or _expired(job) or (limit is not None and not limit.enter(job)):
            return None
        args = job.start()
        if args is None:
            if limit is not None:
                limit.leave()
            return None
        attempt = cls(job, args)
        if limit is not None:
            attempt._place, job.detail().admitted = True, False
        option = plan.option
        if option.retry is not None or option.timeout is not None or job._detail is not None:
            job.detail().attempt += 1
        if option.timeout is not None:
            attempt._set_deadline(option.timeout, out_of_time)
        if plan.hub.floor <= _DEBUG:
            plan.hub.tell(Origin.WORKER, "call.started", job)
        if option.monitor_progress:
            job.mark(Status.RECEIVED)
            job.mark(Status.STARTED)
        if plan.bridge.hooks.before_task:
            plan.bridge.hooks.run("before_task", Context(job))
        return attempt

    def _set_deadline(self, timeout: float, out_of_time: Callable[[Attempt], object]) -> None:
        timer = self.job._plan.bridge.timer
        due = timer.time() + timeout
        self.job.detail().deadline = due
        self._alarm = timer.at(due, lambda: out_of_time(self))

    def succeed(self, value: Any) -> None:
        """The function returned: correct the value, and end the call with it."""
        job, plan = self.job, self.job._plan
        if self._void:
            self._ended()
            return
        try:
            if type(value) is not plan.exact:
                value = plan.returned(value)
            if plan.bridge.config.marshal_locally:
                value = plan.bridge.carried(job, value)
        except BadReturn as error:
            self._give_up(Fault(Code.BAD_RETURN, error))
            self._ended()
            return
        self._stop_clock()
        self._show_held()
        if job.finish(Status.SUCCESS, value):
            plan.bridge.hooks.run("on_success", Context(job), value)
            plan.bridge.follow(job, plan.option.on_success, value)
        self._ended()

    def fail(self, error: BaseException) -> None:
        """The function raised: try again later, or end the call."""
        if not self._void:
            self._retry_or_give_up(Fault(_code_of(error), error))
        self._ended()

    def stopped(self) -> None:
        """The pool stopped the function because its time was over."""
        self._retry_or_give_up(self._timeout_fault("it was stopped"))
        self._ended()

    def out_of_time(self) -> bool:
        """Its time is over, but its thread cannot be stopped. False where it has ended by itself meanwhile.

        A retry would run beside the first run, so there is one only where the policy names TimeoutError.
        """
        if self.job.ended:
            return False
        self._void = True
        fault = self._timeout_fault("its thread runs on")
        policy = self.job._plan.option.retry
        if policy is not None and any(issubclass(one, TimeoutError) for one in policy.on):
            self._retry_or_give_up(fault)
        elif self.job.finish(Status.FAILURE, fault):
            failed(self.job, fault)
        return True

    def _timeout_fault(self, what: str) -> Fault:
        limit = self.job._plan.option.timeout
        return Fault(Code.TIMEOUT, TimeoutError(f"the attempt took longer than its timeout of {limit} s; {what}"))

    def _retry_or_give_up(self, fault: Fault) -> None:
        assert fault.error is not None
        retry = self._retry_for(fault.error)
        if retry is not None and not self.job.ended:
            self._retry(retry, fault)
        else:
            self._give_up(fault)

    def _retry_for(self, error: BaseException) -> Retry | None:
        """Return the policy that allows one more attempt after this error, or None."""
        job = self.job
        if job._plan.bridge.closed:
            return None  # there will be no later
        policy = job._plan.option.retry
        done = max(1, job.attempt)
        if isinstance(error, RetryLater):
            allowed = policy.max if policy is not None else RETRY_LATER_MAX
            return (policy or Retry(max=RETRY_LATER_MAX)) if done <= allowed else None
        if policy is None or isinstance(error, BadArguments | BadReturn) or not policy.wants(error):
            return None
        return policy if done <= policy.max else None

    def _retry(self, policy: Retry, fault: Fault) -> None:
        job, plan, error = self.job, self.job._plan, fault.error
        self._stop_clock()
        detail = job.detail()
        detail.attempt = max(1, detail.attempt)
        asked = error.delay if isinstance(error, RetryLater) else None
        delay = policy.delay(detail.attempt) if asked is None else asked
        detail.errors = (*detail.errors, fault.failure)[-_ERRORS_KEPT:]
        detail.fault = fault
        job.mark(Status.RETRY, failure=fault.failure)
        plan.hub.emit(
            Origin.WORKER, Level.INFO, "task.retry",
            f"{job.name} {job.id}: attempt {detail.attempt} failed ({fault.failure.type}); next in {delay:.3g} s",
            {"id": job.id, "name": job.name, "attempt": detail.attempt, "delay": delay, "failure": fault.failure},
        )  # fmt: skip
        plan.bridge.hooks.run("on_retry", Context(job), error)
        plan.by_full_way()  # the short way counts no attempts
        if job.restore(self.args):
            plan.bridge.wait_for(job, plan.bridge.timer.time() + delay)

    def _give_up(self, fault: Fault) -> None:
        job = self.job
        self._stop_clock()
        self._show_held()
        if job.finish(Status.FAILURE, fault):
            failed(job, fault)

    def _show_held(self) -> None:
        if self.job._detail is not None and self.job._detail.held is not None:
            show_held(self.job)

    def _stop_clock(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _ended(self) -> None:
        job, plan = self.job, self.job._plan
        if self._place:
            plan.limit.leave()
        if plan.bridge.hooks.after_task:
            plan.bridge.hooks.run("after_task", Context(job), job.last)
        if plan.hub.floor <= _DEBUG and job.ended:
            plan.hub.tell(Origin.WORKER, "call.finished", job)


def failed(job: Job, fault: Fault) -> None:
    """Tell of a call that ended in FAILURE: the event, the handlers and what was to follow. Once per call."""
    plan = job._plan
    plan.bridge.directory.remember(job)
    ignored = plan.option.ignore_report
    if plan.hub.floor <= Level.WARNING or ignored:
        plan.hub.emit(
            Origin.WORKER, Level.WARNING, "task.failed",
            f"{job.name} {job.id} failed: {fault.failure.type or fault.code}: {fault.failure.message}",
            {"id": job.id, "name": job.name, "attempt": job.attempt, "failure": fault.failure},
            log=ignored,
        )  # fmt: skip
    hooks = plan.bridge.hooks
    if hooks.on_error and fault.code is Code.EXCEPTION:
        hooks.run("on_error", Context(job), fault.error)
    if hooks.on_failure:
        hooks.run("on_failure", Context(job), fault.failure)
    if plan.option.on_error:
        plan.bridge.follow(job, plan.option.on_error, str(fault.failure.message))


def fail_short(job: Job, error: BaseException, args: tuple[Any, ...]) -> None:
    """End a call of the short way whose function raised, or try it again if it asked for that."""
    traceback = error.__traceback__
    if traceback is not None:
        error.__traceback__ = traceback.tb_next  # the pool's own frame tells nobody anything
    if isinstance(error, RetryLater):
        Attempt(job, args).fail(error)
        return
    fault = Fault(_code_of(error), error)
    if job.finish(Status.FAILURE, fault):
        failed(job, fault)


def _code_of(error: BaseException) -> Code:
    return Code.BAD_RETURN if isinstance(error, BadReturn) else Code.EXCEPTION


def _expired(job: Job) -> bool:
    detail = job._detail
    if detail is None or detail.expires is None or job._plan.bridge.timer.time() < detail.expires:
        return False
    fault = Fault(Code.EXPIRED, failure=Failure(Code.EXPIRED, message="it had not started when it expired"))
    if job.finish(Status.FAILURE, fault):
        failed(job, fault)
        with contextlib.suppress(AttributeError):
            del job._args
    return True
