"""Context: what a task knows about the call it runs for, and what it can say while it runs."""

from __future__ import annotations

import datetime
from contextvars import ContextVar
from time import monotonic, time
from typing import TYPE_CHECKING, Any, ClassVar

from dingo.blocking import Seat, here
from dingo.message.report import Progress, Status

if TYPE_CHECKING:
    from dingo.job import Detail, Job, Mark

# A task may say more than anybody can read: without monitor_progress at most so many reports a second travel.
PROGRESS_PER_SECOND = 10

# On an event loop many tasks take turns on one thread, so there each carries its own.
on_loop: ContextVar[Job | None] = ContextVar("dingo_job", default=None)


def _utc(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)


class Context:
    """The call a task runs for. Injected into a first parameter annotated with this class; `dingo.current()`.

    Outside of any call it is detached: it can be used alike, and nobody hears it.
    """

    __dingo_context__: ClassVar[bool] = True  # how a signature is told to have one
    __slots__ = ("_job", "_loose", "_seat", "state")

    def __init__(self, job: Job | None = None, seat: Seat | None = None, **loose: Any) -> None:
        self._job = job
        self._seat = seat  # the worker thread that runs it, if one does
        self._loose = loose
        self.state: Any = loose.pop("state", None) if job is None else job._plan.bridge.state
        """What the app's `lifespan` yielded in this process."""

    def __repr__(self) -> str:
        """Name, id and attempt."""
        return f"<Context {self.name} {self.id} attempt {self.attempt}>" if self._job else "<Context detached>"

    @property
    def _detail(self) -> Detail | None:
        return None if self._job is None else self._job._detail

    @property
    def id(self) -> str:
        """The call's id."""
        return self._loose.get("id", "") if self._job is None else self._job.id

    @property
    def name(self) -> str:
        """The task's name."""
        return self._loose.get("name", "") if self._job is None else self._job.name

    @property
    def attempt(self) -> int:
        """Which attempt this is: 1 is the first."""
        return self._loose.get("attempt", 1) if self._job is None else max(1, self._job.attempt)

    @property
    def retries_left(self) -> int:
        """How many more attempts the task's retry policy allows."""
        if self._job is None:
            return int(self._loose.get("retries_left", 0))
        retry = self._job._plan.option.retry
        return max(0, retry.max + 1 - self.attempt) if retry else 0

    @property
    def errors(self) -> tuple[Any, ...]:
        """Why the attempts before this one failed (Failures)."""
        return self._loose.get("errors", ()) if self._detail is None else self._detail.errors

    @property
    def headers(self) -> dict[str, Any]:
        """The call's headers."""
        if self._job is None:
            return self._loose.setdefault("headers", {})  # type: ignore[no-any-return]
        detail = self._job.detail()
        if detail.headers is None:
            detail.headers = dict(self._job._plan.option.headers)
        return detail.headers

    @property
    def queue(self) -> str:
        """The queue the call waited in."""
        if self._job is None:
            return str(self._loose.get("queue", "default"))
        return self._job.queue

    @property
    def eta(self) -> datetime.datetime | None:
        """The moment before which it was not to run."""
        return self._loose.get("eta") if self._detail is None else _utc(self._detail.due)

    @property
    def deadline(self) -> datetime.datetime | None:
        """When this attempt runs out of time."""
        if self._job is None:
            return self._loose.get("deadline")
        deadline = None if self._job._detail is None else self._job._detail.deadline
        if deadline is None and self._seat is not None:
            deadline = self._seat.deadline_of(self._job)
        return _utc(deadline)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for this any more (cancelled, out of time, shut down): poll it and stop."""
        if self._job is None:
            return bool(self._loose.get("cancelled", False))
        return self._job.ended or (self._seat is not None and self._seat.abandoned)

    @property
    def previous(self) -> Any:
        """The result of the task before it, where one called it."""
        return self._loose.get("previous") if self._detail is None else self._detail.previous

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far it is. Without `monitor_progress` the newest of each tenth of a second travels."""
        if self._job is not None and not self.cancelled:
            _show(self._job, (Status.PROGRESS, None, None, Progress(done, total, message), self.attempt, 0.0))

    def save(self, value: Any) -> None:
        """Keep an intermediate value, which the caller reads as `result.saved`."""
        if self._job is not None and not self.cancelled:
            self._job.detail().saved = value
            _show(self._job, (Status.PROGRESS, value, None, None, self.attempt, 0.0))

    def flush(self) -> None:
        """Show the newest progress now, if it is held back: nothing newer will come."""
        if self._detail is not None and self._detail.held is not None:
            assert self._job is not None
            show_held(self._job)


def current() -> Context:
    """Return the context of the call that runs here; a detached one outside of any."""
    seat = here.seat
    return Context(on_loop.get() or (seat.job if seat is not None else None), seat)


def _show(job: Job, mark: Mark) -> None:
    detail = job.detail()
    if job._plan.option.monitor_progress:
        job.mark(*mark[:4])
        return
    with detail.lock:
        wait = detail.shown + 1 / PROGRESS_PER_SECOND - monotonic()
        if wait > 0:
            if detail.held is None:
                job._plan.bridge.timer.after(wait, lambda: show_held(job))
            detail.held = (*mark[:5], time())
            return
        detail.shown = monotonic()
    job.mark(*mark[:4])


def show_held(job: Job) -> None:
    """Show the newest progress that came too soon after the one before: later, or just before the end.

    After the end it stays where it is: `Job.marks` counts it in.
    """
    detail = job.detail()
    with detail.lock:
        if job.ended:
            return
        mark, detail.held = detail.held, None
        detail.shown = monotonic()
    if mark is not None:
        job.mark(*mark[:4])
