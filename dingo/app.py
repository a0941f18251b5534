"""App: what users say to dingo. It wires; it does no work itself.

Registrar   registrar.py   what is said of tasks: registering, components, hooks
App         here           calling, looking, rewiring, opening and closing
Session     session.py     what it is made of from its opening to its close
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

import dingo.forking  # noqa: F401 - it is there for what it does
from dingo.allocation import Allocation, check_count, pool_kind
from dingo.blocking import away, here
from dingo.bridge.rewiring import Parts
from dingo.caller.bulk import send_many, stream
from dingo.config import Config
from dingo.errors import (
    AlreadyAttached,
    AppClosed,
    BadMessage,
    BadOption,
    BrokerUnavailable,
    NotAttached,
)  # fmt: skip
from dingo.events import Hub, Level, Origin, Subscription
from dingo.message.option import Option, OptionFields, laid_over
from dingo.message.report import Status
from dingo.plan import refusal
from dingo.registrar import Registrar
from dingo.session import CLOSING_MARGIN, Session
from dingo.worker.context import current, on_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import ModuleType, TracebackType

    from dingo.aio import Aio
    from dingo.caller.executor import Executor
    from dingo.caller.result import Result
    from dingo.contracts import Herald
    from dingo.inspection import CallInfo, WorkerInfo
    from dingo.message.signature import Signature
    from dingo.plan import Plan
    from dingo.registry import Registration


class App(Registrar):
    """Tasks and everything that runs them.

    `App()` is local: thread-and-queue parts in this process, nothing to install or start. Constructing,
    registering and configuring start no thread; the first use does. `with app:` closes it at the end.
    """

    def __init__(self, broker: str | None = None, *, backend: str | None = None, name: str = "dingo",
                 config: Config | None = None, include: Iterable[str] = ()) -> None:  # fmt: skip
        super().__init__(include)
        self.name = name
        self.config = Config() if config is None else config
        self.broker: str | None = None
        """The URL it is connected to, if it was connected by one."""
        self.backend: str | None = None
        """The URL of its store of results: the broker's, unless there is another."""
        self._parts = Parts()
        self._connections: list[tuple[str, str, str]] = []  # URL of the broker, of the backend, role
        self._made: list[Any] = []  # the parts that were made for them
        self._begin(Session(self))
        _apps.add(self)
        self._connect_at_start(broker, backend)

    def __repr__(self) -> str:
        """Mode, state and how many tasks."""
        session = self._session
        state = "closed" if session.closed else "open" if session.caller is not None else "idle"
        tasks = f"{len(self._registry)} task{'' if len(self._registry) == 1 else 's'}"
        mode = f"remote | {self._parts}" if self._parts else "local"
        return f"<App {self.name!r} {mode} | {state} | {tasks}>"

    def _begin(self, session: Session) -> None:
        """Have calls go by this session from now on."""
        self._session = session
        self._calls = session.plans.calls  # what is ready to be called, by name

    def _refresh(self, name: str | None = None) -> None:
        self._session.refresh(name)

    def _forget(self, name: str) -> None:
        self._session.plans.forget(name)

    # -- calling -----------------------------------------------------------------------------------

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """Call a task by name and return its Result at once.

        Raises NotRegistered, BadArguments (before anything is sent), AppClosed, QueueFull; at the first use of
        the app also BadConfig and TypeError (a forward reference that does not exist).
        """
        try:
            call = self._calls[name]
        except (KeyError, TypeError):
            call = self._session.ready(name)
        try:
            return call(*args, **kwargs) if kwargs else call(*args)  # an empty ** is merged into a new dict
        except TypeError as error:
            raise refusal(call, args, kwargs, error) from None

    def call_many(self, name: str, argument_tuples: Iterable[tuple[Any, ...]]) -> list[Result[Any]]:
        """Call a task once per tuple of arguments; all are checked before the first is sent. Raises as `call`."""
        return self.send_many(self._session.plan_of(name), argument_tuples)

    def map(self, name: str, *iterables: Iterable[Any], timeout: float | None = None) -> Iterator[Any]:
        """Call a task with the items of the iterables; yield the values in order, as `Executor.map` does.

        It streams: only a window of the input is ahead of what was yielded. Raises as `call`; the iterator
        raises what `Result.result` does, and ResultTimeout `timeout` seconds after the call of `map`.
        """
        plan = self._session.plan_of(name)
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
        caller = self._session.caller
        return caller is None or caller.flush(timeout)

    def plan_for(self, registration: Registration, given: Mapping[str, Any]) -> Plan:
        """Return the compiled plan of a task with options on top. Opens the app. Raises AppClosed, BadOption."""
        return self._session.plan(registration, given)

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
        self._session.open()
        registration.demand()
        kind = pool_kind(registration, pool)
        bridge = self._session.worker()
        bridge.allocate(name, count, kind)
        return Allocation(bridge, name, count, share, kind)

    def as_executor(self, name: str | None = None) -> Executor:
        """Return a real `concurrent.futures.Executor` that runs functions in this process' pools.

        With a name they run on that name's workers. Raises NotRegistered.
        """
        from dingo.caller.executor import Executor  # noqa: PLC0415 - concurrent.futures, only for those who use it

        if name is not None:
            self._registry.get(name)
        return Executor(self._executor_plan, name)

    def _executor_plan(self, fn: Callable[..., Any], lane: str | None) -> Plan:
        return self._session.executor_plan(fn, lane)  # that of the moment: an executor outlives a close

    # -- events ------------------------------------------------------------------------------------

    def listen(self, origin: Origin = Origin.ALL, level: Level = Level.INFO, maxsize: int = 1000, *,
               fleet: bool = False) -> Subscription:  # fmt: skip
        """Subscribe to events from these origins, from this level on; at most `maxsize` wait to be read.

        `fleet`: also to those of all workers on this app's broker, from about a second later on; their `worker` says
        whose they are, and their payload is what JSON can carry. Raises ValueError for a wrong argument, AppClosed,
        NotAttached (a broker that cannot carry events).
        """
        if self.closed:
            raise AppClosed("the app is closed: nothing more will happen in it")
        herald = self._herald("events of other processes") if fleet and self._parts else None
        subscription = self._hub.subscribe(origin, level, maxsize)
        if herald is not None:
            self._session.follow_fleet(herald, subscription)
        return subscription

    @property
    def hub(self) -> Hub:
        """Where this app's events pass, for those who emit."""
        return self._hub

    def _herald(self, what: str) -> Herald:
        herald: Herald | None = self._parts.herald
        if herald is None:
            raise NotAttached(
                f"this app has no Herald, which carries {what}: that needs redis, amqp, sqlite or memory as broker or "
                "as backend"
            )
        return herald

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
                yield read_card(seals.open(CARD, data))
            except BadMessage as error:
                self._hub.emit(Origin.BRIDGE, Level.WARNING, "card.refused", f"a worker's card was refused: {error}")

    # -- looking into it ---------------------------------------------------------------------------

    def result(self, id: str, name: str | None = None) -> Result[Any]:
        """Attach to a call by its id. Raises ResultNotFound (unknown, or several tasks share the id)."""
        names = [name] if name is not None else [one.name for one in self._registry]
        return self._session.open().find(id, names, self._session.plan_of)

    def forget(self, id: str, name: str | None = None) -> None:
        """Let go of a call's result. Raises ResultNotFound."""
        names = [name] if name is not None else [one.name for one in self._registry]
        self._session.open().forget(id, names)

    def pending(self, queue: str | None = None) -> list[CallInfo]:
        """List the calls that wait for a worker, in one queue or in all."""
        return self._session.open().pending(queue)

    def delayed(self) -> list[CallInfo]:
        """List the calls that wait for their time: delayed ones and those between two attempts."""
        return self._session.open().delayed()

    def failed(self) -> list[CallInfo]:
        """List the failed calls that are still known, oldest first."""
        return self._session.open().ended(Status.FAILURE, self._session.plan_of)

    def succeeded(self) -> list[CallInfo]:
        """List the successful calls that are still known: locally those whose id was asked for."""
        return self._session.open().ended(Status.SUCCESS, self._session.plan_of)

    def purge(self, queue: str) -> int:
        """Cancel all calls that wait in a queue, delayed ones included; return how many. Raises BadOption."""
        if not isinstance(queue, str):
            raise BadOption(f"a queue is named by a text, not {queue!r}: purge one after the other")
        return self._session.open().purge(queue)

    def pause(self, queue: str) -> None:
        """Have nothing more of a queue started until it is resumed; what runs goes on.

        Over a broker by no worker of the fleet, within about a second. Raises NotAttached (a backend that cannot
        tell the workers), BrokerUnavailable, BadOption (an impossible name).
        """
        Option.of({"queue": queue})
        self._session.open().pause(queue)

    def resume(self, queue: str) -> None:
        """Have a paused queue go on. Raises as `pause`."""
        Option.of({"queue": queue})
        self._session.open().resume(queue)

    def paused(self) -> list[str]:
        """List the queues that are paused. Raises NotAttached, BrokerUnavailable."""
        return sorted(self._session.open().paused())

    @property
    def aio(self) -> Aio:
        """The same members, awaitable, for everything that may wait."""
        from dingo.aio import Aio  # noqa: PLC0415 - asyncio, only for those who have an event loop

        return Aio(self)

    # -- rewiring ----------------------------------------------------------------------------------

    @property
    def remote(self) -> bool:
        """Whether components for a broker are attached."""
        return bool(self._parts)

    def use(self, *components: Any, roles: Iterable[str] | None = None) -> None:
        """Replace local parts by the given components, each in every role it implements (or in `roles`).

        Raises BadOption for an object without a role.
        """
        with self._lock:
            if self._session.closed:
                raise AppClosed
            if self._session.caller is not None and self._parts:
                raise AlreadyAttached("calls go through a broker already: rewire an app before its first use")
            self._parts.attach(components, roles)
            self._session.start_over()

    def connect(self, broker: str, backend: str | None = None, *, role: str = "both") -> None:
        """Build and use the components for a broker's URL, and for a backend's if that is another.

        `role`: "caller" (Producer and Store), "worker" (Consumer and Reporter) or "both". Opens no connection.
        Raises BadConfig for a URL that makes no sense, BadOption, AlreadyAttached.
        """
        from dingo import kombu  # noqa: PLC0415 - the only door to brokers, opened by those who connect

        if role not in ("caller", "worker", "both"):
            raise BadOption(f'role is "caller", "worker" or "both", not {role!r}')
        backend = backend or broker
        before, parts = self._parts.all(), self._parts.without(())
        try:
            self._connect_parts(kombu, broker, backend, role)
        except BaseException:
            self._parts = parts
            raise
        self.broker, self.backend = broker, backend
        self._connections.append((broker, backend, role))
        self._made += [one for one in self._parts.all() if one not in before]

    def _connect_parts(self, kombu: ModuleType, broker: str, backend: str, role: str) -> None:
        if role != "worker":
            store = kombu.store(backend, self.config)
            store.apart = getattr(store, "apart", False) or backend != broker
            self.use(kombu.producer(broker, self.config), store)
        if role != "caller" and backend == broker and not kombu.keeps_apart(backend):
            self.use(kombu.worker(broker, self.config))
        elif role != "caller":
            self.use(kombu.worker(broker, self.config), roles=["consumer"])
            self.use(kombu.reporter(backend, self.config), roles=["reporter"])
        herald = _herald_of(broker, backend, self.config)
        if herald is not None and self._parts.herald is None:
            self.use(herald)

    def _make_herald(self) -> Herald | None:
        """Make a Herald for whoever needs one alone; None where nothing carries what workers are to hear."""
        if self.broker is None or self.backend is None:
            return None
        return _herald_of(self.broker, self.backend, self.config)

    def redirect(self, broker: str | None = None, backend: str | None = None) -> None:
        """Go over another broker, or another backend, than it was made with, before its first use or after a close.

        "local" as the broker: over none. Raises as `connect`.
        """
        if self._session.closed:
            self._begin(Session(self))
        if broker is None and backend is None:
            return
        apart = None if self.backend == self.broker else self.backend
        broker, backend = broker or self.broker or "local", backend or apart
        if (broker, backend or broker) == (self.broker, self.backend):
            return
        self._parts = self._parts.without(self._made)
        self.broker = self.backend = None
        self._connections, self._made = [], []
        if broker != "local":
            self.connect(broker, backend)

    def _connect_at_start(self, broker: str | None, backend: str | None) -> None:
        backend = backend or self.config.backend
        if broker is None:
            broker = self.config.broker
        if broker is None:
            broker, backend = os.environ.get("DINGO_BROKER") or "local", backend or os.environ.get("DINGO_BACKEND")
        if broker != "local":
            self.connect(broker, backend)

    # -- opening and closing -----------------------------------------------------------------------

    def close(self, timeout: float | None = None, *, drain: bool = True) -> None:
        """Close the app; what was accepted runs first (`drain`), for up to `timeout` seconds.

        What cannot run to its end ends FAILURE/SHUTDOWN; everything is reported. Idempotent, from any thread.
        Without a timeout it waits as long as the tasks take; from inside a task it returns at once and the
        closing goes on behind it.
        """
        closing = self._session.close(timeout, drain=drain)
        if closing is None or here.forbidden or self.inside:
            return
        with away():
            closing.join(None if timeout is None else timeout + CLOSING_MARGIN)

    @property
    def closed(self) -> bool:
        """Whether it was closed, and not opened again."""
        return self._session.closed

    @property
    def inside(self) -> bool:
        """Whether this is code that closing waits for: a task of this app, a callback, a hook."""
        job = on_loop.get()  # a thread that an async task has started (asyncio.to_thread) knows it too
        return here.hub is self._hub or (job is not None and job._plan.hub is self._hub)

    def _reopen(self) -> None:
        closing = self._session.closing
        if closing is not None:
            if closing.is_alive() and self.inside:
                raise AppClosed("the app is closing, and waits for this task: open it again from outside of its tasks")
            closing.join()
        with self._lock:
            if self._session.closed:
                self._begin(Session(self))
        self._session.open()

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

    # -- serving -----------------------------------------------------------------------------------

    def run(self, queues: Sequence[str] = ()) -> None:
        """Serve until SIGTERM or SIGINT (the first closes gracefully, the second at once), or until it is closed.

        `queues`: which, as in `Config.queues`; none: the configured ones. Raises BadConfig, and BrokerUnavailable
        where the broker cannot be reached, or was given up (`Config.reconnect`).
        """
        from dingo.worker.serve import serve  # noqa: PLC0415 - signals, only for who serves

        if serve(self, self.config.replace(queues=queues).queues if queues else ()) != 0:
            raise BrokerUnavailable("the broker was lost, and given up after the tries of Config.reconnect")

    def start_worker(self, queues: tuple[str, ...] = (), name: str = "") -> None:
        """Begin to serve as a worker, from these queues (none: the configured ones). `name`: what its fleet calls it.

        Raises NotAttached, BrokerUnavailable, BadConfig.
        """
        self._session.worker(queues, name)

    def await_shown(self, timeout: float) -> None:
        """Wait until the worker in this process can be seen by its fleet, up to `timeout` seconds."""
        news = getattr(self._session.here, "news", None)
        if news is not None:
            news.shown.wait(timeout)

    def idle(self) -> bool:
        """Whether nothing waits in the broker and nothing runs here."""
        here = self._session.here
        return here is None or not here.busy()

    @property
    def gave_up(self) -> bool:
        """Whether the worker in this process has given its broker up, as `Config.reconnect` says."""
        return bool(getattr(self._session.here, "gave_up", False))

    # -- forks and exits ---------------------------------------------------------------------------

    def _start_fresh(self) -> None:
        """In the child of a fork: threads and connections are the parent's; the calls too."""
        before = self._session
        self._lock = threading.RLock()
        self._hub = self._hooks.hub = Hub(self._refresh)
        self._begin(Session(self))
        self._session.closed = before.closed
        before.forget_all()
        if self._connections and not before.closed:
            self._connect_anew()

    def _connect_anew(self) -> None:
        """Have components of its own, where they were made here. The parent's are kept: their end could be heard."""
        _of_parents.append(self._parts)
        self._parts = self._parts.without(self._made)
        connections, self._connections, self._made = self._connections, [], []
        for broker, backend, role in connections:
            self.connect(broker, backend, role=role)


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


_apps: weakref.WeakSet[App] = weakref.WeakSet()
_of_parents: list[Parts] = []
"""In the child of a fork, what it was given with its parent's memory: neither closed nor collected here."""


def _herald_of(broker: str, backend: str, config: Config) -> Herald | None:
    from dingo import kombu  # noqa: PLC0415 - as in `connect`

    herald: Herald | None = kombu.herald(broker, config) or kombu.herald(backend, config)
    return herald


def _at_exit() -> None:
    for app in tuple(_apps):
        app._session.close_at_exit(app.config.exit_timeout_seconds)


def _after_fork() -> None:
    here.seat, here.forbidden, here.hub = None, False, None
    for app in tuple(_apps):
        app._start_fresh()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
