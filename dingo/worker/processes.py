"""ProcessPool: children that run calls on cores of their own, and can be killed.

One thread of this process owns all children: it hands out what waits, takes the answers, and replaces what
died.

    put -> waiting -> begin -> hand -> child ... answer -> end
                         ^                 |
                         +--- given back, or its child died

Short calls go out many at once, up to what is measured to take some milliseconds. A child answers each call
by itself and runs them in order, so the first one that is not answered is the one that runs: if the child
dies, that call was what it died of, and the others have not started.

Hooks and the correction of return values run here, in the parent. `here.forbidden` is set in the pool's
thread: nothing in it may wait for a call.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import threading
import weakref
from collections import deque
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from dingo.blocking import here
from dingo.errors import BadArguments
from dingo.events import Level, Origin
from dingo.job import Fault
from dingo.message.report import Code
from dingo.worker.child.call import Facts
from dingo.worker.child.cargo import dump, dump_call, dump_function, load, said
from dingo.worker.child.handed import Function, Handed, dump_facts
from dingo.worker.child.handle import Child
from dingo.worker.child.wire import (
    ASK,
    BAD_CALL,
    CALL,
    FACTS,
    FUNCTION,
    GIVEN,
    LEAVE,
    LOAD,
    LOADED,
    READY,
    SAVED,
)  # fmt: skip
from dingo.worker.context import Context
from dingo.worker.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.events import Hub
    from dingo.job import Job
    from dingo.plan import Plan
    from dingo.registry import Registration
    from dingo.worker.attempt import Attempt
    from dingo.worker.child.wire import Frame

# A child has up to so many calls before it, and no more than take so many seconds; it gets new ones when half
# of that is left. Enough that it never waits for the parent, little enough that none waits long behind others.
_LINE = 128
_PACK = 64  # of which so many are handed over at once: it begins with them while the next are made ready
_LINE_SECONDS = 0.010

# While all children have short calls enough before them, answers are looked at so often only: what this process does
# it does on the cores that they need. So much is left to do for each when it looks again (seconds).
_NAP, _LEFT_AFTER_NAP = 0.003, 0.001

# A child that has not answered for so long (seconds) gives back what it has not started.
_STUCK = 0.020

# A call ends POISONED when it was running in so many processes that died.
_DEATHS = 3

# The pause before a child is replaced that died before it was ready: from, doubling, up to (seconds).
_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


class ProcessPool:
    """`count` processes that serve one queue.

    A child is replaced after `max_calls` calls, or when it has more than `max_rss` bytes of memory (looked at
    after each answer; on Linux); None: never. `lifespan` is entered once in each child. Raises ValueError,
    TypeError where the lifespan cannot be sent.
    """

    kind = "process"
    remote = False
    lent = 0

    def __init__(self, name: str, count: int, hub: Hub, *, lifespan: Callable[[], Any] | None = None,
                 max_calls: int | None = None, max_rss: int | None = None) -> None:  # fmt: skip
        for what, value in (("count", count), ("max_calls", max_calls), ("max_rss", max_rss)):
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{what} is a whole number from 1, not {value!r}")
        self.name = name
        self.count = count
        self.max_calls = max_calls
        self.max_rss = max_rss
        self.priority: int | None = None
        """Of all calls that were to come so far: the pool is ranked when they differ."""
        self.closed = False
        """Nothing more is to be put: set before what waits is looked through, and looked at after each put."""
        self._hub = hub
        self._lifespan = None if lifespan is None else _dump_lifespan(lifespan)
        self._waiting = Waiting()
        self._orders: deque[Callable[[], object]] = deque()  # from other threads
        self._numbers = itertools.count(1)
        self._functions: dict[tuple[Registration, int], Function] = {}
        self._last: tuple[Plan, Function] | None = None  # most calls have the plan of the one before
        self._deaths: weakref.WeakKeyDictionary[Job, int] = weakref.WeakKeyDictionary()
        """How many processes died while they ran a call."""
        self._children: list[Child] = []
        self._stopping = False
        self._abandoned = False
        self._pause = 0.0
        self._start_at = 0.0  # no child is started before (time.monotonic)
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._close_pipe = weakref.finalize(self, _close, self._woken, self._waker)  # then nobody writes to it
        self._close_pipe.atexit = False  # apps are closed at exit, and need it
        self._selector.register(self._woken, selectors.EVENT_READ, lambda _mask: os.read(self._woken, 4096))
        self._asleep = False
        self._mine = threading.Lock()
        """Held by the pool's thread but while it sleeps: whoever holds it may use all of this."""
        _pools.add(self)
        self._thread = threading.Thread(target=self._live, name=f"dingo-{name}", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        """Name and size."""
        return f"<ProcessPool {self.name}: {self.count} processes>"

    # -- for all threads ---------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Have a call run."""
        if self._asleep and job._plan.plain and self._hand_at_once(job):
            return
        self._waiting.inbox.append(job)
        if self._asleep:
            self._wake()

    def _hand_at_once(self, job: Job) -> bool:
        """Hand a call to a child that has nothing to do, in the caller's thread: that saves a change of threads."""
        if not self._mine.acquire(blocking=False):
            return False
        try:
            idle = next((child for child in self._children if child.open and not child.line), None)
            if idle is None or self._waiting or not job._plan.option.redeliver:
                return False
            handed = self._begin(job)
            if handed is not None:
                self._hand_or_leave(idle, handed)
            return True
        finally:
            self._mine.release()

    def _hand_or_leave(self, child: Child, handed: Handed) -> None:
        child.heard, child.load, child.alone = monotonic(), 0.0, False
        try:
            self._load_onto(child, handed)
        except BaseException as error:
            if not child.line:  # the pool's thread will find the same, and end the call
                self._waiting.put_before_all(handed)
                self._wake()
            if not isinstance(error, Exception):
                raise
        child.flush()
        if child.unsent:
            self._wake()

    def rank(self) -> None:
        """From now on serve by priority."""
        self._waiting.ranked = True

    @property
    def ranked(self) -> bool:
        """Whether it serves by priority."""
        return self._waiting.ranked

    def resize(self, count: int) -> None:
        """Have `count` processes: more start now, fewer leave when they are free."""
        self.count = count
        self._wake()

    def interrupt(self, job: Job) -> None:
        """Stop a call that runs here and has been ended: its process is killed, other calls are not harmed."""
        self._order(partial(self._interrupt, job))

    @property
    def threads(self) -> int:
        """How many processes it has now."""
        return len(self._children)

    @property
    def pids(self) -> list[int]:
        """The ids of its processes."""
        return [child.pid for child in self._children.copy()]

    def waiting(self) -> list[Job]:
        """Take out all calls that wait."""
        return self._waiting.take_all()

    def peek(self) -> list[Job]:
        """Return all calls that wait and have not been started."""
        return self._waiting.peek()

    def running(self) -> list[Job]:
        """Return the calls that children have now, those not started included."""
        handed = [one for child in self._children.copy() for one in child.line.copy().values()]
        return [one.job for one in (*handed, *self._waiting.begun())]

    def stop(self) -> None:
        """Tell all children to leave, after what waits."""
        self._stopping = True
        self._wake()

    def join(self, until: float | None) -> bool:
        """Wait until all children have left, or until that moment (time.monotonic); whether they have.

        After that moment those that run nothing are killed, and the others as soon as their call is interrupted.
        """
        if self._thread is threading.current_thread():
            return True
        self._thread.join(None if until is None else max(0.0, until - monotonic()))
        if self._thread.is_alive():
            self._abandoned = True
            self._wake()
        return not self._thread.is_alive()

    def _order(self, order: Callable[[], object]) -> None:
        self._orders.append(order)
        self._wake()

    def _wake(self) -> None:
        self._asleep = False
        with contextlib.suppress(OSError):  # it is full: the thread wakes anyway
            os.write(self._waker, b"!")

    # -- the pool's thread -------------------------------------------------------------------------

    def _live(self) -> None:
        here.forbidden, here.hub = True, self._hub
        self._mine.acquire()
        while not self._over():
            try:
                self._turn()
            except BaseException as error:
                what = f"process pool {self.name}: an error in dingo"
                self._tell(Level.ERROR, "worker.failed", what, error)
                sleep(_PAUSE)
        _pools.discard(self)
        self._selector.close()

    def _over(self) -> bool:
        return self._stopping and not self._children and not self._waiting

    def _turn(self) -> None:
        self._balance()
        self._feed()
        for child in self._children:
            self._flush(child)
        if self._all_have_enough():
            sleep(_NAP)  # so that it wakes once for several answers: the children need the cores
        self._asleep = True
        timeout = 0.0 if self._inbox_changed() else self._until_next()
        self._mine.release()
        try:
            events = self._selector.select(timeout)
        finally:
            self._mine.acquire()
            self._asleep = False
        for key, mask in events:
            key.data(mask)
        while self._orders:
            self._orders.popleft()()

    def _all_have_enough(self) -> bool:
        soon = monotonic() + _NAP + _LEFT_AFTER_NAP
        return bool(self._children) and all(
            len(child.line) > 1 and child.ready and child.heard + child.load > soon for child in self._children
        )

    def _inbox_changed(self) -> bool:
        # What was put while nobody was asleep woke nobody, so it is looked for once more after saying so.
        idle = any(child.open and not child.line for child in self._children)
        return bool(self._orders) or (idle and bool(self._waiting.inbox))

    def _until_next(self) -> float | None:
        """Seconds until something is to be done though nothing happens; None: never."""
        now = monotonic()
        times = [self._start_at] if self._start_at > now and self._missing() > 0 else []
        times += [child.heard + _STUCK for child in self._children if len(child.line) > 1 and child.open]
        return max(0.0, min(times) - now) if times else None

    # -- children ----------------------------------------------------------------------------------

    def _missing(self) -> int:
        wanted = 0 if self._stopping and not self._waiting else self.count
        return wanted - sum(not child.leaving for child in self._children)

    def _balance(self) -> None:
        """Have as many children as there shall be, none of them stuck, too old, too big or abandoned."""
        now = monotonic()
        for child in tuple(self._children):
            if child.open and len(child.line) > 1 and now - child.heard >= _STUCK:
                child.recall()
            if self._abandoned and not child.line:
                self._kill(child)
        missing = self._missing()
        while missing > 0 and now >= self._start_at:
            self._start()
            missing -= 1
        if missing < 0:
            staying = [child for child in self._children if not child.leaving]
            for child in sorted(staying, key=lambda child: len(child.line))[:-missing]:
                self._retire(child)

    def _start(self) -> None:
        try:
            child = Child(self._lifespan)
        except OSError as error:
            self._pause_starts(f"no process can be started: {said(error)}", error)
            return
        self._children.append(child)
        self._selector.register(child.socket, selectors.EVENT_READ, partial(self._on_socket, child))
        if child.watched >= 0:
            self._selector.register(child.watched, selectors.EVENT_READ, partial(self._on_death, child))
        self._tell(Level.INFO, "worker.started", f"process {child.pid} of {self.name} started")

    def _pause_starts(self, why: str, error: BaseException | None = None) -> None:
        self._pause = min(_LONGEST_PAUSE, max(_PAUSE, self._pause * 2))
        self._start_at = monotonic() + self._pause
        why = f"process pool {self.name}: {why}; the next attempt is in {self._pause:g} s"
        self._tell(Level.ERROR, "worker.failed", why, error)

    def _retire(self, child: Child) -> None:
        """Have a child leave when it has finished what it runs."""
        child.leaving = True
        child.recall()
        child.send(LEAVE)

    def _kill(self, child: Child) -> None:
        if not child.killed:
            child.leaving = child.killed = True
            child.kill()

    def _on_socket(self, child: Child, mask: int) -> None:
        if mask & selectors.EVENT_READ and child in self._children:
            try:
                self._read(child)
            except (EOFError, OSError):
                self._on_end(child)

    def _on_end(self, child: Child) -> None:
        """Its socket is closed: it is dead, or leaves, or a task has closed it."""
        self._selector.unregister(child.socket)
        if not child.leaving:
            child.recalled = True  # it gets nothing more
            child.kill()
        if child.watched < 0:
            self._bury(child)

    def _on_death(self, child: Child, _mask: int) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._read(child)  # what it has answered counts
        self._bury(child)

    def _bury(self, child: Child) -> None:
        for watched in (child.socket, child.watched):
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(watched)
        self._children.remove(child)
        how = child.bury()
        if child.killed or (child.leaving and not child.line):
            self._tell(Level.INFO, "worker.stopped", f"process {child.pid} of {self.name} stopped")
        elif not child.ready:
            self._pause_starts(f"process {child.pid} ended before it was ready ({how})")
        else:
            self._tell(Level.WARNING, "worker.died", f"process {child.pid} of {self.name} died: {how}")
        handed = list(child.line.values())
        self._waiting.give_back(handed[1:])
        if handed:
            self._lost(handed[0], child, how)

    def _lost(self, handed: Handed, child: Child, how: str) -> None:
        """Decide about the call that a child ran when it ended."""
        handed.halt_clock()
        if handed.stopping:
            handed.stopped()
        elif handed.job.ended:
            handed._ended()
        elif child.killed:  # for the sake of another call
            self._waiting.put_before_all(handed)
        else:
            self._died_of(handed, how)

    def _died_of(self, handed: Handed, how: str) -> None:
        deaths = self._deaths[handed.job] = self._deaths.get(handed.job, 0) + 1
        if not handed.job._plan.option.redeliver:
            message = f"its process died ({how}), and it is not to run again (redeliver=False)"
            handed.end(Fault.saying(Code.WORKER_LOST, message))
        elif deaths >= _DEATHS:
            message = f"its process died {deaths} times while it ran, at last: {how}"
            handed.end(Fault.saying(Code.POISONED, message))
        else:
            self._waiting.put_before_all(handed)

    # -- stopping one call -------------------------------------------------------------------------

    def _out_of_time(self, attempt: Attempt) -> None:
        self._order(partial(self._overdue, attempt))  # called on the timer's thread

    def _overdue(self, handed: Any) -> None:
        for child in self._children:
            if handed in child.line.values() and handed.overdue and handed.claim():
                handed.stopping = True
                self._kill(child)  # which has nothing else to do

    def _interrupt(self, job: Job) -> None:
        for child in self._children:
            for handed in child.line.values():
                if handed.job is job:
                    self._stop_ended(child)
                    return

    def _stop_ended(self, child: Child) -> None:
        """Kill a child if the call it runs has been ended; if one has that it has not started, take that back."""
        if not next(iter(child.line.values())).job.ended:
            child.recall()
            return
        if len(child.line) > 1:
            child.freeze()
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self._read(child)
            if not child.line or not next(iter(child.line.values())).job.ended:
                child.thaw()  # it had just answered: its next call is innocent
                return
        self._kill(child)

    # -- handing calls out -------------------------------------------------------------------------

    def _feed(self) -> None:
        """Hand out what waits, first to those that have least to do."""
        waiting = len(self._waiting)
        if not waiting:
            return
        now = monotonic()
        half = _LINE_SECONDS / 2
        share = min(_PACK, max(1, waiting // self.count))
        for child in sorted(self._children, key=lambda child: child.load):
            if child.open and (not child.line or (child.load < half and now - child.heard < half)):
                self._fill(child, share, now)

    def _fill(self, child: Child, share: int, now: float) -> None:
        if not child.line:
            child.heard, child.load = now, 0.0
        while share > 0 and child.open and len(child.line) < _LINE and child.load < _LINE_SECONDS:
            handed = self._next_for(child)
            if handed is None:
                return
            share -= self._hand(child, handed)

    def _next_for(self, child: Child) -> Handed | None:
        """Take the next call, begun; None where there is none, or none that this child can take now."""
        while (item := self._waiting.take()) is not None:
            job = item.job if isinstance(item, Handed) else item
            plan = job._plan
            alone = (not plan.plain or not plan.option.redeliver or bool(self._deaths)) and self._alone(job)
            if alone and not self._clear_for(child, plan):
                self._waiting.put_before_all(item)
                return None
            handed = self._begin_again(item) if isinstance(item, Handed) else self._begin(item)
            if handed is not None:
                child.alone = alone
                return handed
        return None

    def _alone(self, job: Job) -> bool:
        """Whether a call gets a child for itself: for its time limit, its place, or because it may kill it."""
        plan = job._plan
        option = plan.option
        return option.timeout is not None or plan.limit is not None or not option.redeliver or job in self._deaths

    def _clear_for(self, child: Child, plan: Plan) -> bool:
        """Whether a child does nothing else, and has imported the function where that would cost the call time."""
        if child.line:
            return False
        with contextlib.suppress(Exception):  # handing it over will say what is wrong
            function = self._function_of(plan)
            if plan.option.timeout is not None and function.number not in child.loaded:
                self._send_function(child, function)
                child.send(LOAD, 0, function.number)
                child.loading = True
                return False
        return True

    def _begin(self, job: Job) -> Handed | None:
        if not job._plan.plain:
            return Handed.begin(job, self._out_of_time)  # type: ignore[return-value]
        args = job.start()
        return None if args is None else Handed(job, args)

    def _begin_again(self, handed: Handed) -> Handed | None:
        if handed.job.ended:
            handed._ended()
            return None
        handed.wind_clock(self._out_of_time)
        return handed

    def _hand(self, child: Child, handed: Handed) -> bool:
        """Hand a call to a child. False where it cannot be: then it has failed."""
        try:
            self._load_onto(child, handed)
        except BaseException as error:
            code = Code.BAD_ARGUMENTS if isinstance(error, BadArguments) else Code.EXCEPTION
            handed.end(Fault(code, error))
            return False
        return True

    def _load_onto(self, child: Child, handed: Handed) -> None:
        """Send a call to a child. Raises BadArguments, TypeError (its function); then nothing has been sent."""
        job = handed.job
        plan = job._plan
        function = self._function_of(plan)
        facts = Facts(job) if plan.binding.takes_context else None
        data = dump_call(plan, handed.args, job._kwargs, facts)
        self._send_function(child, function)
        handed.function = function
        handed.number = number = next(self._numbers)
        handed.cost = _LINE_SECONDS if function.mean is None else function.mean
        child.line[number] = handed
        child.load += handed.cost
        child.send(CALL, number, function.number, data)
        child.calls += 1
        if child.calls == self.max_calls:
            child.leaving = True
            child.send(LEAVE)

    def _function_of(self, plan: Plan) -> Function:
        if self._last is not None and self._last[0] is plan:
            return self._last[1]
        registration, invoker = plan.registration, plan.option.invoker
        key = (registration, id(invoker))
        function = self._functions.get(key)
        if function is None:
            try:
                data = dump((dump_function(registration.fn), invoker, plan.binding.takes_context))
            except Exception as error:
                raise TypeError(
                    f"task {plan.name!r} cannot be sent to a worker process: {said(error)}. Use a function of a "
                    "module, or one that refers only to what can be pickled"
                ) from error
            function = self._functions[key] = Function(next(self._numbers), data)
        self._last = plan, function
        return function

    def _send_function(self, child: Child, function: Function) -> None:
        if function.number not in child.known:
            child.known.add(function.number)
            child.send(FUNCTION, 0, function.number, function.data)

    def _flush(self, child: Child) -> None:
        if child.unsent:
            child.flush()
        if child.unsent != child.awaited:  # it takes no more for now, or does so again
            child.awaited = child.unsent
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.awaited else 0)
            with contextlib.suppress(KeyError, ValueError):  # its socket is watched no more: it is dying
                self._selector.modify(child.socket, events, partial(self._on_socket, child))

    # -- answers -----------------------------------------------------------------------------------

    def _read(self, child: Child) -> None:
        """Take what a child says. Raises EOFError, OSError (BlockingIOError: it says nothing)."""
        frames = child.inbox.read()
        child.heard = monotonic()
        for frame in frames:
            if frame[0] <= BAD_CALL:
                self._answered(child, frame)
            else:
                self._said(child, frame)
        if self.max_rss is not None and frames and not child.leaving and child.rss() > self.max_rss:
            self._retire(child)

    def _answered(self, child: Child, frame: Frame) -> None:
        kind, number, nanoseconds, payload = frame
        handed = child.line.pop(number, None)
        if handed is None:
            return
        child.load -= handed.cost
        handed.function.ran(nanoseconds * 1e-9)
        handed.answered(kind, payload)

    def _said(self, child: Child, frame: Frame) -> None:
        kind, number, extra, payload = frame
        if kind == READY:
            child.ready = True
            self._pause = 0.0
        elif kind == LOADED:
            child.loading = False
            child.loaded.add(extra)
        elif kind == GIVEN:
            self._take_back(child, load(payload))
        elif kind == ASK:
            handed = child.line.get(number)
            child.send(FACTS, payload=dump(None) if handed is None else dump_facts(handed.job))
        elif number in child.line:
            self._told(child.line[number].job, kind, payload)

    def _take_back(self, child: Child, numbers: list[int]) -> None:
        child.recalled = False
        child.calls -= len(numbers)
        given = [handed for number in numbers if (handed := child.line.pop(number, None)) is not None]
        child.load = sum(handed.cost for handed in child.line.values())
        self._waiting.give_back(given)
        if child.line and next(iter(child.line.values())).job.ended:
            self._stop_ended(child)

    def _told(self, job: Job, kind: int, payload: bytearray) -> None:
        """Take what the running call says."""
        try:
            said_there = load(payload)
        except BaseException as error:
            what = f"{job.name} {job.id}: what it saved cannot be read"
            self._tell(Level.WARNING, "save.failed", what, error)
            return
        if kind == SAVED:
            Context(job).save(said_there)
        else:
            Context(job).progress(*said_there)

    def _tell(self, level: Level, code: str, message: str, error: BaseException | None = None) -> None:
        payload = {"error": error} if error is not None else None
        self._hub.emit(Origin.WORKER, level, code, message, payload, error=error)

    # -- forks -------------------------------------------------------------------------------------

    def forget_children(self) -> None:
        """In a fork of this process: the children are the parent's, and shall not take this one for it."""
        for child in self._children:
            child.close()
        self._close_pipe()
        self._waker = -1


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dump_lifespan(lifespan: Callable[[], Any]) -> bytes:
    try:
        return dump_function(lifespan)
    except Exception as error:
        what = f"the app's lifespan {lifespan!r} cannot be sent to worker processes: {said(error)}"
        raise TypeError(what) from error


_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in tuple(_pools):
        pool.forget_children()


os.register_at_fork(after_in_child=_after_fork)
