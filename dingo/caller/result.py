"""Result: what `call` returns. A future, and the channel of everything that is reported about the call."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from dingo.blocking import away, away_on_loop, here
from dingo.caller.loops import mailbox, wake
from dingo.channel import Channel
from dingo.errors import Cancelled, ReportIgnored, ResultTimeout, TaskFailed
from dingo.job import Fault, Job, Listener
from dingo.message.report import Failure, Report, Status

if TYPE_CHECKING:
    from dingo.plan import Plan

R = TypeVar("R")

_SENT = Status.SENT
_SUCCESS = Status.SUCCESS

# Only monitored calls report that they start, so whoever waits for that looks again after so many seconds.
_LOOK = 0.02


class Result(Job, Generic[R]):
    """One call: its value when it is there, its reports as they come.

    It behaves as a `concurrent.futures.Future` does and can be awaited on any running loop; abandoning the
    wait (a timeout, a cancelled `await`) never cancels the call. It is itself the local job, so that a call
    costs one object.
    """

    __slots__ = ()

    def __init__(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        # Spelt out again rather than called: this is run once per call.
        self._plan = plan
        self._args = args
        self._kwargs = kwargs
        self._status = _SENT
        self._open = None
        self._id = None
        self._watch = None
        self._detail = None

    def __repr__(self) -> str:
        """Name, id (if it has been asked for) and status."""
        return f"<Result {self.name}{f' {self._id}' if self._id else ''} {self.status.name}>"

    # -- the value ---------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R:
        """Wait for the end and return the value; `timeout` in seconds.

        Raises TaskFailed (its `__cause__` is the original exception where that is in this process),
        Cancelled, ResultTimeout (also a TimeoutError), ReportIgnored; RuntimeError where waiting would block
        the event loop of an async task.
        """
        if self._status is not _SUCCESS and not self.wait(timeout):
            raise ResultTimeout(f"{self!r} has not ended within {timeout} s; the call goes on")
        if self._status is _SUCCESS:
            return self._value  # type: ignore[no-any-return]
        raise self._error()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and return what `result` would raise, or None after a success.

        Raises Cancelled and ResultTimeout as `result` does.
        """
        if not self.wait(timeout):
            raise ResultTimeout(f"{self!r} has not ended within {timeout} s; the call goes on")
        if self._status is _SUCCESS:
            return None
        error = self._error()
        if isinstance(error, Cancelled):
            raise error
        return error

    def _error(self) -> Exception:
        fault: Fault = self._value
        if self._status is Status.CANCELLED:
            return Cancelled(f"{self!r}: {fault.failure.message or 'the call was cancelled'}")
        failed = TaskFailed(self.final_report())
        failed.__cause__ = fault.error
        return failed

    # -- where it stands ---------------------------------------------------------------------------

    def done(self) -> bool:
        """Whether it has ended."""
        return self._status >= _SUCCESS

    def running(self) -> bool:
        """Whether its function runs (or waits for another attempt)."""
        return Status.STARTED <= self.status < _SUCCESS

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._status is Status.CANCELLED

    def cancel(self) -> bool:
        """Cancel it. A queued or delayed call is withdrawn at once; a running one is told by its context.

        In an async pool the running function is stopped; in a thread it runs on unseen. False only when the
        call had ended already.
        """
        return self._plan.cancel(self)

    @property
    def saved(self) -> Any:
        """What the task kept last with `context.save(value)`; None before."""
        return None if self._detail is None else self._detail.saved

    # -- waiting -----------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None, *, until: Status | None = None) -> bool:
        """Wait for the end, or until a status is reached; False if `timeout` seconds were not enough.

        In a worker thread it never deadlocks: the call is run here if it waits in this thread's own pool,
        and otherwise the pool stands in for this thread. Raises RuntimeError on dingo's own event loop.
        """
        if self._status >= _SUCCESS:
            return True
        if until is not None and not until.final:
            return self._wait_until(until, timeout)
        if here.seat is not None and timeout is None and here.seat.help(self):
            return True
        lock = Lock()
        lock.acquire()
        if not self.watch(latch=lock.release):
            return True
        with away():
            if lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                return True
        return not self.unwatch(latch=lock.release)

    def _wait_until(self, until: Status, timeout: float | None) -> bool:
        end = None if timeout is None else monotonic() + timeout
        channel = self.reports()
        try:
            while self.status < until:
                left = _LOOK if end is None else min(_LOOK, end - monotonic())
                if left <= 0:
                    return False
                with contextlib.suppress(TimeoutError):
                    channel.get(left)
        finally:
            self.unlisten(channel.put)
        return True

    async def until(self, status: Status) -> bool:
        """Wait on an event loop until the status is reached (or passed); True."""
        if status.final:
            await self._ended()
            return True
        import asyncio  # noqa: PLC0415 - whoever comes here has it

        channel = self.reports()
        try:
            while self.status < status:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(channel.aget(), _LOOK)
        finally:
            self.unlisten(channel.put)
        return True

    def __await__(self) -> Generator[Any, None, R]:
        """Return the value on any running loop. Cancelling the await leaves the call alone."""
        if self._status < _SUCCESS:
            yield from self._ended().__await__()
        if self._status is _SUCCESS:
            return self._value  # type: ignore[no-any-return]
        raise self._error()

    async def _ended(self) -> None:
        if here.seat is not None and here.seat.help(self):  # the loop of a task in a worker thread
            return
        import asyncio  # noqa: PLC0415 - whoever comes here has it

        loop = asyncio.get_running_loop()
        future = loop.create_future()
        latch = partial(mailbox(loop).post, partial(wake, future))
        if self.watch(latch=latch):
            try:
                with away_on_loop():
                    await future
            finally:
                self.unwatch(latch=latch)

    # -- what is reported about it -----------------------------------------------------------------

    def reports(self) -> Channel[Report]:
        """Open a channel of all its reports, from the first one on; it ends after the final report.

        `for report in result.reports()`, or `async for` on an event loop. Every channel gets all of them.
        """
        channel: Channel[Report] = Channel()
        self.listen(Listener(put=channel.put))
        end = partial(_end, channel, self)
        if not self.watch(latch=end):
            end()
        return channel

    # -- callbacks ---------------------------------------------------------------------------------

    def add_done_callback(self, fn: Callable[[Self], object]) -> None:
        """Have `fn(result)` called once when it ends: on a dingo thread, or now if it has ended."""
        if not self.watch(callback=fn):
            self._plan.guarded(fn, self)

    def on_ok(self, fn: Callable[[R], object]) -> Self:
        """Have `fn(value)` called once if it succeeds. Returns the result, for chaining."""
        self.add_done_callback(partial(_ok, fn))
        return self

    def on_fail(self, fn: Callable[[Failure], object]) -> Self:
        """Have `fn(failure)` called once if it fails or is cancelled. Returns the result, for chaining."""
        self.add_done_callback(partial(_fail, fn))
        return self

    def on_progress(self, fn: Callable[[Report], object]) -> Self:
        """Have `fn(report)` called for each progress report, those before included. For chaining."""
        self.listen(Listener(call=partial(_progress, fn)))
        self.watch(latch=_nothing)  # so that the end looks for what has not been shown
        return self


class IgnoredResult(Result[R]):
    """What the caller of a call with `ignore_report=True` gets: final as soon as it is sent, without a value."""

    __slots__ = ()

    def __init__(self, job: Job) -> None:
        super().__init__(job._plan, (), None)
        self._value = job

    @property
    def id(self) -> str:
        """The call's id."""
        return self._value.id  # type: ignore[no-any-return]

    def done(self) -> bool:
        """Return True: nothing more will be reported."""
        return True

    @property
    def status(self) -> Status:
        """SENT, for ever."""
        return Status.SENT

    def cancel(self) -> bool:
        """Return False: for this caller the call has ended."""
        return False

    def wait(self, timeout: float | None = None, *, until: Status | None = None) -> bool:
        """Return True at once."""
        del timeout, until
        return True

    async def until(self, status: Status) -> bool:
        """Return True at once."""
        del status
        return True

    def watch(self, *, latch: Callable[[], object] | None = None, callback: Any = None) -> bool:
        """Return False: it has ended already."""
        del latch, callback
        return False

    def result(self, timeout: float | None = None) -> R:
        """Raise ReportIgnored."""
        del timeout
        raise self._error()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Raise ReportIgnored."""
        return self.result(timeout)  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, None, R]:
        """Raise ReportIgnored."""
        raise self._error()
        yield

    def _error(self) -> Exception:
        return ReportIgnored(f"task {self.name!r} was called with ignore_report=True: its result is not sent back")

    @property
    def last(self) -> Report:
        """The report that it was sent."""
        return Report(self.id, self.name, Status.SENT)

    def reports(self) -> Channel[Report]:
        """Open a channel with the report that it was sent, and its end."""
        channel: Channel[Report] = Channel()
        channel.put(self.last)
        channel.close()
        return channel

    def on_ok(self, fn: Callable[[R], object]) -> Self:
        """Do nothing: no value will come."""
        del fn
        return self

    def on_fail(self, fn: Callable[[Failure], object]) -> Self:
        """Do nothing: no failure will be told."""
        del fn
        return self


def _end(channel: Channel[Report], job: Job) -> None:
    channel.put(job.final_report())
    channel.close()


def _ok(fn: Callable[[Any], object], job: Job) -> None:
    if job._status is _SUCCESS:
        fn(job._value)


def _fail(fn: Callable[[Failure], object], job: Job) -> None:
    if job._status is not _SUCCESS:
        fn(job._value.failure)


def _nothing() -> None:
    """Be told of the end, and leave it at that."""


def _progress(fn: Callable[[Report], object], report: Report) -> None:
    if report.status is Status.PROGRESS:
        fn(report)


Awaitable.register(Result)
