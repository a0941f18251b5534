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
from typing import TYPE_CHECKING, Any

from dingo.aside import Aside
from dingo.blocking import away
from dingo.caller.directory import DefaultIDMaker, Directory
from dingo.caller.result import IgnoredResult, Result
from dingo.components import key_of
from dingo.errors import AppClosed, BadArguments, BadOption, BadReturn, QueueFull
from dingo.events import PRODUCER, WORKER, Level, Origin
from dingo.job import Fault, Job
from dingo.message.option import DEFAULT_PRIORITY
from dingo.message.report import Code, Failure, Report, Status
from dingo.message.task import Header, TaskMessage
from dingo.timer import Timer
from dingo.worker.context import Context
from dingo.worker.limits import Limit
from dingo.worker.loops import LoopPool
from dingo.worker.threads import ThreadPool, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.config import Config
    from dingo.events import Hub
    from dingo.hooks import Hooks
    from dingo.message.signature import Signature
    from dingo.plan import Plan

AnyPool = ThreadPool | LoopPool

_CLOSED = "the app was closed before this call had ended"


class LocalBridge:
    """The way of calls inside one process, from its opening to its close. An app that is reopened has a new one."""

    def __init__(self, config: Config, hub: Hub, hooks: Hooks,
                 send: Callable[[Signature, Any], object], refresh: Callable[[str | None], None],
                 lifespan: Callable[[], Any] | None) -> None:  # fmt: skip
        self.config = config
        self.hub = hub
        self.hooks = hooks
        self.closed = False
        self.state: Any = None
        self.shut_down_count = 0
        """How many calls were ended by closing."""
        self.aside = Aside()
        self.timer = Timer(self._timer_failed)
        self.directory = Directory(config.local_results, config.local_results_bytes)
        self._ids = DefaultIDMaker()
        self._send = send
        self._refresh = refresh
        self._lock = threading.RLock()
        self._default: ThreadPool | None = None
        self._loop: LoopPool | None = None
        self._named: dict[str, AnyPool] = {}
        self._delayed: set[Job] = set()
        self._unique: dict[tuple[str, str], Result[Any]] = {}
        self._limits: dict[tuple[str, int | None, float | None], Limit] = {}
        self._room = threading.Semaphore(config.max_pending) if config.max_pending is not None else None
        self._exit = contextlib.ExitStack()
        self._enter_lifespan(lifespan)

    # -- pools ------------------------------------------------------------------------------------------

    def pool_for(self, plan: Plan) -> AnyPool:
        """Return where the plan's calls run: the name's own workers, or the default ones."""
        with self._lock:
            pool = self._named.get(plan.lane) or self._pool_by_option(plan)
            if plan.option.priority != DEFAULT_PRIORITY and not pool.ranked:
                pool.rank()
                self._refresh(None)
            return pool

    def _pool_by_option(self, plan: Plan) -> AnyPool:
        if plan.registration.option.workers is not None:
            kind = LoopPool if plan.binding.is_async else ThreadPool
            self._named[plan.lane] = kind(plan.lane, plan.registration.option.workers, self.hub)
            return self._named[plan.lane]
        return self._shared_loop() if plan.binding.is_async else self._shared_threads()

    def _shared_threads(self) -> ThreadPool:
        if self._default is None:
            self._default = ThreadPool("default", self.config.workers, self.hub)
        return self._default

    def _shared_loop(self) -> LoopPool:
        if self._loop is None:
            self._loop = LoopPool("loop", 1, self.hub)
        return self._loop

    def allocate(self, name: str, count: int, kind: str) -> None:
        """Add workers for one name."""
        with self._lock:
            pool = self._named.get(name)
            if pool is None:
                made = LoopPool if kind == "async" else ThreadPool
                self._named[name] = made(name, count, self.hub)
            else:
                pool.resize(pool.count + count)
        self._refresh(name)

    def deallocate(self, name: str, count: int) -> None:
        """Take workers of one name away; after the last, the default pool serves it again."""
        with self._lock:
            pool = self._named.get(name)
            if pool is None or self.closed:
                return
            if isinstance(pool, ThreadPool) and pool.count > count:
                pool.resize(pool.count - count)
                return
            del self._named[name]
            pool.closed = True
        self._refresh(name)
        for job in pool.waiting():
            self.route(job)
        pool.stop()

    def _pools(self) -> list[AnyPool]:
        with self._lock:
            several: list[AnyPool | None] = [self._default, self._loop, *self._named.values()]
            return [pool for pool in several if pool is not None]

    def limit_for(self, plan: Plan) -> Limit | None:
        """Return the places of a task that has limits: the same for all calls with the same limits."""
        limits = (plan.option.max_concurrency, plan.option.rate_limit)
        if limits == (None, None):
            return None
        with self._lock:
            return self._limits.setdefault((plan.name, *limits), Limit(self.timer, *limits))

    def _enter_lifespan(self, lifespan: Callable[[], Any] | None) -> None:
        if lifespan is None:
            return
        manager = lifespan()
        if hasattr(manager, "__aenter__"):
            loop = self._shared_loop()
            self.state = loop.enter(manager.__aenter__())
            self._exit.callback(lambda: loop.enter(manager.__aexit__(None, None, None)))
        else:
            self.state = self._exit.enter_context(manager)

    # -- the full way in ----------------------------------------------------------------------------------

    def accept(self, job: Result[Any]) -> Result[Any]:
        """Take a call: check it on, keep it or put it into its pool.

        Returns another call where a unique one is on its way already. Raises AppClosed, QueueFull, BadOption,
        BadArguments.
        """
        if self.closed:
            raise AppClosed(_REFUSED)
        plan, option = job._plan, job._plan.option
        if self.config.marshal_locally:
            self._carry_task(job)
        if option.unique is not None:
            other = self._claim_unique(job)
            if other is not None:
                return other
        self._take_room(job)
        if option.id is not None:
            self.directory.enter_as(job, option.id)
        elif (id_maker := plan.id_maker) is not None:
            self.directory.enter(job, id_maker.new_id)
        if option.keep_result is not None:
            job.watch(callback=partial(self._keep, option.keep_result))
        due = self._read_clock(job)
        if option.monitor_progress:
            job.mark_sent()
        if self.hooks.on_publish:
            self.hooks.run("on_publish", Context(job))
        if self.hub.floor <= Level.DEBUG:
            self.hub.tell(PRODUCER, "call.sent", job)
        if due is None:
            self.route(job)
        else:
            self.wait_for(job, due)
            if self.closed:
                self.late(job)
        return IgnoredResult(job) if option.ignore_report else job

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
            self.route(job)

    def late(self, job: Job) -> None:
        """Decide about a call that was put into a pool while it closed. Raises AppClosed."""
        if not self.closed:  # only this name's workers were taken away
            self.route(job)
        elif job.finish(Status.FAILURE, Fault(Code.SHUTDOWN, failure=Failure(Code.SHUTDOWN, message=_CLOSED))):
            raise AppClosed(_REFUSED)

    def _take_room(self, job: Job) -> None:
        room = self._room
        if room is None:
            return
        if not room.acquire(blocking=False):
            if self.config.when_full == "raise":
                raise QueueFull(
                    f"{self.config.max_pending} calls (max_pending) have not ended: wait for some, "
                    'or set when_full="wait"'
                )
            with away():
                room.acquire()
        job.watch(latch=room.release)

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
        key = (job.name, self._unique_key(job))
        with self._lock:
            other = self._unique.get(key)
            if other is not None and not other.ended:
                return other
            self._unique[key] = job
        job.watch(latch=partial(self._free_unique, key, job))
        return None

    def _free_unique(self, key: tuple[str, str], job: Job) -> None:
        with self._lock:
            if self._unique.get(key) is job:
                del self._unique[key]

    def _unique_key(self, job: Job) -> str:
        unique = job._plan.option.unique
        if isinstance(unique, str):
            return unique
        from dingo.marshaller.json import JsonMarshaller  # noqa: PLC0415 - only for those who use it

        kwargs = job._kwargs or {}
        if callable(unique):
            key = unique(*job._args, **kwargs)
            if not isinstance(key, str):
                raise BadOption(f"the 'unique' function of task {job.name!r} returns a text, not {key!r}")
            return key
        message = TaskMessage(Header("", job.name), job._args, kwargs)
        return JsonMarshaller().encode_task(None, message).decode()

    def _keep(self, seconds: float, job: Job) -> None:
        self.timer.after(seconds, lambda: job)  # the alarm holds it

    # -- marshalling, where that was asked for --------------------------------------------------------------

    def _carry_task(self, job: Job) -> None:
        """Take a call's arguments through its marshaller and back. Raises BadArguments."""
        plan = job._plan
        header = self._header(job)
        marshaller, fn = plan.marshaller, plan.registration.fn
        message = TaskMessage(header, job._args, job._kwargs or {})
        decoded = marshaller.decode_task(fn, header, marshaller.encode_task(fn, message))
        job._args, job._kwargs = tuple(decoded.args), dict(decoded.kwargs) or None

    def carried(self, job: Job, value: Any) -> Any:
        """Take a value through its marshaller and back. Raises BadReturn."""
        plan = job._plan
        report = Report(job.id, job.name, Status.SUCCESS, value, attempt=job.attempt)
        marshaller, fn = plan.report_marshaller, plan.registration.fn
        try:
            decoded = marshaller.decode_report(fn, self._header(job), marshaller.encode_report(fn, report))
        except BadArguments as error:
            raise BadReturn(str(error)) from error
        return decoded.value

    def _header(self, job: Job) -> Header:
        plan = job._plan
        keys = (key_of(plan.marshaller), key_of(plan.report_marshaller))
        return Header(job.id, job.name, *keys, dict(plan.option.headers))

    # -- waiting for a time ---------------------------------------------------------------------------------

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

    def delayed(self, queue: str | None = None) -> list[Job]:
        """Return the calls that wait for their time, in the order they are due."""
        with self._lock:
            jobs = sorted(self._delayed, key=lambda job: job.detail().due or 0.0)
        return [job for job in jobs if queue is None or self._queue_of(job) == queue]

    def pending(self, queue: str | None = None) -> list[Job]:
        """Return the calls that wait for a worker."""
        with self._lock:  # closing looks through the queues under the same lock
            jobs = [job for pool in self._pools() for job in pool.peek()]
            jobs += [job for limit in self._limits.values() for job in limit.waiting()]
        return [job for job in jobs if not job.started and (queue is None or self._queue_of(job) == queue)]

    def _queue_of(self, job: Job) -> str:
        return job._plan.option.queue or self.config.queue

    def _timer_failed(self, error: BaseException) -> None:
        self.hub.emit(Origin.SCHEDULER, Level.ERROR, "timer.failed", "an alarm raised", {"error": error}, error=error)

    # -- what a call asks for ---------------------------------------------------------------------------------

    def identify(self, job: Job) -> str:
        """Give a call its id, at the first look."""
        return self.directory.enter(job, self._ids.new_id)

    def cancel(self, job: Job) -> bool:
        """Withdraw a call that waits; end one that runs and, on an event loop, stop its function."""
        failure = Failure(Code.CANCELLED, message="the call was cancelled")
        if not job.finish(Status.CANCELLED, Fault(Code.CANCELLED, failure=failure)):
            return False
        running = job.started
        job.start()
        self._drop(job)
        pool = job._plan.pool
        if running and isinstance(pool, LoopPool):
            pool.interrupt(job)
        if self.hub.floor <= Level.DEBUG:
            self.hub.tell(WORKER, "call.finished", job)
        return True

    def follow(self, job: Job, signatures: tuple[Signature, ...], value: Any) -> None:
        """Make the calls that were to follow this one. What goes wrong is told; it does not touch the call."""
        for signature in signatures:
            following = signature.prepended(value) if job._plan.option.pass_result else signature
            self.hub.guarded("callback", self._send, following, value)

    # -- the end ----------------------------------------------------------------------------------------------

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """End everything: run what waits (`drain`) or not, wait up to `timeout` seconds, report all."""
        until = None if timeout is None else monotonic() + timeout
        self.closed = True
        pools = self._pools()
        for pool in pools:
            pool.closed = True
        for job in self.delayed():
            self._drop(job)
            shut_down(job, _CLOSED)
        if drain:
            for limit in self._limits.values():  # what waits for a place has it before the workers leave
                limit.wait_empty(until)
        else:
            self._end_waiting(pools)
        for pool in pools:
            pool.stop()
        for pool in pools:
            pool.join(until)
        self._end_waiting(pools)
        for pool in pools:
            for job in pool.running():
                shut_down(job, _CLOSED)
        for job in self.delayed():  # a retry that was asked for while it closed
            self._drop(job)
            shut_down(job, _CLOSED)
        self.timer.close()
        self.hub.guarded("lifespan", self._exit.close)
        self.aside.close(None if until is None else max(0.0, until - monotonic()))

    def _end_waiting(self, pools: list[AnyPool]) -> None:
        with self._lock:
            waiting = [job for pool in pools for job in pool.waiting()]
        waiting += [job for limit in self._limits.values() for job in limit.drain()]
        for job in waiting:
            shut_down(job, _CLOSED)

    def forget_all(self) -> None:
        """In the child of a fork: the calls are the parent's. Here they end, and nothing is sent or run."""
        self.closed = True
        for pool in self._pools():
            for job in (*pool.waiting(), *pool.running()):
                shut_down(job, "the call belongs to the parent of this process")


_REFUSED = "the app is closed: open it again (`with app:`) or make a new one"
