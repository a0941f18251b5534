"""App: registers tasks, calls them, and owns everything that makes that happen. It wires; it does no work itself."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, Unpack, cast, overload

from dingo.aio import Aio
from dingo.allocation import Allocation, check_count, check_pool, pool_kind
from dingo.blocking import away, here
from dingo.bridge.local import LocalBridge
from dingo.bridge.rewiring import Parts
from dingo.caller.bulk import send_many, stream
from dingo.components import Components
from dingo.config import Config
from dingo.contracts import Role
from dingo.errors import (
    AlreadyAttached,
    AppClosed,
    BadConfig,
    BadMessage,
    BadOption,
    BrokerUnavailable,
    NotAttached,
    NotRegistered,
)  # fmt: skip
from dingo.events import Hub, Level, Origin, Subscription
from dingo.hooks import Hooks
from dingo.inspection import CallInfo, WorkerInfo, info, worker_info
from dingo.message.option import Option, OptionFields, laid_over
from dingo.message.report import Status
from dingo.plan import EXECUTOR, Plan, refusal
from dingo.registry import AsyncTask, Registration, Registry, Task
from dingo.worker.context import Context, current, on_loop

if TYPE_CHECKING:
    from types import TracebackType

    from dingo.bridge.heralding import FleetNews
    from dingo.bridge.remote import RemoteCaller
    from dingo.caller.executor import Executor
    from dingo.caller.result import Result
    from dingo.contracts import Herald, IDMaker, Marshaller
    from dingo.message.signature import Signature

# Reporting what did not end in time takes a moment after the time is over (seconds).
_CLOSING_MARGIN = 1.0

AnyBridge: TypeAlias = "LocalBridge | RemoteCaller"

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])


class _Unrelated:
    """What only a parameter annotated `Any` or `object` takes: so they are told from one annotated Context."""


class App:
    """Tasks and everything that runs them.

    `App()` is local: thread-and-queue parts in this process, nothing to install or start. Constructing,
    registering and configuring start no thread; the first use does. `with app:` closes it at the end.
    """

    def __init__(self, broker: str | None = None, *, backend: str | None = None, name: str = "dingo",
                 config: Config | None = None, include: Iterable[str] = ()) -> None:  # fmt: skip
        self.name = name
        self.config = Config() if config is None else config
        self.broker: str | None = None
        """The URL it is connected to, if it was connected by one."""
        self.backend: str | None = None
        """The URL of its store of results: the broker's, unless there is another."""
        self.modules: tuple[str, ...] = tuple(include)
        """Modules of tasks, imported by `run()` and the `dingo` commands."""
        self._lock = threading.RLock()
        self._calls: dict[str, Callable[..., Result[Any]]] = {}  # what is ready to be called, by name
        self._registry = Registry()
        self._components = Components()
        self._hub = Hub(self._refresh)
        self._hooks = Hooks(self._hub)
        self._lifespan: Callable[[], Any] | None = None
        self._unwatch: list[Callable[[], None]] = []
        self._parts = Parts()
        self._connections: list[tuple[str, str, str]] = []
        self._made: list[Any] = []
        self._bridge: AnyBridge | None = None  # where calls go
        self._here: LocalBridge | None = None  # where functions run in this process: the same in local mode
        self._fleet: FleetNews | None = None  # what brings events of other processes
        self._retired: list[LocalBridge] = []  # what was accepted locally before a rewiring is finished there
        self._plans: weakref.WeakSet[Plan] = weakref.WeakSet()
        self._base: dict[str, Plan] = {}
        self._closed = False
        self._closing: threading.Thread | None = None
        _apps.add(self)
        self._connect_at_start(broker, backend)

    def __repr__(self) -> str:
        """Mode, state and how many tasks."""
        state = "closed" if self._closed else "open" if self._bridge is not None else "idle"
        tasks = f"{len(self._registry)} task{'' if len(self._registry) == 1 else 's'}"
        mode = f"remote | {self._parts}" if self._parts else "local"
        return f"<App {self.name!r} {mode} | {state} | {tasks}>"

    # -- registering -------------------------------------------------------------------------------

    @overload
    def register(self, name: str, fn: Callable[Concatenate[_Unrelated, P], Coroutine[Any, Any, R]], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> AsyncTask[Concatenate[Any, P], R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[Concatenate[_Unrelated, P], R], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> Task[Concatenate[Any, P], R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> AsyncTask[P, R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[Concatenate[Context, P], R], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> Task[P, R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> AsyncTask[P, R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[P, R], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> Task[P, R]: ...  # fmt: skip
    def register(self, name: str, fn: Callable[..., Any], *, replace: bool = False,
                 types: Mapping[str, Any] | None = None, **options: Unpack[OptionFields]) -> Any:  # fmt: skip
        """Make a callable known under a name. Its annotations are read here, once.

        `types` supplies names that only the type checker imports. Raises TypeError (not callable, a generator
        function, a name that is no text), ValueError (an impossible name), AlreadyRegistered, BadOption.
        """
        if isinstance(fn, Task):
            fn = fn.fn
        registration = Registration(name, fn, options, types)
        self._check_components(registration.option)
        check_pool(registration, registration.option)
        with self._lock:
            self._registry.add(registration, replace=replace)
            self._calls.pop(name, None)
            self._base.pop(name, None)
        return _task_of(self, registration)

    @overload
    def task(
        self, fn: Callable[Concatenate[_Unrelated, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[Concatenate[Any, P], R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[_Unrelated, P], R], /) -> Task[Concatenate[Any, P], R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, name: str | None = ..., replace: bool = ..., types: Mapping[str, Any] | None = ...,
             **options: Unpack[OptionFields]) -> _Decorator: ...  # fmt: skip
    def task(self, fn: Callable[..., Any] | None = None, /, *, name: str | None = None, replace: bool = False,  # type: ignore[misc]
             types: Mapping[str, Any] | None = None, **options: Unpack[OptionFields]) -> Any:  # fmt: skip
        """Register the decorated function: `@app.task` or `@app.task(name=..., **options)`. Raises as `register`."""

        def decorate(fn: Callable[..., Any]) -> Any:
            known_as = getattr(fn, "__name__", "") if name is None else name
            return self.register(known_as, fn, replace=replace, types=types, **options)

        return decorate if fn is None else decorate(fn)

    def set_option(self, name: str, **options: Unpack[OptionFields]) -> None:
        """Change the options of a registered task. Raises NotRegistered, BadOption."""
        registration = self._registry.get(name)
        changed = Option.of(options, registration.option, on_task=True)
        self._check_components(changed)
        check_pool(registration, changed)
        registration.option = changed
        self._refresh(name)

    def include(self, *modules: str) -> None:
        """Name modules of tasks that `run()` and the `dingo` commands import."""
        self.modules = (*self.modules, *modules)

    def add_marshaller(self, key: str, marshaller: Marshaller) -> None:
        """Make a marshaller known under a key, the same at callers and workers. Raises BadOption."""
        self._components.marshallers.add(key, marshaller)

    def set_marshaller(self, name: str, *, task: str | None = None, report: str | None = None) -> None:
        """Choose the marshallers for a task's arguments and for its reports. Raises NotRegistered, BadOption."""
        registration = self._registry.get(name)
        for key in (task, report):
            if key is not None:
                self._components.marshaller(key)
        registration.marshaller = task or registration.marshaller
        registration.report_marshaller = report or registration.report_marshaller
        self._refresh(name)

    def add_id_maker(self, key: str, maker: IDMaker) -> None:
        """Make an id maker known under a key. Raises BadOption."""
        self._components.id_makers.add(key, maker)

    def set_id_maker(self, name: str, key: str) -> None:
        """Choose who makes the ids of a task's calls. Raises NotRegistered, BadOption."""
        registration = self._registry.get(name)
        self._components.id_maker(key)
        registration.id_maker = key
        self._refresh(name)

    def _check_components(self, option: Option) -> None:
        for key in (option.marshaller, option.report_marshaller):
            if key is not None:
                self._components.marshaller(key)
        if option.id_maker is not None:
            self._components.id_maker(option.id_maker)

    # -- calling -----------------------------------------------------------------------------------

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """Call a task by name and return its Result at once.

        Raises NotRegistered, BadArguments (before anything is sent), AppClosed, QueueFull; at the first use of
        the app also BadConfig and TypeError (a forward reference that does not exist).
        """
        try:
            call = self._calls[name]
        except (KeyError, TypeError):
            call = self._ready(name)
        try:
            return call(*args, **kwargs) if kwargs else call(*args)  # an empty ** is merged into a new dict
        except TypeError as error:
            raise refusal(call, args, kwargs, error) from None

    def call_many(self, name: str, argument_tuples: Iterable[tuple[Any, ...]]) -> list[Result[Any]]:
        """Call a task once per tuple of arguments; all are checked before the first is sent. Raises as `call`."""
        return self.send_many(self._plan_of(name), argument_tuples)

    def map(self, name: str, *iterables: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
        """Call a task with the items of the iterables; yield the values in order, as `Executor.map` does.

        It streams: only a window of the input is ahead of what was yielded. Raises as `call`; the iterator
        raises what `Result.result` does, and ResultTimeout `timeout` seconds after the call of `map`.
        """
        plan = self._plan_of(name)
        return self.stream(lambda: plan, iterables, timeout)

    def options(self, **options: Unpack[OptionFields]) -> Caller:
        """Return a way to call with these options: `app.options(delay=5).call("add", 2, 3)`. Raises BadOption."""
        return Caller(self, options)

    def send(self, signature: Signature) -> Result[Any]:
        """Make the call of a signature. Raises as `call`."""
        plan = self.plan_for(self._registry.get(signature.name), signature.options)
        return plan.send(signature.args, signature.kwargs)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every call so far is SENT; whether that was so within `timeout` seconds. Locally at once."""
        return self._bridge is None or self._bridge.flush(timeout)

    def run_here(self, registration: Registration, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the plain function of a task in this thread, as `task(...)` does."""
        if registration.unresolved is None and registration.binding.takes_context:
            return registration.fn(current(), *args, **kwargs)
        return registration.fn(*args, **kwargs)

    def send_many(self, plan: Plan, argument_tuples: Iterable[tuple[Any, ...]]) -> list[Result[Any]]:
        """Send many calls of one plan."""
        return send_many(plan, argument_tuples)

    def stream(self, plan: Callable[[], Plan], iterables: tuple[Iterable[Any], ...],
               timeout: float | None) -> Iterator[Any]:  # fmt: skip
        """Send calls as their values are consumed."""
        return stream(plan(), iterables, timeout)

    # -- what stands behind a call: plans ----------------------------------------------------------

    def _ready(self, name: object) -> Callable[..., Result[Any]]:
        """Get a name ready to be called: the first call of a name comes by here."""
        with self._lock:  # in one step: a plan of before a close would refuse in the app that was opened again
            plan = self._plan_of(name)
            self._calls[plan.name] = plan.call
            return plan.call

    def _plan_of(self, name: object) -> Plan:
        return self.plan_for(self._registry.get(name), {})

    def plan_for(self, registration: Registration, given: Mapping[str, Any]) -> Plan:
        """Return the compiled plan of a task with options on top. Opens the app. Raises AppClosed, BadOption."""
        with self._lock:
            self._open()
            return self._plan_with(registration, given)

    def _plan_with(self, registration: Registration, given: Mapping[str, Any]) -> Plan:
        with self._lock:
            self._resolve(registration)
            base = self._base.get(registration.name)
            if not given and base is not None and base.registration is registration:
                return base
            self._check_components(Option.of(given, registration.option))
            plan = Plan(registration, given)
            self._compile(plan, self._bridge)
            if not given:
                self._base[registration.name] = plan
            return plan

    def _compile(self, plan: Plan, bridge: AnyBridge | None = None) -> None:
        plan.compile(plan.bridge if bridge is None else bridge, self._components)
        self._plans.add(plan)

    def _refresh(self, name: str | None = None) -> None:
        """Compile plans anew, because something they depend on has changed."""
        with self._lock:
            if self._bridge is None or self._closed:
                return
            for plan in tuple(self._plans):
                if name is None or name in (plan.name, plan.lane):
                    self._compile(plan)
                    if plan.name in self._calls and self._base.get(plan.name) is plan:
                        self._calls[plan.name] = plan.call

    # -- workers -----------------------------------------------------------------------------------

    def allocate(self, name: str, count: int = 1, share: int = 0, *, pool: str | None = None) -> Allocation:
        """Start `count` workers for one name now, in this process; more at each call.

        `share`: how many of them share one channel for reports, 0 for all. `pool`: "thread", "process" (for
        computing, and for time limits that stop the function), "async" (an event loop each; chosen by itself for
        `async def`). Raises ValueError for a wrong count, share or pool and changes nothing then; NotRegistered;
        AppClosed.
        """
        registration = self._registry.get(name)
        check_count("count", count, 1)
        check_count("share", share, 0)
        self._opened()
        self._resolve(registration)
        kind = pool_kind(registration, pool)
        bridge = self._worker()
        bridge.allocate(name, count, kind)
        return Allocation(bridge, name, count, share, kind)

    def lifespan(self, fn: F) -> F:
        """Have a context manager (sync or async) entered once in every worker process: `context.state`."""
        self._lifespan = fn
        return fn

    def as_executor(self, name: str | None = None) -> Executor:
        """Return a real `concurrent.futures.Executor` that runs functions in this process' pools.

        With a name they run on that name's workers. Raises NotRegistered.
        """
        from dingo.caller.executor import Executor  # noqa: PLC0415 - concurrent.futures, only for those who use it

        if name is not None:
            self._registry.get(name)
        return Executor(self._executor_plan, name)

    def _executor_plan(self, fn: Callable[..., Any], lane: str | None) -> Plan:
        with self._lock:
            home = self._home()
            if lane is not None and home is self._bridge:
                self._plan_of(lane)  # which starts the workers that its options ask for
            pool: OptionFields = {} if self.config.pool == "thread" else {"pool": "thread"}  # futures carry exceptions
            registration = Registration(EXECUTOR, fn, pool, None)
            plan = Plan(registration, {}, lane=lane)
            self._compile(plan, home)
            return plan

    # -- hooks and events --------------------------------------------------------------------------

    def listen(self, origin: Origin = Origin.ALL, level: Level = Level.INFO, maxsize: int = 1000, *,
               fleet: bool = False) -> Subscription:  # fmt: skip
        """Subscribe to events from these origins, from this level on; at most `maxsize` wait to be read.

        `fleet`: also to those of all workers on this app's broker, from about a second later on; their `worker` says
        whose they are, and their payload is what JSON can carry. Raises ValueError for a wrong argument, AppClosed,
        NotAttached (a broker that cannot carry events).
        """
        if self._closed:
            raise AppClosed("the app is closed: nothing more will happen in it")
        herald = self._herald("events of other processes") if fleet and self._parts else None
        subscription = self._hub.subscribe(origin, level, maxsize)
        if herald is not None:
            self._follow_fleet(herald, subscription)
        return subscription

    def _herald(self, what: str) -> Herald:
        herald: Herald | None = self._parts.get(Role.HERALD)
        if herald is None:
            raise NotAttached(
                f"this app has no Herald, which carries {what}: that needs redis, amqp, sqlite or memory as broker or "
                "as backend"
            )
        return herald

    def _follow_fleet(self, herald: Herald, subscription: Subscription) -> None:
        from dingo.bridge.heralding import FleetNews  # noqa: PLC0415 - only for those who listen to a fleet

        with self._lock:
            if self._fleet is None or not self._fleet.add(subscription):
                self._fleet = FleetNews(herald, self._hub, self.config, subscription)

    def workers(self) -> list[WorkerInfo]:
        """List the workers that live on this app's broker, by name. Those that died are seen for a lease more.

        Over RabbitMQ it asks them all, and waits 3 seconds for the answers. Raises NotAttached, BrokerUnavailable.
        """
        return sorted(self.find_workers(), key=lambda one: (one.name, one.pid))

    def find_workers(self) -> Iterator[WorkerInfo]:
        """Yield the workers that live as they are found. Raises as `workers`."""
        from dingo.bridge.news import CARD, Seals, read_card  # noqa: PLC0415 - only for those who look

        herald = self._herald("what workers say of themselves")
        herald.open(partial(self._hub.emit, Origin.BRIDGE))
        seals = Seals(self.config.signing_keys)
        for data in herald.cards():
            try:
                yield worker_info(read_card(seals.open(CARD, data)))
            except BadMessage as error:
                self._hub.emit(Origin.BRIDGE, Level.WARNING, "card.refused", f"a worker's card was refused: {error}")

    def on_error(self, handler: F) -> F:
        """Have `handler(context, exception)` called when a task's last attempt has raised."""
        return self._add_hook("on_error", handler)

    def on_publish(self, fn: F) -> F:
        """Have `fn(context)` called before a call is sent; it may change `context.headers`."""
        return self._add_hook("on_publish", fn)

    def before_task(self, fn: F) -> F:
        """Have `fn(context)` called before each attempt, where the task runs."""
        return self._add_hook("before_task", fn)

    def after_task(self, fn: F) -> F:
        """Have `fn(context, report)` called after each attempt, however it ended."""
        return self._add_hook("after_task", fn)

    def on_retry(self, fn: F) -> F:
        """Have `fn(context, exception)` called when an attempt failed and there will be another."""
        return self._add_hook("on_retry", fn)

    def on_success(self, fn: F) -> F:
        """Have `fn(context, value)` called after each SUCCESS."""
        return self._add_hook("on_success", fn)

    def on_failure(self, fn: F) -> F:
        """Have `fn(context, failure)` called after each final FAILURE."""
        return self._add_hook("on_failure", fn)

    def _add_hook(self, moment: str, fn: F) -> F:
        self._hooks.add(moment, fn)
        self._refresh()
        return fn

    # -- looking into it ---------------------------------------------------------------------------

    def result(self, id: str, name: str | None = None) -> Result[Any]:
        """Attach to a call by its id. Raises ResultNotFound (unknown, or several tasks share the id)."""
        names = [name] if name is not None else [one.name for one in self._registry]
        return self._opened().find(id, names, self._plan_of)

    def forget(self, id: str, name: str | None = None) -> None:
        """Let go of a call's result. Raises ResultNotFound."""
        names = [name] if name is not None else [one.name for one in self._registry]
        self._opened().forget(id, names)

    def pending(self, queue: str | None = None) -> list[CallInfo]:
        """List the calls that wait for a worker, in one queue or in all."""
        return [info(job) for job in self._opened().pending(queue)]

    def delayed(self) -> list[CallInfo]:
        """List the calls that wait for their time: delayed ones and those between two attempts."""
        return [info(job) for job in self._opened().delayed()]

    def failed(self) -> list[CallInfo]:
        """List the failed calls that are still known, oldest first."""
        return [info(job) for job in self._opened().ended(Status.FAILURE)]

    def succeeded(self) -> list[CallInfo]:
        """List the successful calls that are still known: locally those whose id was asked for."""
        return [info(job) for job in self._opened().ended(Status.SUCCESS)]

    def purge(self, queue: str) -> int:
        """Cancel all calls that wait in a queue, delayed ones included; return how many."""
        return self._opened().purge(queue)

    def pause(self, queue: str) -> None:
        """Have nothing more of a queue started until it is resumed; what runs goes on.

        Over a broker by no worker of the fleet, within about a second. Raises NotAttached (a backend that cannot
        tell the workers), BrokerUnavailable, BadOption (an impossible name).
        """
        Option.of({"queue": queue})
        self._opened().pause(queue)

    def resume(self, queue: str) -> None:
        """Have a paused queue go on. Raises as `pause`."""
        Option.of({"queue": queue})
        self._opened().resume(queue)

    def paused(self) -> list[str]:
        """List the queues that are paused. Raises NotAttached, BrokerUnavailable."""
        return sorted(self._opened().paused())

    @property
    def aio(self) -> Aio:
        """The same members, awaitable, for everything that may wait."""
        return Aio(self)

    # -- rewiring ----------------------------------------------------------------------------------

    def use(self, *components: Any, roles: Iterable[str] | None = None) -> None:
        """Replace local parts by the given components, each in every role it implements (or in `roles`).

        Raises BadOption for an object without a role.
        """
        with self._lock:
            if self._closed:
                raise AppClosed
            if self._bridge is not None and self._parts:
                raise AlreadyAttached("calls go through a broker already: rewire an app before its first use")
            self._parts.attach(components, roles)
            self._start_over()

    def connect(self, broker: str, backend: str | None = None, *, role: str = "both") -> None:
        """Build and use the components for a broker's URL, and for a backend's if that is another.

        `role`: "caller" (Producer and Store), "worker" (Consumer and Reporter) or "both". Opens no connection.
        Raises BadConfig for a URL that makes no sense, BadOption, AlreadyAttached.
        """
        from dingo import kombu  # noqa: PLC0415 - the only door to brokers, opened by those who connect

        if role not in ("caller", "worker", "both"):
            raise BadOption(f'role is "caller", "worker" or "both", not {role!r}')
        backend = backend or broker
        before = self._parts.all()
        if role != "worker":
            store = kombu.store(backend, self.config)
            store.apart = getattr(store, "apart", False) or backend != broker
            self.use(kombu.producer(broker, self.config), store)
        if role != "caller" and backend == broker and not kombu.keeps_apart(backend):
            self.use(kombu.worker(broker, self.config))
        elif role != "caller":
            self.use(kombu.worker(broker, self.config), roles=["consumer"])
            self.use(kombu.reporter(backend, self.config), roles=["reporter"])
        herald = kombu.herald(broker, self.config) or kombu.herald(backend, self.config)
        if herald is not None and self._parts.get(Role.HERALD) is None:
            self.use(herald)
        self.broker, self.backend = broker, backend
        self._connections.append((broker, backend, role))
        self._made += [one for one in self._parts.all() if one not in before]

    def _connect_at_start(self, broker: str | None, backend: str | None) -> None:
        broker = broker or self.config.broker or os.environ.get("DINGO_BROKER") or None
        if broker is not None and broker != "local":
            self.connect(broker, backend or self.config.backend or os.environ.get("DINGO_BACKEND"))

    def _start_over(self) -> None:
        """Have the next use build the bridges anew; what runs locally is finished by the one there is."""
        if self._here is not None:
            self._retired.append(self._here)
        self._bridge = self._here = None
        self._calls.clear()
        self._base.clear()
        self._plans.clear()

    # -- opening and closing -----------------------------------------------------------------------

    def _open(self) -> None:
        if self._bridge is not None and not self._closed:
            return
        with self._lock:
            if self._closed:
                raise AppClosed
            if self._bridge is None:
                self._resolve(*self._registry)
                self._bridge = self._make_caller()
                self._watch_config()

    def _watch_config(self) -> None:
        """Follow the configuration file, if it came from one that is watched."""
        source = self.config.source
        if source is not None:
            self._unwatch = [source.subscribe(self._reconfigure), source.on_error(self._bad_config)]
            source.start()

    def _reconfigure(self, config: Config) -> None:
        """Go by a new configuration: sizes and times hold from now on, what is built at the opening stays."""
        with self._lock:
            self.config = config
            for bridge in (self._here, self._bridge):
                if bridge is not None:
                    bridge.reconfigure(config)
        self._hub.emit(Origin.BRIDGE, Level.INFO, "config.changed", f"new configuration: {config!r}")

    def _bad_config(self, error: BadConfig) -> None:
        self._hub.emit(Origin.BRIDGE, Level.WARNING, "config.refused", f"the configuration stays as it was: {error}")

    def _make_caller(self) -> AnyBridge:
        if not self._parts:
            self._here = self._make_local()
            return self._here
        from dingo.bridge.remote import NoCaller, RemoteCaller  # noqa: PLC0415 - only for those who are connected

        producer = self._parts.get(Role.PRODUCER)
        if producer is None:
            return cast("RemoteCaller", NoCaller(self._hub))
        named = getattr(producer, "named", False) or self._parts.get(Role.NAMED_CONSUMER) is not None
        return RemoteCaller(
            self.config, self._hub, self._hooks, producer, self._parts.get(Role.STORE), named=bool(named)
        )

    def _make_local(self) -> LocalBridge:
        return LocalBridge(self.config, self._hub, self._hooks, self._send_following, self._refresh, self._lifespan)

    def _home(self) -> LocalBridge:
        """Return where functions run in this process."""
        with self._lock:
            self._open()
            if self._here is None:
                self._here = self._make_local()
            return self._here

    def _worker(self, queues: tuple[str, ...] = (), name: str = "") -> LocalBridge:
        """Return what runs this app's tasks in this process. Over a broker it consumes from now on."""
        with self._lock:
            self._open()
            if not self._parts:
                return self._home()
            if self._here is None:
                self._here = self._make_worker(queues, name)
            return self._here

    def _make_worker(self, queues: tuple[str, ...], name: str) -> LocalBridge:
        from dingo.bridge.places import check_counted, is_limited  # noqa: PLC0415 - only for those who serve
        from dingo.bridge.serving import RemoteWorker  # noqa: PLC0415 - as above

        consumer, reporter = self._parts.consumer, self._parts.get(Role.REPORTER)
        if consumer is None or reporter is None:
            missing = "Consumer" if consumer is None else "Reporter"
            raise NotAttached(f"this app has no {missing}: it cannot serve as a worker")
        for registration in self._registry:
            if is_limited(registration.option):
                check_counted(registration.name, registration.option, getattr(reporter, "ledger", None))
        worker = RemoteWorker(
            self.config, self._hub, self._hooks, self._send_following, self._refresh, self._lifespan,
            consumer, reporter, self._parts.get(Role.HERALD), self._plan_here, lambda: self.names,
            self._when_sent,
        )  # fmt: skip
        worker.start(queues, name)
        return worker

    def _plan_here(self, name: str, given: Mapping[str, Any]) -> Plan | None:
        """Return the plan by which a task that came from a broker runs here; None for an unknown name."""
        try:
            registration = self._registry.get(name)
        except NotRegistered:
            return None
        with self._lock:
            plan = Plan(registration, given)
            self._compile(plan, self._here)
        return plan

    def _resolve(self, *registrations: Registration) -> None:
        """Read the annotations that could not be read at registration. Raises TypeError naming the parameter."""
        for registration in registrations:
            if registration.unresolved is not None and not registration.resolve():
                unresolved = registration.unresolved
                raise TypeError(
                    f"task {registration.name!r}: the annotation {unresolved.reference!r} of "
                    f"{unresolved.parameter!r} is not defined; define it before the first call, or pass "
                    f"types={{{unresolved.reference!r}: ...}} to register()"
                )

    def _opened(self) -> AnyBridge:
        with self._lock:
            self._open()
            assert self._bridge is not None
            return self._bridge

    def _when_sent(self, fn: Callable[[], object]) -> None:
        bridge = self._bridge
        if bridge is None or isinstance(bridge, LocalBridge):
            fn()
        else:
            bridge.when_sent(fn)

    def _send_following(self, signature: Signature, previous: Any) -> None:
        if self._bridge is None:
            self._open()
        plan = self._plan_with(self._registry.get(signature.name), signature.options)  # also while it closes
        plan.follow(signature.args, signature.kwargs, previous)

    def close(self, timeout: float | None = None, *, drain: bool = True) -> None:
        """Close the app; what was accepted runs first (`drain`), for up to `timeout` seconds.

        What cannot run to its end ends FAILURE/SHUTDOWN; everything is reported. Idempotent, from any thread.
        Without a timeout it waits as long as the tasks take; from inside a task it returns at once and the
        closing goes on behind it.
        """
        with self._lock:
            if self._closing is None and not self._closed:
                self._start_closing(timeout, drain)
            closing = self._closing
        if closing is None or here.forbidden or self.inside:
            return
        with away():
            closing.join(None if timeout is None else timeout + _CLOSING_MARGIN)

    @property
    def inside(self) -> bool:
        """Whether this is code that closing waits for: a task of this app, a callback, a hook."""
        job = on_loop.get()  # a thread that an async task has started (asyncio.to_thread) knows it too
        return here.hub is self._hub or (job is not None and job._plan.hub is self._hub)

    def _start_closing(self, timeout: float | None, drain: bool) -> None:
        self._refuse_calls()
        self._closing = threading.Thread(target=self._close, args=(timeout, drain), name="dingo-close", daemon=True)
        self._closing.start()

    def _refuse_calls(self) -> None:
        self._closed = True
        self._calls.clear()
        for plan in self._plans:
            plan.call = _refuse

    def _close(self, timeout: float | None, drain: bool) -> None:
        here.hub = self._hub
        try:
            for bridge in dict.fromkeys([*self._retired, self._here, self._bridge]):  # callers last: tasks may call
                if bridge is not None:
                    bridge.close(timeout, drain=drain)
            if self._fleet is not None:
                self._fleet.close(_CLOSING_MARGIN)
            for component in self._parts.all():
                component.close()
            for unwatch in self._unwatch:
                unwatch()
            if self.config.source is not None:
                self.config.source.stop()
        except BaseException as error:
            self._hub.emit(Origin.BRIDGE, Level.ERROR, "close.failed", "closing failed", {"error": error}, error=error)
        finally:
            self._hub.close()

    def _reopen(self) -> None:
        closing = self._closing
        if closing is not None:
            if closing.is_alive() and self.inside:
                raise AppClosed("the app is closing, and waits for this task: open it again from outside of its tasks")
            closing.join()
        with self._lock:
            if self._closed:
                self._closed, self._closing, self._bridge, self._here, self._fleet = False, None, None, None, None
                self._retired.clear()
                self._plans.clear()
                self._base.clear()
        self._open()

    def __enter__(self) -> Self:
        """Open the app, again after a close too."""
        self._reopen()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        """Close it; after an exception, without running what still waits."""
        self.close(drain=kind is None)

    async def __aenter__(self) -> Self:
        """Open the app, again after a close too."""
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:  # fmt: skip
        """Close it without blocking the loop."""
        await self.aio.close(drain=kind is None)

    @property
    def remote(self) -> bool:
        """Whether components for a broker are attached."""
        return bool(self._parts)

    @property
    def names(self) -> list[str]:
        """The names of all registered tasks."""
        return [one.name for one in self._registry]

    def task_queues(self) -> list[tuple[str, str | None]]:
        """Return the name and the queue of each registered task; None: the default one."""
        return [(one.name, one.option.queue) for one in self._registry]

    @property
    def hub(self) -> Hub:
        """Where this app's events pass, for those who emit."""
        return self._hub

    def start_worker(self, queues: tuple[str, ...] = (), name: str = "") -> None:
        """Begin to serve as a worker, from these queues (none: the configured ones). `name`: what its fleet calls it.

        Raises NotAttached, BrokerUnavailable, BadConfig.
        """
        self._worker(queues, name)

    def await_shown(self, timeout: float) -> None:
        """Wait until the worker in this process can be seen by its fleet, up to `timeout` seconds."""
        news = getattr(self._here, "news", None)
        if news is not None:
            news.shown.wait(timeout)

    def idle(self) -> bool:
        """Whether nothing waits in the broker and nothing runs here."""
        with self._lock:
            return self._here is None or not self._here.busy()

    @property
    def closed(self) -> bool:
        """Whether it was closed, and not opened again."""
        return self._closed

    @property
    def gave_up(self) -> bool:
        """Whether the worker in this process has given its broker up, as `Config.reconnect` says."""
        return bool(getattr(self._here, "gave_up", False))

    def run(self, queues: Sequence[str] = ()) -> None:
        """Serve until SIGTERM or SIGINT (the first closes gracefully, the second at once), or until it is closed.

        `queues`: which, as in `Config.queues`; none: the configured ones. Raises BadConfig, and BrokerUnavailable
        where the broker cannot be reached, or was given up (`Config.reconnect`).
        """
        from dingo.worker.serve import serve  # noqa: PLC0415 - signals, only for who serves

        if serve(self, self.config.replace(queues=queues).queues if queues else ()) != 0:
            raise BrokerUnavailable("the broker was lost, and given up after the tries of Config.reconnect")

    # -- forks and exits ---------------------------------------------------------------------------

    def _start_fresh(self) -> None:
        """In the child of a fork: threads and connections are the parent's; the calls too."""
        self._lock = threading.RLock()
        bridges = [*self._retired, self._here, self._bridge]
        self._bridge = self._here = None
        self._retired.clear()
        self._calls.clear()
        self._base.clear()
        self._plans = weakref.WeakSet()
        self._closing = None
        self._fleet = None
        self._hub = Hub(self._refresh)
        self._hooks.hub = self._hub
        for bridge in dict.fromkeys(bridges):
            if bridge is not None:
                bridge.forget_all()
        if self._connections and not self._closed:
            self._connect_anew()

    def _connect_anew(self) -> None:
        """Have components of its own, where they were made here. The parent's are kept: their end could be heard."""
        _of_parents.append(self._parts)
        self._parts = self._parts.without(self._made)
        connections, self._connections, self._made = self._connections, [], []
        for broker, backend, role in connections:
            self.connect(broker, backend, role=role)

    def _at_exit(self) -> None:
        """At a normal exit of the interpreter: finish what was accepted, within bounds, and say what was not."""
        seconds = self.config.exit_timeout_seconds
        if self._closing is not None:
            self._closing.join(seconds)  # from inside a task, or given up by Ctrl-C
        if self._bridge is None or self._closed:
            return
        self._refuse_calls()
        self._close(seconds, drain=True)  # in this thread: an exiting interpreter starts none
        left = 0 if self._here is None else self._here.shut_down_count
        if left:
            logging.getLogger("dingo.bridge").warning(
                "%r was not closed: %d calls had not ended %g s after the interpreter began to exit, and ended "
                "FAILURE/SHUTDOWN. Close the app (`with app:`) to wait for them.", self, left, seconds,
            )  # fmt: skip


class Caller:
    """An app with options for the calls made through it."""

    def __init__(self, app: App, given: OptionFields) -> None:
        Option.of(given)
        self._app = app
        self._given = given

    def _plan(self, name: object) -> Plan:
        return self._app.plan_for(self._app._registry.get(name), self._given)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """As `App.call`, with these options on top of the task's."""
        return self._plan(name).send(args, kwargs)

    def call_many(self, name: str, argument_tuples: Iterable[tuple[Any, ...]]) -> list[Result[Any]]:
        """As `App.call_many`, with these options on top of the task's."""
        return self._app.send_many(self._plan(name), argument_tuples)

    def map(self, name: str, *iterables: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
        """As `App.map`, with these options on top of the task's."""
        plan = self._plan(name)
        return self._app.stream(lambda: plan, iterables, timeout)

    def options(self, **options: Unpack[OptionFields]) -> Caller:
        """Return the same with these options on top. Raises BadOption."""
        return Caller(self._app, cast("OptionFields", laid_over(self._given, options)))


class _Decorator:
    """What `@app.task(...)` returns, as type checkers see it."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Unrelated, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[Concatenate[Any, P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[_Unrelated, P], R], /) -> Task[Concatenate[Any, P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        """Never called: `task` returns a plain function."""
        raise NotImplementedError


def _task_of(app: App, registration: Registration) -> Task[..., Any]:
    is_async = registration.unresolved is None and registration.binding.is_async
    return (AsyncTask if is_async else Task)(app, registration)


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise AppClosed


_apps: weakref.WeakSet[App] = weakref.WeakSet()
_of_parents: list[Parts] = []
"""In the child of a fork, what it was given with its parent's memory: neither closed nor collected here."""


def _at_exit() -> None:
    for app in tuple(_apps):
        app._at_exit()


def _after_fork() -> None:
    here.seat, here.forbidden, here.hub = None, False, None
    for app in tuple(_apps):
        app._start_fresh()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
