"""Session: what an app is made of from its opening to its close.

    plans     how its tasks are called and run, compiled for these bridges
    caller    the bridge that calls go to
    here      the bridge in which functions run in this process: in local mode the same

An app that is opened again after a close, or in the child of a fork, has a new one.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from dingo.blocking import here as this_thread
from dingo.bridge.local import LocalBridge
from dingo.errors import AppClosed, NotAttached, NotRegistered
from dingo.events import Level, Origin
from dingo.plan import EXECUTOR, Plan
from dingo.plans import Plans
from dingo.registry import Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dingo.app import App
    from dingo.bridge.heralding import FleetNews
    from dingo.bridge.remote import RemoteCaller
    from dingo.caller.result import Result
    from dingo.config import Config
    from dingo.contracts import Herald
    from dingo.errors import BadConfig
    from dingo.events import Subscription
    from dingo.message.option import OptionFields
    from dingo.message.signature import Signature

AnyBridge: TypeAlias = "LocalBridge | RemoteCaller"

# Reporting what did not end in time takes a moment after the time is over (seconds).
CLOSING_MARGIN = 1.0


class Session:
    """Made with its app; builds its bridges at the first use. Any thread may call it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.plans = Plans(app._components)
        self.caller: AnyBridge | None = None
        self.here: LocalBridge | None = None
        self.closed = False
        self.closing: threading.Thread | None = None
        """What closes it, once that has begun."""
        self._retired: list[LocalBridge] = []  # what was accepted locally before a rewiring is finished there
        self._fleet: FleetNews | None = None  # what brings events of other processes
        self._unwatch: list[Callable[[], None]] = []

    # -- opening -----------------------------------------------------------------------------------

    def open(self) -> AnyBridge:
        """Return the bridge that calls go to, built at the first use.

        Raises AppClosed; TypeError (an annotation that does not exist), BadConfig.
        """
        caller = self.caller
        if caller is None or self.closed:
            with self._app._lock:
                if self.closed:
                    raise AppClosed
                if self.caller is None:
                    for registration in self._app._registry:
                        registration.demand()
                    self.caller = self._make_caller()
                    self._watch_config()
                caller = self.caller
        return caller

    def home(self) -> LocalBridge:
        """Return where functions run in this process, whatever else the app is connected to."""
        with self._app._lock:
            self.open()
            if self.here is None:
                self.here = self._make_local()
            return self.here

    def worker(self, queues: tuple[str, ...] = (), name: str = "") -> LocalBridge:
        """Return what runs the app's tasks in this process. Over a broker it consumes from now on.

        Raises NotAttached, BrokerUnavailable, BadConfig.
        """
        if not self._app._parts:
            return self.home()
        with self._app._lock:
            self.open()
            if self.here is None:
                self.here = self._make_worker(queues, name)
            return self.here

    def _make_caller(self) -> AnyBridge:
        app, parts = self._app, self._app._parts
        if not parts:
            self.here = self._make_local()
            return self.here
        from dingo.bridge.remote import NoCaller, RemoteCaller  # noqa: PLC0415 - only for those who are connected

        if parts.producer is None:
            return cast("RemoteCaller", NoCaller(app._hub))
        return RemoteCaller(
            app.config, app._hub, app._hooks, parts.producer, parts.store, named=parts.named, herald=app._make_herald
        )

    def _make_local(self) -> LocalBridge:
        app = self._app
        return LocalBridge(app.config, app._hub, app._hooks, self.send_following, self.refresh, app._lifespan)

    def _make_worker(self, queues: tuple[str, ...], name: str) -> LocalBridge:
        from dingo.bridge.places import check_counted, is_limited  # noqa: PLC0415 - only for those who serve
        from dingo.bridge.serving import RemoteWorker  # noqa: PLC0415 - as above

        app, parts = self._app, self._app._parts
        if parts.consumer is None or parts.reporter is None:
            missing = "Consumer" if parts.consumer is None else "Reporter"
            raise NotAttached(f"this app has no {missing}: it cannot serve as a worker")
        for registration in app._registry:
            if is_limited(registration.option):
                check_counted(registration.name, registration.option, getattr(parts.reporter, "ledger", None))
        worker = RemoteWorker(
            app.config, app._hub, app._hooks, self.send_following, self.refresh, app._lifespan,
            parts.consumer, parts.reporter, parts.herald, self._plan_here, lambda: app.names, self._when_sent,
        )  # fmt: skip
        worker.start(queues, name)
        return worker

    def start_over(self) -> None:
        """Have the next use build the bridges anew; what runs locally is finished by the one there is."""
        if self.here is not None:
            self._retired.append(self.here)
        self.caller = self.here = None
        self.plans.forget_all()

    # -- what stands behind a call: plans ----------------------------------------------------------

    def ready(self, name: object) -> Callable[..., Result[Any]]:
        """Get a name ready to be called: the first call of a name comes by here. Raises as `App.call`."""
        with self._app._lock:  # in one step: whatever changes meanwhile would miss it
            return self.plans.ready(self.plan_of(name))

    def plan_of(self, name: object) -> Plan:
        """Return the plan of a task as it was registered. Raises NotRegistered, AppClosed."""
        return self.plan(self._app._registry.get(name), {})

    def plan(self, registration: Registration, given: Mapping[str, Any]) -> Plan:
        """Return the plan of a task with options on top. Opens the app. Raises AppClosed, BadOption."""
        with self._app._lock:
            return self.plans.get(registration, given, self.open())

    def executor_plan(self, fn: Callable[..., Any], lane: str | None) -> Plan:
        """Return the plan of a function that is no task, run in this process: by the workers of a name, if given."""
        with self._app._lock:
            home = self.home()
            if lane is not None and home is self.caller:
                self.plan_of(lane)  # which starts the workers that its options ask for
            thread: OptionFields = {"pool": "thread"}  # futures carry exceptions
            options: OptionFields = {} if self._app.config.pool == "thread" else thread
            return self.plans.add(Plan(Registration(EXECUTOR, fn, options, None), {}, lane=lane), home)

    def _plan_here(self, name: str, given: Mapping[str, Any]) -> Plan | None:
        """Return the plan by which a task that came from a broker runs here; None for an unknown name."""
        try:
            registration = self._app._registry.get(name)
        except NotRegistered:
            return None
        with self._app._lock:
            assert self.here is not None
            return self.plans.add(Plan(registration, given), self.here)

    def refresh(self, name: str | None = None) -> None:
        """Compile the plans of one name anew, or all of them: something they depend on has changed."""
        with self._app._lock:
            if self.caller is not None and not self.closed:
                self.plans.refresh(name)

    def send_following(self, signature: Signature, previous: Any) -> None:
        """Make a call that another one asked for with what that returned, also while the app closes."""
        registration = self._app._registry.get(signature.name)
        with self._app._lock:
            caller = self.open() if self.caller is None else self.caller
            plan = self.plans.get(registration, signature.options, caller)
        plan.follow(signature.args, signature.kwargs, previous)

    def _when_sent(self, fn: Callable[[], object]) -> None:
        caller = self.caller
        if caller is None or isinstance(caller, LocalBridge):
            fn()
        else:
            caller.when_sent(fn)

    # -- what goes on beside calls -----------------------------------------------------------------

    def follow_fleet(self, herald: Herald, subscription: Subscription) -> None:
        """Bring the events of other processes to a subscription."""
        from dingo.bridge.heralding import FleetNews  # noqa: PLC0415 - only for those who listen to a fleet

        with self._app._lock:
            if self._fleet is None or not self._fleet.add(subscription):
                self._fleet = FleetNews(herald, self._app._hub, self._app.config, subscription)

    def _watch_config(self) -> None:
        """Follow the configuration file, if it came from one that is watched."""
        source = self._app.config.source
        if source is not None and not self._unwatch:
            self._unwatch = [source.subscribe(self._reconfigure), source.on_error(self._bad_config)]
            source.start()

    def _reconfigure(self, config: Config) -> None:
        """Go by a new configuration: sizes and times hold from now on, what is built at the opening stays."""
        with self._app._lock:
            self._app.config = config
            for bridge in (self.here, self.caller):
                if bridge is not None:
                    bridge.reconfigure(config)
        self._app._hub.emit(Origin.BRIDGE, Level.INFO, "config.changed", f"new configuration: {config!r}")

    def _bad_config(self, error: BadConfig) -> None:
        why = f"the configuration stays as it was: {error}"
        self._app._hub.emit(Origin.BRIDGE, Level.WARNING, "config.refused", why)

    # -- the end -----------------------------------------------------------------------------------

    def close(self, timeout: float | None, *, drain: bool) -> threading.Thread | None:
        """Begin to close, if that has not begun. Return the thread that does it, None where all is over."""
        with self._app._lock:
            if self.closing is None and not self.closed:
                self.refuse_calls()
                self.closing = threading.Thread(
                    target=self._close, args=(timeout, drain), name="dingo-close", daemon=True
                )
                self.closing.start()
            return self.closing

    def close_at_exit(self, seconds: float) -> None:
        """At a normal exit of the interpreter: finish what was accepted, within so many seconds; say what was not."""
        if self.closing is not None:
            self.closing.join(seconds)  # from inside a task, or given up by Ctrl-C
        if self.caller is None or self.closed:
            return
        self.refuse_calls()
        self._close(seconds, drain=True)  # in this thread: an exiting interpreter starts none
        left = 0 if self.here is None else self.here.shut_down_count
        if left:
            logging.getLogger("dingo.bridge").warning(
                "%r was not closed: %d calls had not ended %g s after the interpreter began to exit, and ended "
                "FAILURE/SHUTDOWN. Close the app (`with app:`) to wait for them.", self._app, left, seconds,
            )  # fmt: skip

    def refuse_calls(self) -> None:
        """Have every call raise AppClosed from now on."""
        self.closed = True
        self.plans.refuse()

    def _close(self, timeout: float | None, drain: bool) -> None:
        app = self._app
        this_thread.hub = app._hub
        try:
            for bridge in self._bridges():
                bridge.close(timeout, drain=drain)
            if self._fleet is not None:
                self._fleet.close(CLOSING_MARGIN)
            for component in app._parts.all():
                component.close()
            self._watch_config_no_more()
            if app.config.source is not None:
                app.config.source.stop()
        except BaseException as error:
            app._hub.emit(Origin.BRIDGE, Level.ERROR, "close.failed", "closing failed", {"error": error}, error=error)
        finally:
            app._hub.close()

    def _bridges(self) -> list[AnyBridge]:
        """Return all bridges there are, the callers' last: tasks may call."""
        several = dict.fromkeys([*self._retired, self.here, self.caller])
        return [bridge for bridge in several if bridge is not None]

    def _watch_config_no_more(self) -> None:
        for unwatch in self._unwatch:
            unwatch()

    def forget_all(self) -> None:
        """In the child of a fork: threads and connections are the parent's; the calls too."""
        self._watch_config_no_more()
        for bridge in self._bridges():
            bridge.forget_all()
