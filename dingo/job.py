"""Job: one accepted call, from acceptance to its final report.

Two moments of its life are contested, and each is decided by one atomic step, the deletion of a slot, which
succeeds for exactly one thread:

* **start**: whoever deletes `_args` runs it (a worker, a waiter that helps itself) or has withdrawn it;
* **end**: whoever deletes `_open` gives it its final status (the one that ran it, a canceller, a time limit,
  the closing app). Everyone else drops what they have.

After the end claim the order is: value, time, `_status`, and then a look at `_watch`. A watcher does the
reverse: it stores itself in `_watch` and then looks at `_status`. So at least one of the two sees the other.

This relies on the GIL: deleting a slot is one C call that checks and clears without releasing it, and stores
become visible in program order. Without the GIL both claims and the look at `_watch` go through `_guard`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from time import time
from typing import TYPE_CHECKING, Any, Protocol

from dingo.blocking import HAS_GIL
from dingo.message.report import Code, Failure, Progress, Report, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.plan import Plan
    from dingo.timer import Alarm
    from dingo.worker.expiry import Expiry

# Guards every job's watchers and detail. One lock for all: it is taken only where somebody really waits.
# Reentrant: the garbage collector or a signal handler may come in between, and look at a call itself.
_guard = threading.RLock()

_SENT = Status.SENT
_RECEIVED = Status.RECEIVED
_STARTED = Status.STARTED
_SUCCESS = Status.SUCCESS
_FAILURE = Status.FAILURE
_CANCELLED = Status.CANCELLED


class Fault:
    """How a call failed, in the process where it did: the code and the exception itself.

    The Failure that can travel is made of it only when somebody asks: formatting a traceback costs more
    than most tasks.
    """

    __slots__ = ("_failure", "code", "error")

    def __init__(self, code: Code, error: BaseException | None = None, failure: Failure | None = None) -> None:
        self.code = code
        self.error = error
        self._failure = failure

    @classmethod
    def saying(cls, code: Code, message: str) -> Fault:
        """Make one that is dingo's own word, without an exception behind it."""
        return cls(code, failure=Failure(code, message=message))

    @property
    def failure(self) -> Failure:
        """The same as a plain value."""
        if self._failure is None:
            assert self.error is not None
            self._failure = Failure.of(self.code, self.error)
        return self._failure


class Watch:
    """Who wants to know of the end: latches (threads and loops that wait; they only wake) and callbacks."""

    __slots__ = ("callbacks", "latches")

    def __init__(self) -> None:
        self.latches: list[Callable[[], object]] = []
        self.callbacks: list[Callable[[Job], object]] = []


# A report not yet made: status, value, failure, progress, attempt, time. Most are never looked at.
Mark = tuple[Status, Any, "Failure | None", "Progress | None", int, float]


class Listener:
    """Who follows a call live: a channel, or a callback for each report."""

    __slots__ = ("call", "put", "shown", "told", "waiting")

    def __init__(self, *, put: Callable[[Report], object] | None = None,
                 call: Callable[[Report], object] | None = None) -> None:  # fmt: skip
        self.put = put  # a channel's: quick, so it is fed under the lock, in order
        self.call = call  # a user's
        self.shown = 0  # how many marks it has been shown
        self.waiting: deque[Report] = deque()  # what its callback is still to be told, by
        self.told = False  # the one thread that is telling it


class Leavable(Protocol):
    """A place among those that may run."""

    def leave(self) -> None:
        """Give it back."""


class Detail:
    """What most calls never have: attempts, intermediate reports and those who follow them live.

    Its fields stand on the class as defaults, so that making one costs little.
    """

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    lock = threading.RLock()  # one for all, taken only where somebody follows; guards `listeners`
    listeners: tuple[Listener, ...] = ()
    attempt = 0
    status: Status | None = None
    errors: tuple[Failure, ...] = ()
    headers: dict[str, Any] | None = None
    saved: Any = None
    previous: Any = None
    held: Mark | None = None  # a progress report that came too soon after the last one shown
    shown = 0.0  # when the last one was shown (time.monotonic)
    due: float | None = None  # not before (the timer's time)
    expires: float | None = None  # not after (the timer's time)
    deadline: float | None = None  # of the attempt that runs (the timer's time)
    alarm: Alarm | None = None  # what holds it while it waits for its time
    asleep = False  # it waits for its time: a worker that comes upon it leaves it alone
    place: Leavable | None = None  # where it was given a place, between waiting for that and starting
    follows = False  # another call made it, and nobody holds its Result
    unique: str | None = None  # the key by which it is the only one of its task, over a broker
    fault: Fault | None = None  # why its last attempt failed


class Job:
    """A call and its state. Its slots are shared by the caller's side, the pools and the bridge."""

    __slots__ = (
        "__weakref__", "_args", "_begun", "_detail", "_expiry", "_id", "_kwargs", "_open", "_plan", "_sent", "_status",
        "_time", "_value", "_watch",
    )  # fmt: skip

    _args: tuple[Any, ...]
    _open: None
    _sent: float  # set only where the call is monitored: when it was sent,
    _begun: float  # and when its first attempt began
    _expiry: Expiry  # set only by the short way: when it expires
    _time: float
    _value: Any

    def __init__(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        self._plan = plan
        self._args = args
        self._kwargs = kwargs
        self._status = _SENT
        self._open = None
        self._id: str | None = None
        self._watch: Watch | None = None
        self._detail: Detail | None = None

    # -- the two claims ----------------------------------------------------------------------------

    def start(self) -> tuple[Any, ...] | None:
        """Claim the right to run it: its arguments, or None where somebody else was first."""
        try:
            if HAS_GIL:
                args = self._args
                del self._args
            else:
                with _guard:
                    args = self._args
                    del self._args
        except AttributeError:
            return None
        return args

    def restore(self, args: tuple[Any, ...]) -> bool:
        """Give the right to run it back, for another attempt. False if it has ended meanwhile."""
        self._args = args
        if self.ended:
            self.start()
            return False
        return True

    def finish(self, status: Status, value: Any) -> bool:
        """Claim its end and give it. False where it has ended already: then nothing changes."""
        try:
            if HAS_GIL:
                del self._open
            else:
                with _guard:
                    del self._open
        except AttributeError:
            return False
        self._value = value
        self._time = time()
        self._status = status
        if self._watch is not None or not HAS_GIL:
            self.wake()
        return True

    @property
    def ended(self) -> bool:
        """Whether its end is claimed (its final status may be a moment away)."""
        return not hasattr(self, "_open")

    def holds(self, job: Job) -> bool:
        """Whether that call is one of its own: only calls that travel together have any."""
        del job
        return False

    @property
    def started(self) -> bool:
        """Whether somebody runs it, has run it or has withdrawn it."""
        return not hasattr(self, "_args")

    # -- those who watch ---------------------------------------------------------------------------

    def watch(self, *, latch: Callable[[], object] | None = None, callback: Any = None) -> bool:
        """Be told of the end, once. False if it has ended already: then nothing was registered."""
        with _guard:
            if self._status >= _SUCCESS:
                return False
            watch = self._watch
            if watch is None:
                watch = self._watch = Watch()
            if latch is not None:
                watch.latches.append(latch)
            else:
                watch.callbacks.append(callback)
        # The end may have come between the look at _status and the store of _watch.
        return not (self._status >= _SUCCESS and self.unwatch(latch=latch, callback=callback))

    def unwatch(self, *, latch: Any = None, callback: Any = None) -> bool:
        """Take a watcher back. False where it has been told, or is about to be."""
        with _guard:
            watch = self._watch
            if watch is None:
                return False
            mine, of = (latch, watch.latches) if latch is not None else (callback, watch.callbacks)
            if mine not in of:
                return False
            of.remove(mine)
            return True

    def wake(self) -> None:
        """Tell all who watch: first those who only wake, then the callbacks. Each is told once."""
        with _guard:
            watch, self._watch = self._watch, None
        if watch is None:
            return
        if self._detail is not None and self._detail.held is not None:
            self.show()
        for latch in watch.latches:
            latch()
        for callback in watch.callbacks:
            self._plan.tell(callback, self)

    # -- what it can tell --------------------------------------------------------------------------

    def detail(self) -> Detail:
        """Return its detail, made now if it has none."""
        detail = self._detail
        if detail is None:
            with _guard:
                detail = self._detail
                if detail is None:
                    detail = self._detail = Detail()
        return detail

    @property
    def id(self) -> str:
        """Its id, drawn at the first look: most calls are never asked for it."""
        return self._id if self._id is not None else self._plan.identify(self)

    @property
    def name(self) -> str:
        """The name of its task."""
        return self._plan.name

    @property
    def queue(self) -> str:
        """The queue it waits in, or waited in."""
        return self._plan.option.queue or self._plan.bridge.config.queue

    @property
    def status(self) -> Status:
        """Where it stands. Never does I/O."""
        if self._status >= _SUCCESS:
            return self._status
        detail = self._detail
        if detail is not None and detail.status is not None:
            return detail.status
        return Status.STARTED if self.started else self._status

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or ran last: 1 is the first, 0 none yet."""
        if self._detail is not None and self._detail.attempt:
            return self._detail.attempt
        return 1 if self.started else 0

    def final_report(self) -> Report:
        """Make the final report of an ended call."""
        value, failure = (self._value, None) if self._status is _SUCCESS else (None, self._value.failure)
        return Report(self.id, self.name, self._status, value, failure, None, self.attempt, self._time)

    @property
    def last(self) -> Report:
        """The newest report."""
        if self._status >= _SUCCESS:
            return self.final_report()
        history = self.history()
        return history[-1] if history else Report(self.id, self.name, self.status, attempt=self.attempt)

    def mark(self, status: Status, value: Any = None, failure: Failure | None = None,
             progress: Progress | None = None) -> None:  # fmt: skip
        """Add an intermediate report and show it to those who follow. After the end: nothing."""
        if self.ended:
            return
        detail = self.detail()
        detail.status = status
        detail.marks.append((status, value, failure, progress, self.attempt, time()))
        if detail.listeners:  # who comes later looks at the marks after having made itself known
            self.show()

    def mark_sent(self) -> None:
        """Note that a new call, which nobody else knows yet, is sent."""
        self._sent = time()

    def mark_started(self) -> None:
        """Note that the first attempt is where it runs, and runs."""
        self._begun = time()
        if self._detail is not None and self._detail.listeners:
            self.show()

    def marks(self) -> list[Mark]:
        """Return all marks so far. Only those of monitored calls have the first ones."""
        marks: list[Mark] = []
        if (sent := getattr(self, "_sent", None)) is not None:
            marks.append((_SENT, None, None, None, 0, sent))
        if (begun := getattr(self, "_begun", None)) is not None:
            marks += ((_RECEIVED, None, None, None, 1, begun), (_STARTED, None, None, None, 1, begun))
        detail = self._detail
        if detail is None:
            return marks
        marks += detail.marks
        if detail.held is not None and self._status >= _SUCCESS:  # nothing newer came
            marks.append(detail.held)
        return marks

    def listen(self, listener: Listener) -> None:
        """Show somebody all reports before the final one: those so far, and each that comes."""
        detail = self.detail()
        with detail.lock:
            detail.listeners = (*detail.listeners, listener)
        self.show()

    def unlisten(self, put: Any) -> None:
        """Show that channel no more."""
        detail = self.detail()
        with detail.lock:
            detail.listeners = tuple(one for one in detail.listeners if one.put != put)

    def show(self) -> None:
        """Show all who follow what they have not been shown."""
        detail = self.detail()
        idle = []
        with detail.lock:
            marks = self.marks()
            for listener in detail.listeners:
                new = marks[listener.shown :]
                listener.shown += len(new)
                put = listener.put or listener.waiting.append
                for mark in new:
                    put(Report(self.id, self.name, *mark))
                if listener.waiting and not listener.told:
                    listener.told = True
                    idle.append(listener)
        for listener in idle:
            self._plan.tell(self._tell_all, listener)

    def _tell_all(self, listener: Listener) -> None:
        """Call a listener's callback for all that waits: in one thread at a time, so in order."""
        lock = self.detail().lock
        while True:
            with lock:
                if not listener.waiting:
                    listener.told = False
                    return
                report = listener.waiting.popleft()
            assert listener.call is not None
            self._plan.guarded(listener.call, report)

    def history(self) -> list[Report]:
        """Make the reports before the final one."""
        return [Report(self.id, self.name, *mark) for mark in self.marks()]


def _renew_locks() -> None:
    """In the child of a fork: a lock that another thread of the parent held would never be free."""
    global _guard  # noqa: PLW0603 - one lock for all jobs, by design
    _guard = threading.RLock()
    Detail.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)
