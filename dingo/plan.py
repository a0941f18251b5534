"""Plan: everything about calling and running one task that can be known before a call.

A plan belongs to one task and one set of options. It is compiled at its first use, and compiled anew when
something it depends on changes (workers allocated, somebody listens, a hook, a marshaller), so that a call
itself looks nothing up. There are three ways through a pool of threads:

    plain   nothing but running the function and storing its value was asked for
    short   also another attempt should it fail, a time limit or an expiry: what rarely comes to pass costs
            little until it does. Who is to be tried again goes on by the full way
    full    everything else, by `dingo.worker.attempt`
"""

from __future__ import annotations

import datetime
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from dingo.blocking import HAS_GIL, here
from dingo.caller.result import Result
from dingo.errors import BadArguments, BadReturn
from dingo.events import PRODUCER, Level
from dingo.marshaller.correction import Mismatch
from dingo.message.option import Option
from dingo.worker import expiry
from dingo.worker.invoke import through, with_context
from dingo.worker.threads import TICKET, WATCHED_FROM, ThreadPool, perform, perform_told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dingo.bridge.local import AnyPool, LocalBridge
    from dingo.bridge.remote import RemoteCaller
    from dingo.components import Components
    from dingo.contracts import IDMaker, Invoker, Marshaller
    from dingo.job import Job
    from dingo.marshaller.binding import Binding
    from dingo.registry import Registration
    from dingo.worker.limits import Limit

# What stands for the name of a task where there is none: a function was given to `as_executor`.
EXECUTOR = "dingo.executor"


class Plan:
    """How one task is called and run with one set of options."""

    __slots__ = (
        "__weakref__", "_always_full", "_components", "_twin", "binding", "bridge", "call", "check", "clocked", "exact",
        "expires", "given", "hub", "lane", "limit", "name", "option", "perform", "plain", "pool", "registration",
        "returned", "run", "short", "timeout", "timer",
    )  # fmt: skip

    call: Callable[..., Result[Any]]
    """Check the arguments, make the Result, send it: what `Task.call` is."""
    run: Callable[..., Any]
    """The function as a worker calls it: with its context, through its invoker."""
    perform: Callable[[Job, Any], bool]
    """How a worker thread runs it where the way is not plain; True where the thread has to leave after it."""
    short: bool
    """Whether its calls go the short way (see above)."""
    timeout: float | None
    expires: bool
    clocked: bool
    """Whether they have a time limit or expire."""
    exact: type | None
    """A value of exactly this type needs no correction."""

    def __init__(self, registration: Registration, given: Mapping[str, Any], *, lane: str | None = None) -> None:
        self.registration = registration
        self.name = registration.name
        self.lane = lane or registration.name  # whose workers run it
        self.given = given  # the options on top of the task's
        self.option = registration.option
        self._always_full = False
        self._twin: Plan | None = None

    def compile(self, bridge: LocalBridge | RemoteCaller, components: Components) -> None:
        """Work out everything anew, for this bridge."""
        self.option = Option.of(self.given, self.registration.option)
        self.bridge = cast("LocalBridge", bridge)  # a plan asks of either only what both have
        self._components = components
        self.hub = bridge.hub
        self.binding: Binding = self.registration.binding
        self.check = self.binding.check
        self.pool: AnyPool = bridge.pool_for(self)
        self.limit: Limit | None = bridge.limit_for(self)
        if bridge.config.marshal_locally:
            components.prepare(self)
        self._compile_function()
        self._choose_way()
        if self._twin is not None:
            self._twin.compile(bridge, components)

    def _compile_function(self) -> None:
        fn, invoker = self.registration.fn, self.option.invoker
        self.run = fn if invoker is None else partial(through, invoker, fn)
        if self.binding.takes_context:
            self.run = partial(with_context, self.run)
        returns = self.binding.returns
        self.exact = returns.exact if invoker is None else None
        self.returned: Callable[[Any], Any] = _same if returns.fix is None else partial(_corrected, self, returns.fix)
        if invoker is not None:
            self.returned = partial(_returned, invoker, fn, self.returned)

    @property
    def marshaller(self) -> Marshaller:
        """What carries its arguments."""
        return self._components.marshaller(self.option.marshaller or self.registration.marshaller)

    @property
    def report_marshaller(self) -> Marshaller:
        """What carries its reports."""
        return self._components.marshaller(self.option.report_marshaller or self.registration.report_marshaller)

    @property
    def id_maker(self) -> IDMaker | None:
        """What makes its ids, if that is not the default."""
        chosen = self.option.id_maker or self.registration.id_maker
        return None if chosen is None else self._components.id_maker(chosen)

    def _choose_way(self) -> None:
        bridge, option = self.bridge, self.option
        self.timer, self.timeout, self.expires = bridge.timer, option.timeout, option.expires is not None
        self.clocked = self.expires or option.timeout is not None
        asks = self.clocked or option.retry is not None
        full = (
            self._always_full or self.asks_for_more or self.binding.is_async or bridge.hooks.any
            or self.limit is not None or self.pool.remote or bridge.config.marshal_locally
            or bridge.config.max_pending is not None or (self.pool.ranked and not isinstance(self.pool, ThreadPool))
            or (asks and not self._goes_short)
        )  # fmt: skip
        told = self.hub.floor <= Level.DEBUG
        if asks and (told or option.monitor_progress):
            full = True
        self.short = asks and not full
        self.plain = not (full or told or asks or option.monitor_progress)
        if full:
            self.perform, self.call = perform, full_call(self)
        elif told or option.monitor_progress:
            self.perform, self.call = perform_told, told_call(self, told)
        else:
            self.perform, self.call = perform_told, short_call(self)

    @property
    def _goes_short(self) -> bool:
        """Whether what its calls ask for can be had by the short way."""
        option = self.option
        in_time = option.timeout is None or (
            option.timeout >= WATCHED_FROM and not (option.retry is not None and option.retry.names_timeout)
        )
        # A worker's calls expire by their header, which the short way does not read.
        here = not (self.expires and self.bridge.carries)
        return HAS_GIL and isinstance(self.pool, ThreadPool) and in_time and here

    @property
    def is_called(self) -> bool:
        """Whether it is for calls, which wait in a queue; else for functions given to `as_executor`."""
        return self.name != EXECUTOR

    @property
    def asks_for_more(self) -> bool:
        """Whether its options ask for what only the full way knows."""
        option = self.option
        follows = bool(option.on_success or option.on_error)
        if follows or self.bridge.serves:
            return follows
        return bool(
            option.ignore_report or option.delay is not None or option.eta is not None
            or option.id is not None or option.id_maker
            or option.unique is not None or option.keep_result is not None or self.registration.id_maker
        )  # fmt: skip

    def full(self) -> Plan:
        """Return the plan that says the same and takes the full way: it counts attempts, and holds what waits."""
        if self.perform is perform:
            return self
        if self._twin is None:
            twin = Plan(self.registration, self.given, lane=self.lane)
            twin._always_full = True
            twin.compile(self.bridge, self._components)
            self._twin = twin
        return self._twin

    def send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Result[Any]:
        """Make a call. Raises BadArguments, AppClosed, QueueFull."""
        call = self.call
        try:
            return call(*args, **kwargs) if kwargs else call(*args)
        except TypeError as error:
            raise refusal(call, args, kwargs, error) from None

    def follow(self, args: tuple[Any, ...], kwargs: dict[str, Any], previous: Any) -> None:
        """Make a call that another one asked for, with what that returned. Raises as `send`."""
        job: Result[Any] = self.bridge.result_type(self.full(), *self.checked(args, kwargs))
        job.detail().previous, job.detail().follows = previous, True
        self.bridge.accept(job)

    # -- what a job asks of its plan ---------------------------------------------------------------

    def identify(self, job: Job) -> str:
        """Give a call its id."""
        return self.bridge.identify(job)

    def cancel(self, job: Job) -> bool:
        """Cancel a call; False where it has ended."""
        return self.bridge.cancel(job)

    def guarded(self, fn: Callable[..., object], *args: Any) -> None:
        """Call a user's callback, here and now; what it raises is told."""
        self.hub.guarded("callback", fn, *args)

    def tell(self, fn: Callable[..., object], *args: Any) -> None:
        """Call a user's callback: here if this is a worker thread, which has the time; else aside."""
        if here.seat is not None:
            self.guarded(fn, *args)
        else:
            self.bridge.aside.do(self.guarded, fn, *args)

    def checked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """Correct the arguments to the signature. Raises BadArguments."""
        try:
            return self.check(*args, **kwargs)
        except BadArguments:
            raise
        except TypeError as error:
            raise self.binding.refuse(args, kwargs, error) from None


def short_call(plan: Plan) -> Callable[..., Result[Any]]:
    """Compile the call of a plan that is plain or short: check, make the Result, put it. Nothing else per call.

    It is one generated function with the task's own parameters. Where the arguments do not even bind, Python
    raises TypeError in the frame of the caller, which raises what `refusal` makes of it.
    """
    pool, timer = plan.pool, plan.bridge.timer
    lines = ["{job} = {Result}({plan}, {args}, {kwargs})"]
    names = {"Result": Result, "plan": plan, "pool": pool, "late": plan.bridge.late, "put": pool.put}
    expires = plan.option.expires
    if isinstance(expires, datetime.datetime):
        lines.append("{job}._expiry = {expiry}()")
        names["expiry"] = partial(expiry.at, timer, expires.timestamp())
    elif expires is not None and expires >= expiry.SHARED_FROM:
        lines += ["{job}._expiry = {expiries}.now", "if not {expiries}.going: {expiries}.begin()"]
        names["expiries"] = expiry.Expiries(timer, expires)
    elif expires is not None:
        lines.append("{job}._expiry = {expiry}()")
        names["expiry"] = partial(expiry.after, timer, expires)
    if pool.ranked and isinstance(pool, ThreadPool):
        lines += ["{append}({job})", "{put}({ticket})"]
        names |= {"append": pool.lane(plan.option.priority).append, "put": pool.put_ticket, "ticket": TICKET}
    else:
        lines.append("{put}({job})")
    # Closing looks through the queue after it has set `closed`, and here it is the other way about: so one of
    # the two sees the other.
    lines += ["if {pool}.closed: {late}({job})", "return {job}"]
    call = plan.binding.compile(*lines, **names)
    call.refuse = plan.binding.refuse  # type: ignore[attr-defined]
    return call


def refusal(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: TypeError) -> TypeError:
    """Make the error to raise where calling `call` raised a TypeError: a clear one, if the arguments did not bind."""
    traceback = error.__traceback__
    if isinstance(error, BadArguments) or traceback is None or traceback.tb_next is not None:
        return error
    refuse: Callable[..., BadArguments] = call.refuse
    return refuse(args, kwargs, error)


def told_call(plan: Plan, to_listeners: bool) -> Callable[..., Result[Any]]:
    """Compile the call of a plan that asks for nothing more than to be told about."""
    check, refuse, pool, hub = plan.check, plan.binding.refuse, plan.pool, plan.hub
    monitored = plan.option.monitor_progress

    def call(*args: Any, **kwargs: Any) -> Result[Any]:
        try:
            values, keywords = check(*args, **kwargs) if kwargs else check(*args)
        except BadArguments:
            raise
        except TypeError as error:
            raise refuse(args, kwargs, error) from None
        job: Result[Any] = Result(plan, values, keywords)
        if monitored:
            job.mark_sent()
        if to_listeners:
            hub.tell(PRODUCER, "call.sent", job)
        pool.put(job)
        if pool.closed:
            plan.bridge.late(job)
        return job

    return call


def full_call(plan: Plan) -> Callable[..., Result[Any]]:
    """Compile the call of a plan that asks for more: check, make the Result, and have the bridge accept it."""
    bridge = plan.bridge
    call = plan.binding.compile(
        "return {accept}({make}({plan}, {args}, {kwargs}))", accept=bridge.accept, make=bridge.result_type, plan=plan
    )
    call.refuse = plan.binding.refuse  # type: ignore[attr-defined]
    return call


def _same(value: Any) -> Any:
    if type(value) is CoroutineType:
        value.close()
        raise BadReturn("a plain function returned a coroutine, which nobody awaits: register an async def function")
    return value


def _corrected(plan: Plan, fix: Callable[[Any], Any], value: Any) -> Any:
    try:
        return fix(value)
    except Mismatch as mismatch:
        raise BadReturn(f"{plan.name}() returned what its annotation forbids: {mismatch}") from None


def _returned(invoker: Invoker, fn: Callable[..., Any], correct: Callable[[Any], Any], value: Any) -> Any:
    return correct(invoker.returned(fn, value))
