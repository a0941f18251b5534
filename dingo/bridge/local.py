"""LocalBridge: calls go straight into the pools of this process, and Results are brought to their end there.

    plain call:  Plan.call -> pool.put                                  -> pool -> Result
    others:      Plan.call -> accept -> (unique? delayed? ...) -> route -> pool -> Attempt -> Result

It owns the pools, the timer and everything that is waiting, and is what closing an app closes.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from dingo.aside import Aside
from dingo.blocking import away
from dingo.caller.directory import DefaultIDMaker, Directory
from dingo.caller.result import IgnoredResult, Result
from dingo.errors import AppClosed, QueueFull
from dingo.events import PRODUCER, WORKER, Level, Origin
from dingo.inspection import info
from dingo.job import Fault, Job
from dingo.message.report import Code, Status
from dingo.timer import Timer
from dingo.worker.context import Context
from dingo.worker.limits import Gate, Limit
from dingo.worker.threads import ThreadPool, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dingo.config import Config
    from dingo.events import Hub
    from dingo.hooks import Hooks
    from dingo.inspection import CallInfo
    from dingo.message.signature import Signature
    from dingo.plan import Plan
    from dingo.worker.loops import LoopPool
    from dingo.worker.processes import ProcessPool

AnyPool: TypeAlias = "ThreadPool | LoopPool | ProcessPool"

# Callbacks that tell of what closing has ended have at least so long, also when its time is over (seconds).
_MOMENT = 0.5

_CLOSED = "the app was closed before this call had ended"


class LocalBridge:
    """The way of calls inside one process, from its opening to its close. An app that is reopened has a new one."""

    result_type: type[Result[Any]] = Result
    serves = False
    """Whether its calls come from a broker: what is asked of their sending was done by those who sent them."""

    def __init__(self, config: Config, hub: Hub, hooks: Hooks,
                 send: Callable[[Signature, Any], object], refresh: Callable[[str | None], None],
                 lifespan: Callable[[], Any] | None) -> None:  # fmt: skip
        self.config = config
        self.hub = hub
        self.hooks = hooks
        self.closed = False
        self.carries = config.marshal_locally
        """Whether values are taken through the marshaller before a call succeeds with them."""
        self.state: Any = None
        self.shut_down_count = 0
        """How many calls were ended by closing."""
        self.aside = Aside(hub)
        self.timer = Timer(self._timer_failed, hub)
        self.directory = Directory(config.local_results, config.local_results_bytes)
        self._ids = DefaultIDMaker()
        self._send = send
        self._refresh = refresh
        self._lock = threading.RLock()
        self._default: ThreadPool | None = None
        self._loop: LoopPool | None = None
        self._processes: AnyPool | None = None
        self._lifespan = lifespan
        self._home: LoopPool | None = None  # the loop that an async lifespan lives on
        self._named: dict[str, AnyPool] = {}
        self._leaving: list[AnyPool] = []  # taken away from their names; what they still run is awaited by close
        self._delayed: set[Job] = set()
        self._leading: set[Job] = set()  # calls that others are to follow on, until those are sent
        self._led = threading.Condition()
        self._unique: dict[tuple[str, str], Result[Any]] = {}
        self._limits: dict[tuple[str, int | None, float | None], Limit] = {}
        self._paused: set[str] = set()
        self._gates: dict[tuple[str, Limit | None], Gate] = {}
        self._room = threading.Semaphore(config.max_pending) if config.max_pending is not None else None
        self._exit = contextlib.ExitStack()
        self._enter_lifespan(lifespan)

    # -- pools -------------------------------------------------------------------------------------

    def pool_for(self, plan: Plan) -> AnyPool:
        """Return where the plan's calls run: the name's own workers, or the default ones."""
        with self._lock:
            pool = self._named.get(plan.lane)
            if pool is None or not _fits(pool, plan):
                pool = self._pool_by_option(plan)
            if pool.priority is None:
                pool.priority = plan.option.priority
            if plan.option.priority != pool.priority and not pool.ranked:
                pool.rank()
                self._refresh(None)
            return pool

    def _pool_by_option(self, plan: Plan) -> AnyPool:
        option = plan.registration.option
        kind = "async" if plan.binding.is_async else option.pool or self.config.pool
        if option.workers is not None:
            self._named[plan.lane] = self._make_pool(kind, plan.lane, option.workers)
            return self._named[plan.lane]
        if kind == "async":
            return self._shared_loop()
        return self._shared_processes() if kind == "process" else self._shared_threads()

    def _make_pool(self, kind: str | None, name: str, count: int) -> AnyPool:
        if kind == "process":
            from dingo.worker.processes import ProcessPool  # noqa: PLC0415 - pickle and sockets, for who uses it

            return ProcessPool(name, count, self.hub, lifespan=self._lifespan)
        return self._make_loops(name, count) if kind == "async" else self._make_threads(name, count)

    def _make_loops(self, name: str, count: int) -> LoopPool:
        from dingo.worker.loops import LoopPool  # noqa: PLC0415 - asyncio, only for those who have async tasks

        return LoopPool(name, count, self.hub)

    def _make_threads(self, name: str, count: int) -> ThreadPool:
        return ThreadPool(name, count, self.hub)

    def _shared_threads(self) -> ThreadPool:
        if self._default is None:
            self._default = self._make_threads("default", self.config.workers)
        return self._default

    def _shared_loop(self) -> LoopPool:
        if self._loop is None:
            self._loop = self._make_loops("loop", 1)
        return self._loop

    def _shared_processes(self) -> AnyPool:
        if self._processes is None:
            from dingo.worker.processes import usable_cores  # noqa: PLC0415 - as above

            count = self.config.workers if self.config.pool == "process" else usable_cores()
            self._processes = self._make_pool("process", "processes", count)
        return self._processes

    def allocate(self, name: str, count: int, kind: str) -> None:
        """Add workers for one name. Raises AppClosed; ValueError where it has some of another kind."""
        with self._lock:
            if self.closed:
                raise AppClosed
            pool = self._named.get(name)
            if pool is None:
                self._named[name] = self._make_pool(kind, name, count)
            elif pool.kind != kind:
                raise ValueError(f"task {name!r} has workers of kind {pool.kind!r}: stop those before it gets others")
            else:
                pool.resize(pool.count + count)
        self._refresh(name)

    def deallocate(self, name: str, count: int) -> None:
        """Take workers of one name away; after the last, the default pool serves it again."""
        with self._lock:
            pool = self._named.get(name)
            if pool is None or self.closed:
                return
            if pool.count > count:
                pool.resize(pool.count - count)
                return
            self._leaving.append(self._named.pop(name))
        self._refresh(name)
        pool.closed = True  # only now: whoever sees it sends the call another way, which the plans must know
        if self.closed:
            return  # closing runs what waits there
        for job in pool.waiting():
            with contextlib.suppress(AppClosed):  # late() has ended it: that is its report
                self.route(job)
        pool.stop()

    def _pools(self) -> list[AnyPool]:
        with self._lock:
            self._leaving = [pool for pool in self._leaving if pool.threads]
            several = (self._default, self._loop, self._processes, *self._named.values(), *self._leaving)
            return [pool for pool in several if pool is not None]

    def limit_for(self, plan: Plan) -> Limit | None:
        """Return the places of a task that has limits, the same for all calls with the same ones; or a gate."""
        limits = (plan.option.max_concurrency, plan.option.rate_limit)
        limit = None
        with self._lock:
            if limits != (None, None):
                limit = self._limits.setdefault((plan.name, *limits), Limit(self.timer, *limits))
            queue = plan.option.queue or self.config.queue
            if queue in self._paused and plan.is_called:
                return self._gates.setdefault((queue, limit), Gate(self.timer, limit))
        return limit

    def pause(self, queue: str) -> None:
        """Start nothing more of a queue; what runs goes on."""
        with self._lock:
            self._paused.add(queue)
        self._refresh(None)

    def resume(self, queue: str) -> None:
        """Go on with a queue."""
        with self._lock:
            self._paused.discard(queue)
            keys = [key for key in self._gates if key[0] == queue]
            gates = [self._gates.pop(key) for key in keys]
        self._refresh(None)
        for gate in gates:
            gate.open()

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        with self._lock:
            return set(self._paused)

    def _enter_lifespan(self, lifespan: Callable[[], Any] | None) -> None:
        if lifespan is None:
            return
        manager = lifespan()
        if hasattr(manager, "__aenter__"):
            self._home = self._shared_loop()
            try:
                self.state, leave = self._home.hold(manager)
            except BaseException:
                self._home.stop()
                raise
            self._exit.callback(leave)
        else:
            self.state = self._exit.enter_context(manager)

    # -- the full way in ---------------------------------------------------------------------------

    def accept(self, job: Result[Any]) -> Result[Any]:
        """Take a call: check it on, keep it or put it into its pool.

        Returns another call where a unique one is on its way already. Raises AppClosed, QueueFull, BadOption,
        BadArguments.
        """
        option = job._plan.option
        follows = job._detail is not None and job._detail.follows
        if self.closed and not (follows and self._leading):
            raise AppClosed
        if option.on_success or option.on_error:
            with self._led:
                self._leading.add(job)
        if option.unique is not None:
            other = self._claim_unique(job)
            if other is not None:
                return other
        try:
            due = self._take_in(job)
        except BaseException:
            self._withdraw(job)
            raise
        if option.monitor_progress:
            job.mark_sent()
        if self.hooks.on_publish:
            self.hooks.run("on_publish", Context(job))
        if self.hub.floor <= Level.DEBUG:
            self.hub.tell(PRODUCER, "call.sent", job)
        if due is None:
            (self.put_back if follows else self.route)(job)
        else:
            self.wait_for(job, due)
        return IgnoredResult(job) if option.ignore_report else job

    def _take_in(self, job: Result[Any]) -> float | None:
        """Give a call its room, its id and all else it asks for. Returns when it is due, None for now."""
        plan, option = job._plan, job._plan.option
        self._take_room(job)
        if option.id is not None:
            self.directory.enter_as(job, option.id)
        elif (id_maker := plan.id_maker) is not None:
            self.directory.enter(job, id_maker.new_id)
        if self.config.marshal_locally:
            from dingo.bridge.carrying import carry_arguments  # noqa: PLC0415 - only where that was asked for

            carry_arguments(job)
        if option.keep_result is not None:
            job.watch(callback=partial(self._keep, option.keep_result))
        if plan.limit is not None:
            plan.limit.expect(job)
        return self._read_clock(job)

    def _withdraw(self, job: Job) -> None:
        """Undo what was done for a call that is refused: its room, its key and its id are free again."""
        self._leads_on_no_more(job)
        job.finish(Status.CANCELLED, Fault.saying(Code.CANCELLED, "the call was refused"))
        if job._id is not None:
            self.directory.forget(job)

    def route(self, job: Job) -> None:
        """Put a call into the pool that serves it now. Raises AppClosed."""
        pool = job._plan.pool
        pool.put(job)
        if pool.closed:
            self.late(job)

    def put_back(self, job: Job) -> None:
        """Put a call into its pool that was taken from there before: also while what was accepted is finished."""
        pool = job._plan.pool
        pool.put(job)
        if pool.closed and not self.closed:  # this name's workers were taken away meanwhile
            with contextlib.suppress(AppClosed):  # then late() has ended it: that is its report
                self.route(job)

    def late(self, job: Job) -> None:
        """Decide about a call that was put into a pool while it closed. Raises AppClosed."""
        if not self.closed:  # only this name's workers were taken away
            self.route(job)
        elif job.start() is not None and job.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED)):
            raise AppClosed  # else it runs already, or is reported by closing

    def _take_room(self, job: Job) -> None:
        room = self._room
        if room is None:
            return
        if not room.acquire(blocking=False):
            if self.config.when_full == "raise":
                raise QueueFull(
                    f"{self.config.max_pending} calls (max_pending) wait already: wait for some, "
                    'or set when_full="wait"'
                )
            with away():
                room.acquire()
        job.watch(latch=room.release)

    def started(self, job: Job) -> None:
        """Give back the room of a call that waits no more; one that never starts gives it back at its end."""
        room = self._room
        if room is not None and job.unwatch(latch=room.release):
            room.release()

    def _read_clock(self, job: Job) -> float | None:
        """Work out when it is due and when it expires. Returns when it is due, if that is later than now."""
        option = job._plan.option
        if option.delay is None and option.eta is None and option.expires is None:
            return None
        now = self.timer.time()
        detail = job.detail()
        expires = option.expires
        if isinstance(expires, datetime.datetime):
            detail.expires = expires.timestamp()
        elif expires is not None:
            detail.expires = now + expires
        if option.eta is not None:
            detail.due = option.eta.timestamp()
        elif option.delay:
            detail.due = now + option.delay
        return detail.due if detail.due is not None and detail.due > now else None

    def _claim_unique(self, job: Result[Any]) -> Result[Any] | None:
        from dingo.bridge.unique import key_of_call  # noqa: PLC0415 - only for unique calls

        key = (job.name, key_of_call(job))
        with self._lock:
            other = self._unique.get(key)
            if other is not None and not other.ended:
                return other
            self._unique[key] = job
        job.watch(latch=partial(self._free_unique, key, job))
        return None

    def carried(self, job: Job, value: Any) -> Any:
        """Take a value through its marshaller and back, as `carries` says. Raises BadReturn."""
        from dingo.bridge.carrying import carried  # noqa: PLC0415 - as above

        return carried(job, value)

    def _free_unique(self, key: tuple[str, str], job: Job) -> None:
        with self._lock:
            if self._unique.get(key) is job:
                del self._unique[key]

    def _keep(self, seconds: float, job: Job) -> None:
        self.timer.after(seconds, lambda: job)  # the alarm holds it

    # -- waiting for a time ------------------------------------------------------------------------

    def wait_for(self, job: Job, due: float) -> None:
        """Hold a call until it is due."""
        detail = job.detail()
        detail.due, detail.asleep = due, True
        with self._lock:
            self._delayed.add(job)
            detail.alarm = self.timer.at(due, partial(self._release, job))
        if job.ended:
            self._drop(job)
        elif self.closed and self._drop(job):
            shut_down(job, _CLOSED)

    def _drop(self, job: Job) -> bool:
        """Stop holding a call. Whether it was held."""
        with self._lock:
            held = job in self._delayed
            self._delayed.discard(job)
            detail = job._detail
            if detail is not None and detail.alarm is not None:
                detail.alarm.cancel()
                detail.alarm, detail.asleep = None, False
        return held

    def _release(self, job: Job) -> None:
        if self._drop(job) and not job.ended:
            try:
                self.route(job)
            except AppClosed:
                return  # late() has ended it: that is its report

    # -- looking into it ---------------------------------------------------------------------------

    def pending(self, queue: str | None = None) -> list[CallInfo]:
        """List the calls that wait for a worker."""
        return [info(job) for job in self._waiting_jobs(queue)]

    def delayed(self, queue: str | None = None) -> list[CallInfo]:
        """List the calls that wait for their time, in the order they are due."""
        return [info(job) for job in self._delayed_jobs(queue)]

    def ended(self, status: Status, plan_of: Any) -> list[CallInfo]:
        """List the calls that ended so and are still known, oldest first."""
        del plan_of
        return [info(job) for job in self.directory.ended(status)]

    def _delayed_jobs(self, queue: str | None = None) -> list[Job]:
        with self._lock:
            jobs = sorted(self._delayed, key=lambda job: job.detail().due or 0.0)
        return [job for job in jobs if queue is None or job.queue == queue]

    def _waiting_jobs(self, queue: str | None = None) -> list[Job]:
        with self._lock:  # looking stirs the queues up, so not while closing empties them
            if self.closed:
                return []
            jobs = [job for pool in self._pools() for job in pool.peek()]
            jobs += [job for limit in (*self._limits.values(), *self._gates.values()) for job in limit.waiting()]
        return [job for job in jobs if not job.started and (queue is None or job.queue == queue)]

    def reconfigure(self, config: Config) -> None:
        """Go by a new configuration from now on; the default pool gets its new size."""
        self.config = config
        with self._lock:
            if self._default is not None and self._default.count != config.workers and not self.closed:
                self._default.resize(config.workers)

    def flush(self, timeout: float | None) -> bool:
        """Everything is where it is to be at once."""
        del timeout
        return True

    def busy(self) -> bool:
        """Whether anything runs here, or waits."""
        return any(pool.running() for pool in self._pools()) or bool(self._waiting_jobs() or self._delayed_jobs())

    def find(self, id: str, names: Iterable[str], plan_of: Callable[[str], Plan]) -> Result[Any]:
        """Attach to a call by its id. Raises ResultNotFound."""
        del plan_of  # what is known here has its plan
        return self.directory.find(id, names)  # type: ignore[return-value]

    def forget(self, id: str, names: Iterable[str]) -> None:
        """Let go of a call's result. Raises ResultNotFound."""
        self.directory.forget(self.directory.find(id, names))

    def purge(self, queue: str) -> int:
        """Withdraw all calls that wait in a queue; return how many."""
        return sum(self.cancel(job) for job in (*self._waiting_jobs(queue), *self._delayed_jobs(queue)))

    def _timer_failed(self, error: BaseException) -> None:
        self.hub.emit(Origin.SCHEDULER, Level.ERROR, "timer.failed", "an alarm raised", {"error": error}, error=error)

    # -- what a call asks for ----------------------------------------------------------------------

    def identify(self, job: Job) -> str:
        """Give a call its id, at the first look."""
        return self.directory.enter(job, self._ids.new_id)

    def cancel(self, job: Job) -> bool:
        """Withdraw a call that waits; end one that runs and, but in a thread, stop its function."""
        running = job.ended or job.start() is None  # the start first: then no worker can begin with it any more
        if not job.finish(Status.CANCELLED, Fault.saying(Code.CANCELLED, "the call was cancelled")):
            return False
        self._drop(job)
        self._leads_on_no_more(job)
        pool = job._plan.pool
        if running and not isinstance(pool, ThreadPool):
            pool.interrupt(job)
        if self.hub.floor <= Level.DEBUG:
            self.hub.tell(WORKER, "call.finished", job)
        return True

    def follow(self, job: Job, signatures: tuple[Signature, ...], given: tuple[Any, ...], value: Any) -> None:
        """Make the calls that were to follow this one. What goes wrong is told; it does not touch the call."""
        for signature in signatures:
            self.hub.guarded("callback", self._send, signature.prepended(*given), value)
        self._leads_on_no_more(job)

    def _leads_on_no_more(self, job: Job) -> None:
        if job in self._leading:
            with self._led:
                self._leading.discard(job)
                self._led.notify_all()

    # -- the end -----------------------------------------------------------------------------------

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """End everything: run what waits (`drain`) or not, wait up to `timeout` seconds, report all."""
        until = None if timeout is None else monotonic() + timeout
        with self._lock:
            self.closed = True
            pools = self._pools()
            for pool in pools:
                pool.closed = True
        for job in self._delayed_jobs():
            self._drop(job)
            shut_down(job, _CLOSED)
        for gate in list(self._gates.values()):  # what is paused does not run any more
            gate.close(lambda job: shut_down(job, _CLOSED))
        if drain:
            for limit in self._limits.values():  # what waits for a place has it before the workers leave
                limit.wait_empty(until)
            with self._led:  # and so has what follows on calls that were accepted
                self._led.wait_for(lambda: not self._leading, None if until is None else max(0.0, until - monotonic()))
        else:
            self._end_waiting(pools)
        self._let_run_out(pools, until)
        self._end_waiting(pools)
        for pool in pools:
            for job in pool.running():
                shut_down(job, _CLOSED)
                if not isinstance(pool, ThreadPool):
                    pool.interrupt(job)
        for job in self._delayed_jobs():  # a retry that was asked for while it closed
            self._drop(job)
            shut_down(job, _CLOSED)
        self._close_the_rest(until)

    def _let_run_out(self, pools: list[AnyPool], until: float | None) -> None:
        """Tell all workers to leave after what waits for them, and wait for that."""
        leaving = [pool for pool in pools if pool is not self._home]
        for pool in leaving:
            pool.stop()
        for pool in leaving:
            pool.join(until)
        if self._home is not None:
            self._home.wait_idle(until)

    def _close_the_rest(self, until: float | None) -> None:
        self.timer.close()
        self.hub.guarded("lifespan", self._exit.close)
        if self._home is not None:
            self._home.stop()
            self._home.join(until)
        self.aside.close(None if until is None else max(_MOMENT, until - monotonic()))

    def _end_waiting(self, pools: list[AnyPool]) -> None:
        with self._lock:
            waiting = [job for pool in pools for job in pool.waiting()]
        waiting += [job for limit in self._limits.values() for job in limit.drain()]
        for job in waiting:
            shut_down(job, _CLOSED)

    def forget_all(self) -> None:
        """In the child of a fork: the calls are the parent's. Here they end; nothing is sent, run or called back.

        The locks are renewed first: other threads, which are not here, may have held them.
        """
        self.closed = True
        self._lock = threading.RLock()
        jobs = {*self._delayed, *self._unique.values(), *self.directory.renew()}
        for limit in (*self._limits.values(), *self._gates.values()):
            jobs.update(limit.renew())
        for pool in self._pools():
            pool.closed = True
            if isinstance(pool, ThreadPool):
                pool.renew()
            jobs.update(pool.waiting(), pool.running())
        fault = Fault.saying(Code.SHUTDOWN, "the call belongs to the parent of this process")
        for job in jobs:
            if job._watch is not None:
                job._watch.callbacks.clear()
            if self._room is not None:
                job.unwatch(latch=self._room.release)
            job.start()
            job.finish(Status.FAILURE, fault)


def _fits(pool: AnyPool, plan: Plan) -> bool:
    """Whether a name's workers can run a plan: an executor's functions run in threads, async ones on loops."""
    if plan.lane != plan.name:
        return isinstance(pool, ThreadPool)
    return (pool.kind == "async") is plan.binding.is_async
