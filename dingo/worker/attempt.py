"""Attempt: the life of a call in a worker, by the full way.

    begin -> run -> succeed
                 -> fail -> retry | give up

Thread pools and loops take the same steps; they differ only in how they run the function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.errors import BadArguments, BadReturn, RetryLater
from dingo.events import WORKER, Level, Origin
from dingo.job import Fault
from dingo.message.report import Code, Status
from dingo.message.retry import RETRY_LATER_MAX, Retry
from dingo.worker.context import Context, show_held

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.job import Job, Leavable
    from dingo.timer import Alarm

_DEBUG = Level.DEBUG

# How many of the failures before the last travel and stay with a call that is tried again and again.
_ERRORS_KEPT = 3


class Attempt:
    """One attempt at running one call. Made by `begin`; ended by `succeed` or `fail`, in the same worker.

    The end of the function and the end of its time may come together: `claim` says for whom of the two.
    """

    __slots__ = ("_alarm", "_place", "_rivals", "_until", "args", "job", "left", "stopping")

    def __init__(self, job: Job, args: tuple[Any, ...]) -> None:
        self.job = job
        self.args = args
        self._alarm: Alarm | None = None
        self._place: Leavable | None = None  # where it has a place, to be given back when the function has returned
        self._rivals: list[None] = []  # with a time limit: one item, for who is first
        self.stopping = False  # its time is over and the pool is stopping the function
        self.left = False  # and has given that up: the call has ended or goes on without it

    @classmethod
    def begin(cls, job: Job, out_of_time: Callable[[Attempt], object]) -> Attempt | None:
        """Claim the call and start the attempt. None where it is not to run (now): then all is said.

        `out_of_time(attempt)` is called on the timer's thread when it has had its `timeout`.
        """
        plan, detail = job._plan, job._detail
        place: Leavable | None = vars(detail).pop("place", None) if detail is not None else None
        args = None
        if not (job.started or (detail is not None and detail.asleep) or _expired(job)):
            if place is None and plan.limit is not None:
                if not plan.limit.enter(job):
                    return None
                place = plan.limit
            args = job.start()
        if args is None:
            if place is not None:
                place.leave()
            return None
        plan.bridge.started(job)
        attempt = cls(job, args)
        attempt._place = place
        option = plan.option
        if option.retry is not None or option.timeout is not None or job._detail is not None:
            job.detail().attempt += 1
        if option.timeout is not None:
            attempt._set_deadline(option.timeout, out_of_time)
        if plan.hub.floor <= _DEBUG:
            plan.hub.tell(WORKER, "call.started", job)
        if option.monitor_progress:
            attempt._tell_start()
        if plan.bridge.hooks.before_task:
            plan.bridge.hooks.run("before_task", Context(job))
        return attempt

    def _tell_start(self) -> None:
        if self.job.attempt <= 1:
            self.job.mark_started()
        else:
            self.job.mark(Status.RECEIVED)
            self.job.mark(Status.STARTED)

    def _set_deadline(self, timeout: float, out_of_time: Callable[[Attempt], object]) -> None:
        timer = self.job._plan.bridge.timer
        self.job.detail().deadline = timer.time() + timeout
        self._until = timer.clock() + timeout
        self._rivals = [None]
        self._alarm = timer.after(timeout, lambda: out_of_time(self))

    def claim(self) -> bool:
        """Claim to say how it ended. False where that has been said: whatever comes now counts no more."""
        if self._alarm is None:
            return True
        try:
            self._rivals.pop()
        except IndexError:
            return False
        self._alarm.cancel()
        return True

    def succeed(self, value: Any) -> None:
        """The function returned: correct the value, and end the call with it."""
        job, plan = self.job, self.job._plan
        try:
            if type(value) is not plan.exact:
                value = plan.returned(value)
            if plan.bridge.carries and not plan.option.ignore_report:
                value = plan.bridge.carried(job, value)
        except BaseException as error:
            self.fail(error)
            return
        if self.claim():
            self._show_held()
            if job.finish(Status.SUCCESS, value):
                if plan.hub.floor <= _DEBUG:
                    plan.hub.tell(WORKER, "call.finished", job)
                plan.bridge.hooks.run("on_success", Context(job), value)
                given = (value,) if plan.option.pass_result else ()
                plan.bridge.follow(job, plan.option.on_success, given, value)
        self._ended()

    def fail(self, error: BaseException) -> None:
        """The function raised: try again later, or end the call."""
        delay = self._settle(Fault(_code_of(error), error)) if self.claim() else None
        self._ended()
        if delay is not None:
            self._sleep(delay)

    def stopped(self) -> None:
        """The pool has stopped the function because its time was over."""
        delay = self._settle(self._timeout_fault("it was stopped"))
        self._ended()
        if delay is not None:
            self._sleep(delay)

    def returned(self) -> None:
        """A function that could not be stopped has returned at last: nobody waits for it."""
        self._ended()

    def out_of_time(self, why: str = "its thread runs on") -> None:
        """Its time is over (that is claimed), but its function cannot be stopped.

        A retry would run beside the first run, so there is one only where the policy names TimeoutError.
        """
        job, aside = self.job, self.job._plan.bridge.aside
        fault = self._timeout_fault(why)
        policy = job._plan.option.retry
        if policy is not None and policy.names_timeout:
            aside.do(self._settle_and_sleep, fault)  # hooks may take their time: not on the timer's thread
        elif job.finish(Status.FAILURE, fault):
            aside.do(failed, job, fault)

    def _settle_and_sleep(self, fault: Fault) -> None:
        delay = self._settle(fault)
        if delay is not None:
            self._sleep(delay)

    def _timeout_fault(self, what: str) -> Fault:
        return timeout_fault(self.job, what)

    def _settle(self, fault: Fault) -> float | None:
        """Decide what follows a failure: another attempt, in so many seconds, or (None) the end of the call."""
        delay = None if self.job.ended else self._retry_delay(fault)
        if delay is None:
            self._give_up(fault)
        else:
            self._announce_retry(fault, delay)
        return delay

    def _retry_delay(self, fault: Fault) -> float | None:
        error = fault.error
        assert error is not None
        policy = self._retry_for(error)
        if policy is None:
            return None
        if isinstance(error, RetryLater) and error.delay is not None:
            return error.delay
        try:
            return policy.delay(max(1, self.job.attempt))
        except Exception as wrong:  # the user's own backoff
            self.job._plan.hub.emit(
                Origin.WORKER, Level.WARNING, "backoff.failed",
                f"the backoff of task {self.job.name!r} raised {type(wrong).__name__}: there is no retry",
                {"error": wrong}, error=wrong,
            )  # fmt: skip
            return None

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

    def _announce_retry(self, fault: Fault, delay: float) -> None:
        job, plan, detail = self.job, self.job._plan, self.job.detail()
        self._show_held()
        detail.attempt = max(1, detail.attempt)
        detail.errors = (*detail.errors, fault.failure)[-_ERRORS_KEPT:]
        detail.fault = fault
        job.mark(Status.RETRY, failure=fault.failure)
        plan.hub.emit(
            Origin.WORKER, Level.INFO, "task.retry",
            f"{job.name} {job.id}: attempt {detail.attempt} failed ({fault.failure.type}); next in {delay:.3g} s",
            {"id": job.id, "name": job.name, "attempt": detail.attempt, "delay": delay, "failure": fault.failure},
        )  # fmt: skip
        plan.bridge.hooks.run("on_retry", Context(job), fault.error)

    def _sleep(self, delay: float) -> None:
        """Have the call come again, the last thing: from then on another worker may have it."""
        job = self.job
        plan = job._plan = job._plan.full()  # the short way counts no attempts
        job.detail().asleep = True  # before it can be claimed: it may still stand in a queue from before
        if job.restore(self.args):
            plan.bridge.wait_for(job, plan.bridge.timer.time() + delay)

    def _give_up(self, fault: Fault) -> None:
        job = self.job
        self._show_held()
        if job.finish(Status.FAILURE, fault):
            failed(job, fault)

    def _show_held(self) -> None:
        if self.job._detail is not None and self.job._detail.held is not None:
            show_held(self.job)

    def _ended(self) -> None:
        """The function has returned: give its place back."""
        job, plan = self.job, self.job._plan
        if self._place is not None:
            self._place.leave()
        if plan.bridge.hooks.after_task:
            plan.bridge.hooks.run("after_task", Context(job), job.last)


def timeout_fault(job: Job, what: str) -> Fault:
    """Say that an attempt took too long."""
    limit = job._plan.option.timeout
    return Fault(Code.TIMEOUT, TimeoutError(f"the attempt took longer than its timeout of {limit} s; {what}"))


def failed(job: Job, fault: Fault) -> None:
    """Tell of a call that ended in FAILURE: the event, the handlers and what was to follow. Once per call."""
    plan = job._plan
    plan.bridge.directory.remember(job)
    if plan.hub.floor <= _DEBUG:
        plan.hub.tell(WORKER, "call.finished", job)
    ignored = plan.option.ignore_report or (job._detail is not None and job._detail.follows)
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
    error = (fault.failure.message or fault.failure.type,) if plan.option.on_error else ()
    plan.bridge.follow(job, plan.option.on_error, error, None)


def fail_short(job: Job, error: BaseException, args: tuple[Any, ...]) -> None:
    """End a call of the short way whose function raised, or try it again if it may be or has asked for that."""
    without_our_frame(error)
    if isinstance(error, RetryLater) or job._plan.option.retry is not None:
        Attempt(job, args).fail(error)
        return
    Attempt(job, args)._give_up(Fault(_code_of(error), error))


def expire(job: Job) -> None:
    """End a call that has been claimed but is too late."""
    fault = Fault.saying(Code.EXPIRED, "it had not started when it expired")
    if job.finish(Status.FAILURE, fault):
        failed(job, fault)


def without_our_frame(error: BaseException) -> BaseException:
    """Drop the pool's own frame from the traceback: it tells nobody anything."""
    traceback = error.__traceback__
    if traceback is None:
        return error
    return BaseException.with_traceback(error, traceback.tb_next)  # also where its class is frozen


def _code_of(error: BaseException) -> Code:
    return Code.BAD_RETURN if isinstance(error, BadReturn) else Code.EXCEPTION


def _expired(job: Job) -> bool:
    detail = job._detail
    if detail is None or detail.expires is None or job._plan.bridge.timer.time() < detail.expires:
        return False
    if job.start() is not None:
        expire(job)
    return True
