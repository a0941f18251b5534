"""ThreadPool: threads that take calls from one queue and run them.

The way of a plain call is the loop of `_serve`: take it, claim it, run it, store its value, wake who waits.
Everything else (hooks, limits, retries, somebody listening ...) goes by `dingo.worker.attempt`.

A thread of the pool may have to wait for something itself. It then steps out of its seat and another thread
stands in, so that the pool never waits for itself; it leaves again when the first is back. In a pool of one
nothing of its tasks may run at the same time (their state may depend on that), so there the two take turns.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from _queue import SimpleQueue
from collections import deque
from functools import partial
from queue import Empty
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.blocking import HAS_GIL, here
from dingo.events import WORKER, Level, Origin
from dingo.job import Fault
from dingo.message.option import MAX_PRIORITY
from dingo.message.report import Code, Status
from dingo.worker.attempt import Attempt, expire, fail_short, failed, timeout_fault, without_our_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dingo.events import Hub
    from dingo.job import Job
    from dingo.timer import Timer

_DEBUG = Level.DEBUG
_SUCCESS = Status.SUCCESS

# A waiting worker runs what it waits for itself, one inside the other, up to so many deep; each level takes
# about five frames of the interpreter's default limit of 1,000. Beyond that another thread stands in.
HELP_DEPTH = 50

# Who watches over the time limits of the short way looks so often (seconds). Limits below the second are not watched
# but have an alarm each: by a look in time the end of all others is known, and none ends late.
_LOOK = 0.05
WATCHED_FROM = 0.5


class _Note:
    """Something in a queue that is no call: it stands where a call's plan does."""

    plain = short = False

    def __init__(self, act: Any) -> None:
        self._plan = self
        self.perform = act


class Seat:
    """One thread's place in its pool."""

    __slots__ = ("abandoned", "alone", "depth", "job", "lent", "pool", "since", "thread", "turn", "waits")

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool
        self.job: Job | None = None
        self.since = 0.0  # when it began with its last call of the short way (the timer's clock)
        self.depth = 0
        self.turn = False  # whether it holds the pool's turn, to be given back after its call
        self.abandoned = False  # its call ran out of time and another thread has its place
        self.waits = 0  # how many waits are going on in its thread
        self.lent = False  # whether another thread stands in for it
        self.alone = False  # whether that was in a pool of one
        self.thread: threading.Thread | None = None

    def settle(self) -> None:
        """After a call: give the turn back to the other thread of a pool of one."""
        if self.depth == 0:
            self.give_turn()

    def give_turn(self) -> None:
        """Give the turn back, if it has it."""
        with self.pool._lock:
            had, self.turn = self.turn, False
        if had:
            self.pool.turn.release()

    def deadline_of(self, job: Job) -> float | None:
        """Return when a call that runs here by the short way runs out of time (seconds since the epoch)."""
        timeout, timer = job._plan.timeout, job._plan.timer
        if self.job is not job or timeout is None:
            return None
        return timer.time() + self.since + timeout - timer.clock()

    def away(self) -> contextlib.AbstractContextManager[None]:
        """Let the pool stand in while this thread waits."""
        return self.pool.stand_in(self)

    def help(self, job: Job) -> bool:
        """Run a call that waits in this pool. False where it does not, or has been taken."""
        if job._plan.pool is not self.pool or job.started or self.depth >= HELP_DEPTH:
            return False
        if job._plan.clocked or (self.job is not None and self.job._plan.clocked):
            return False  # when the time of one is over, the other must not be held up or ended by it
        if job._detail is not None and job._detail.asleep:
            return False  # it waits for its time, not for a worker
        before, self.job = self.job, job
        self.depth += 1
        try:
            job._plan.perform(job, self)
        finally:
            self.depth -= 1
            self.job = before
        return job._status >= _SUCCESS


def _serve(seat: Seat, get: Any) -> None:  # noqa: PLR0915 - every call passes here, so it is spelt out in one loop
    """Take calls and run them, until told to leave."""
    here.seat = seat
    pool = seat.pool
    while True:
        job = get()
        plan = job._plan
        if not plan.plain:
            if pool.ranked:
                job = pool.exchange(job)
                plan = job._plan
            if not plan.short:
                if plan.perform(job, seat):
                    return
                job = plan = None
                if seat.turn:
                    seat.settle()
                continue
            if plan.clocked:
                seat.since = now = plan.timer.clock()
                if plan.expires and now >= job._expiry.until and job.start() is not None:
                    expire(job)  # and so it is claimed
                seat.job = job
                if not pool.watching:
                    pool.watch(plan.timer)
        try:
            args = job._args
            del job._args
        except AttributeError:  # cancelled, or run by one who waits for it
            seat.job = None
            if seat.turn:
                seat.settle()
            continue
        seat.job = job
        try:
            kwargs = job._kwargs
            value = plan.run(*args) if kwargs is None else plan.run(*args, **kwargs)
            if type(value) is not plan.exact:
                value = plan.returned(value)
        except BaseException as error:
            fail_short(job, error, args)
            if plan.clocked and pool.has_replaced(seat):
                return
        else:
            try:
                del job._open
            except AttributeError:  # it was cancelled or out of time: nobody waits for this value
                if plan.clocked and pool.has_replaced(seat):
                    return
            else:
                job._value = value
                job._time = time()
                job._status = _SUCCESS
                if job._watch is not None:
                    job.wake()
        seat.job = job = plan = args = kwargs = value = None
        if seat.turn:
            seat.settle()


def _serve_guarded(seat: Seat, get: Any) -> None:
    """The same where there is no GIL: the claims are made under a lock."""
    here.seat = seat
    while True:
        job = seat.pool.exchange(get())
        if job._plan.perform(job, seat):
            return
        job = None
        seat.settle()


def perform(job: Job, seat: Seat) -> bool:
    """Run a call by the full way. True where this thread has lost its seat meanwhile and must leave."""
    before, seat.job = seat.job, job
    attempt = Attempt.begin(job, lambda attempt: seat.pool.out_of_time(attempt, seat))
    if attempt is None:
        seat.job = before
        return False
    plan = job._plan
    try:
        kwargs = job._kwargs
        value = plan.run(*attempt.args) if kwargs is None else plan.run(*attempt.args, **kwargs)
    except BaseException as error:
        attempt.fail(without_our_frame(error))
    else:
        attempt.succeed(value)
    seat.job = before
    return plan.option.timeout is not None and seat.pool.has_replaced(seat)


def perform_told(job: Job, seat: Seat) -> bool:
    """Run a call by the short way, and tell of it: to listeners, and in its own reports if it is monitored."""
    args = job.start()
    if args is None:
        return False
    plan = job._plan
    hub = plan.hub
    told = hub.floor <= _DEBUG
    if plan.option.monitor_progress:
        job.mark_started()
    if told:
        hub.tell(WORKER, "call.started", job)
    before, seat.job = seat.job, job
    try:
        kwargs = job._kwargs
        value = plan.run(*args) if kwargs is None else plan.run(*args, **kwargs)
        if type(value) is not plan.exact:
            value = plan.returned(value)
    except BaseException as error:
        fail_short(job, error, args)
    else:
        if job.finish(_SUCCESS, value) and told:
            hub.tell(WORKER, "call.finished", job)
    seat.job = before
    return False


class ThreadPool:
    """`count` threads that serve one queue. Its threads are daemons: what must be awaited is awaited by close."""

    kind = "thread"

    remote = False

    def __init__(self, name: str, count: int, hub: Hub) -> None:
        self.name = name
        self.count = count
        self.ranked = False
        self.priority: int | None = None
        """Of all calls that were to come so far: the pool is ranked when they differ."""
        self.watching = False
        """Whether somebody looks for calls of the short way that are out of time."""
        self.closed = False
        """Nothing more is to be put: set before what waits is looked through, and looked at after each put."""
        self._hub = hub
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.put: Callable[[Any], None] = self._queue.put
        self.put_ticket: Callable[[Any], None] = self._queue.put
        """In a ranked pool, after a call was put into its lane."""
        self._lock = threading.Lock()
        self.turn = threading.Lock()
        self._seats: set[Seat] = set()
        self._numbers = itertools.count()
        self._lanes: list[deque[Job]] = [deque() for _ in range(MAX_PRIORITY + 1)]
        self._closing = False
        self.lent = 0
        """How many threads stand in for others."""
        self.lending: Callable[[], object] | None = None
        """Called when one more does."""
        for _ in range(count):
            self._start_thread()

    def __repr__(self) -> str:
        """Name and size."""
        return f"<ThreadPool {self.name}: {self.count} threads>"

    # -- threads -----------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        with self._lock:
            self._start_locked()

    def _start_locked(self) -> None:
        seat = Seat(self)
        seat.thread = threading.Thread(
            target=self._live, args=(seat,), name=f"dingo-{self.name}-{next(self._numbers)}", daemon=True
        )
        seat.thread.start()
        self._seats.add(seat)  # it cannot have left: for that it needs the lock

    def _live(self, seat: Seat) -> None:
        here.hub = self._hub
        self._hub.emit(Origin.WORKER, Level.INFO, "worker.started", f"worker thread of {self.name} started")
        serve = _serve if HAS_GIL else _serve_guarded
        get = self._queue.get if self.count > 1 else partial(self._get_in_turn, seat)
        try:
            serve(seat, get)
        except BaseException as error:
            self._died(seat, error)
        finally:
            with self._lock:
                self._seats.discard(seat)
            seat.depth = 0
            seat.settle()
            self._hub.emit(Origin.WORKER, Level.INFO, "worker.stopped", f"worker thread of {self.name} stopped")

    def _died(self, seat: Seat, error: BaseException) -> None:
        """Keep the pool whole after an error of dingo's own: the call fails, another thread takes over."""
        self._hub.emit(
            Origin.WORKER, Level.ERROR, "worker.died", f"a worker thread of {self.name} died of an error in dingo",
            {"error": error}, error=error,
        )  # fmt: skip
        if seat.job is not None:
            fault = Fault(Code.EXCEPTION, error)
            if seat.job.finish(Status.FAILURE, fault):
                failed(seat.job, fault)
        self._start_thread()

    def resize(self, count: int) -> None:
        """Have `count` threads: more start now, fewer leave when they are free."""
        with self._lock:
            before, self.count = self.count, count
        if count == 1 < before:  # the threads of several take no turns: when all have left, one comes that does
            leaving = list(range(before))

            def leave(_note: Any, _seat: Seat) -> bool:
                with self._lock:
                    leaving.pop()
                    last = not leaving
                if last:
                    self._start_thread()
                return True

            for _ in range(before):
                self._queue.put(_Note(leave))
            return
        for _ in range(count - before):
            self._start_thread()
        for _ in range(before - count):
            self._queue.put(_LEAVE)

    def out_of_time(self, attempt: Attempt, seat: Seat) -> None:
        """End an attempt that takes too long. A thread cannot be stopped: another takes its seat."""
        with self._lock:  # together, for the thread asks the moment its function returns
            if not attempt.claim():
                return
            self._replace(seat)
        seat.give_turn()
        attempt.out_of_time()

    def has_replaced(self, seat: Seat) -> bool:
        """Whether another thread has this one's seat."""
        with self._lock:
            return seat.abandoned

    # -- standing in for a thread that waits -------------------------------------------------------

    @contextlib.contextmanager
    def stand_in(self, seat: Seat) -> Iterator[None]:
        """Have another thread serve while this one waits, be it for many at once on a loop of the task's own."""
        seat.waits += 1
        if seat.waits == 1 and not seat.abandoned:  # else another serves already
            seat.alone, seat.lent = self.count == 1, True
            with self._lock:
                self.lent += 1
            seat.give_turn()
            self._start_thread()
            if self.lending is not None:
                self.lending()
        try:
            yield
        finally:
            seat.waits -= 1
            if seat.waits == 0 and seat.lent:
                seat.lent = False
                self._queue.put(_Note(self._leave_after_standing_in))
                if seat.alone and not seat.abandoned:
                    self.turn.acquire()
                    seat.turn = True

    def _leave_after_standing_in(self, _note: Any, _seat: Seat) -> bool:
        with self._lock:
            self.lent -= 1
        return True

    def _get_in_turn(self, seat: Seat) -> Any:
        # Only a thread that runs something can make another stand in, so while `lent` is 0 there is but one.
        job = self._queue.get()
        if self.lent and (job is TICKET or not isinstance(job, _Note)):
            self.turn.acquire()
            seat.turn = True
        return job

    # -- priorities --------------------------------------------------------------------------------

    def rank(self) -> None:
        """From now on serve by priority. Pools begin without: most calls have one, and a single queue is faster."""
        with self._lock:  # what waits already has come before all that will
            self.ranked = True
            for entry in self._take_all():
                if isinstance(entry, _Note):
                    self._queue.put(entry)
                else:
                    self._put_ranked(entry)
        self.put = self._put_ranked

    def lane(self, priority: int) -> deque[Job]:
        """Return where calls of a priority wait in a ranked pool."""
        return self._lanes[MAX_PRIORITY - priority]

    def _put_ranked(self, job: Job) -> None:
        self.lane(job._plan.option.priority).append(job)
        self._queue.put(TICKET)

    def _take_all(self) -> list[Any]:
        entries: list[Any] = []
        with contextlib.suppress(Empty):
            while True:
                entries.append(self._queue.get_nowait())
        return entries

    def exchange(self, job: Any) -> Any:
        """In a ranked pool, give the best call that waits for the one (or the ticket) taken from the queue."""
        if not self.ranked or (isinstance(job, _Note) and job is not TICKET):
            return job
        if job is not TICKET:
            self.lane(job._plan.option.priority).append(job)
        for lane in self._lanes:
            if lane:
                with contextlib.suppress(IndexError):  # another thread was first
                    return lane.popleft()
        return _NOTHING

    # -- time limits of the short way --------------------------------------------------------------

    def watch(self, timer: Timer) -> None:
        """Look from time to time for calls that are out of time, as long as there are any that could be.

        The thread that begins with one looks whether it is watched after it has said so; who watches looks once
        more after it has said that it does not: so one of the two sees the other.
        """
        with self._lock:
            if self.watching:
                return
            self.watching = True
        timer.after(_LOOK, partial(self._look, timer))

    def _look(self, timer: Timer) -> None:
        left = self._least_left(timer)
        if left is None:
            self.watching = False
            left = self._least_left(timer)
            if left is None or self.watching:
                return
            self.watching = True
        timer.after(min(_LOOK, left), partial(self._look, timer))

    def _least_left(self, timer: Timer) -> float | None:
        """End what is out of time; return how long the next has (seconds), None where nothing is timed."""
        least = None
        for seat in self._seats.copy():
            job, since = seat.job, seat.since
            timeout = None if job is None or job is not seat.job or not job._plan.short else job._plan.timeout
            if job is None or timeout is None or job.ended:
                continue
            left = since + timeout - timer.clock()
            if left <= 0:
                self._out_of_time(job, seat)
            else:
                least = left if least is None else min(least, left)
        return least

    def _out_of_time(self, job: Job, seat: Seat) -> None:
        fault = timeout_fault(job, "its thread runs on")
        with self._lock:  # together, for the thread asks the moment its function returns
            if not job.finish(Status.FAILURE, fault):
                return
            self._replace(seat)
        seat.give_turn()
        job._plan.bridge.aside.do(failed, job, fault)  # hooks may take their time: not on the timer's thread

    def _replace(self, seat: Seat) -> None:
        if not seat.abandoned:
            seat.abandoned = True
            self._start_locked()  # while closing too: it finds the note to leave that was meant for this one

    # -- the end -----------------------------------------------------------------------------------

    def renew(self) -> None:
        """In the child of a fork, where none of its threads are: make it possible to look into it."""
        self._lock = threading.Lock()

    @property
    def threads(self) -> int:
        """How many threads it has now."""
        return len(self._seats)

    def waiting(self) -> list[Job]:
        """Take out all calls that wait."""
        entries = self._take_all()
        jobs = [entry for entry in entries if not isinstance(entry, _Note)]
        notes = [entry for entry in entries if isinstance(entry, _Note) and entry is not TICKET]
        for lane in self._lanes:
            with contextlib.suppress(IndexError):
                while True:
                    jobs.append(lane.popleft())
        for note in notes:
            self._queue.put(note)
        return jobs

    def peek(self) -> list[Job]:
        """Return all calls that wait. They are taken out and put back, in order."""
        jobs = self.waiting()
        for job in jobs:
            self.put(job)
        return jobs

    def running(self) -> list[Job]:
        """Return the calls that run now."""
        with self._lock:
            return [job for seat in self._seats if (job := seat.job) is not None]

    def stop(self) -> None:
        """Tell all threads to leave, after what waits."""
        with self._lock:
            self._closing = True
            leaving = len(self._seats)
        for _ in range(leaving):
            self._queue.put(_LEAVE)

    def join(self, until: float | None) -> bool:
        """Wait until all threads have left, or until that moment (time.monotonic); whether they have."""
        mine = threading.current_thread()
        while True:
            with self._lock:
                threads = [seat.thread for seat in self._seats if seat.thread is not mine]
            if not threads:
                return True
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return False
            assert threads[0] is not None
            threads[0].join(left)


def shut_down(job: Job, why: str) -> None:
    """End a call with FAILURE/SHUTDOWN; one that waited for a retry ends with its last failure."""
    last = job._detail.fault if job._detail is not None else None
    fault = last or Fault.saying(Code.SHUTDOWN, why)
    if job.finish(Status.FAILURE, fault):
        job._plan.bridge.shut_down_count += 1
        job.start()
        failed(job, fault)


_LEAVE: Any = _Note(lambda _note, _seat: True)
TICKET: Any = _Note(lambda _note, _seat: False)
_NOTHING: Any = _Note(lambda _note, _seat: False)
