"""Events: what happens inside dingo, for troubleshooting.

With no listener, emitting costs nothing: those who emit look at `Hub.floor` first. What is at WARNING or above
also goes to `logging` under `dingo.<origin>`, unless it reaches somebody anyway.
"""

from __future__ import annotations

import enum
import logging
import os
import threading
from functools import partial
from time import time as now
from typing import TYPE_CHECKING, Any

from dingo.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.job import Job


class Origin(enum.IntFlag):
    """Which part of dingo an event comes from. Flags: combine them to listen to several."""

    PRODUCER = 1
    CONSUMER = 2
    REPORTER = 4
    STORE = 8
    MAPPER = 16
    WORKER = 32
    BRIDGE = 64
    SCHEDULER = 128
    ALL = 255


# The same as plain numbers, for what happens once per call: operations on flags cost more than the call.
PRODUCER = int(Origin.PRODUCER)
WORKER = int(Origin.WORKER)


class Level(enum.IntEnum):
    """How much an event matters; the numbers are those of `logging`."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR


class Event:
    """Something that happened. `time` is seconds since the epoch; `code` names the kind ("call.started")."""

    __slots__ = ("code", "level", "message", "origin", "payload", "time")

    worker = ""
    """The name of the worker that tells it; "" for this process."""

    def __init__(self, origin: Origin, level: Level, time: float, code: str, message: str,
                 payload: Any = None) -> None:  # fmt: skip
        self.origin = origin
        self.level = level
        self.time = time
        self.code = code
        self.message = message
        self.payload = payload

    def __repr__(self) -> str:
        """Level, origin, code and message, as one would log it."""
        return f"<Event {self.level.name} {self.origin.name} {self.code}: {self.message}>"


class FleetEvent(Event):
    """An event of another process. Its payload is what JSON can carry of the original: text instead of objects."""

    __slots__ = ("worker",)

    def __init__(self, worker: str, origin: Origin, level: Level, time: float, code: str, message: str,
                 payload: Any = None) -> None:  # fmt: skip
        super().__init__(origin, level, time, code, message, payload)
        self.worker = worker

    def __repr__(self) -> str:
        """Level, origin, code, message and who says it."""
        return f"{super().__repr__()[:-1]} | {self.worker}>"


_WORDS = {
    "call.sent": "call sent",
    "call.started": "call started",
    "call.finished": "call finished",
}


class CallEvent(Event):
    """A DEBUG event about a call. It is put in words when somebody looks: there are three for every call."""

    __slots__ = ("_job",)

    def __init__(self, origin: int, time: float, code: str, job: Job) -> None:
        self.origin = Origin(origin)
        self.level = Level.DEBUG
        self.time = time
        self.code = code
        self._job = job

    @property
    def message(self) -> str:  # type: ignore[override]
        """What happened to which call."""
        return f"{_WORDS[self.code]}: {self._job.name} {self._job.id}"

    @property
    def payload(self) -> dict[str, Any]:
        """The call's id, name, status and attempt."""
        job = self._job
        return {"id": job.id, "name": job.name, "status": job.status, "attempt": job.attempt}


# What a listener's channel holds for a CallEvent until it is read: origin, time, code, call.
_Record = tuple[int, float, str, "Job"]


def _told(record: _Record | Event) -> Event:
    return record if isinstance(record, Event) else CallEvent(*record)


class Subscription(Channel[Any]):
    """A listener's channel of events: `for event in sub`, `async for event in sub`, `get(timeout)`.

    A slow listener loses events, the newest first, and `dropped` counts them; it never slows dingo.
    """

    def __init__(self, hub: Hub, origin: Origin, level: Level, maxsize: int) -> None:
        super().__init__(maxsize)
        self._hub = hub
        self.origin = origin
        self.level = level

    def get(self, timeout: float | None = None) -> Event:
        """Return the next event. Raises TimeoutError (nothing in `timeout` seconds) and ChannelClosed."""
        return _told(super().get(timeout))

    async def aget(self) -> Event:
        """Return the next event, on an event loop. Raises ChannelClosed after the end."""
        return _told(await super().aget())

    def close(self) -> None:
        """Stop listening. What it still holds can be read."""
        self._hub.remove(self)
        super().close()


class Hub:
    """Where all events pass. Owned by the App; any thread may emit."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._followers: tuple[tuple[int, Subscription], ...] = ()  # those who want every call told, by origins
        self._changed = changed
        self.token = os.urandom(8).hex()
        """Tells this hub from all others, also from those of other processes."""
        self.floor: int = logging.CRITICAL
        """Nobody listens to what is below."""

    def subscribe(self, origin: Origin, level: Level, maxsize: int) -> Subscription:
        """Open a subscription. Raises ValueError for a wrong origin, level or size."""
        if type(maxsize) is not int or maxsize < 0:
            raise ValueError(f"maxsize is a whole number from 0 (0: no limit), not {maxsize!r}")
        subscription = Subscription(self, Origin(origin), Level(level), maxsize)
        self._update(add=subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        self._update(remove=subscription)

    def _update(self, add: Subscription | None = None, remove: Subscription | None = None) -> None:
        with self._lock:
            kept = [one for one in self._subscriptions if one is not remove]
            self._subscriptions = (*kept, add) if add is not None else tuple(kept)
            self._followers = tuple((int(one.origin), one) for one in self._subscriptions if one.level <= Level.DEBUG)
            floor = min((one.level for one in self._subscriptions), default=logging.CRITICAL)
            changed, self.floor = (floor != self.floor), floor
        if changed:
            self._changed()

    def close(self) -> None:
        """End every subscription after what it still holds."""
        for subscription in self._subscriptions:
            subscription.close()

    def tell(self, origin: int, code: str, job: Job) -> None:
        """Emit a DEBUG event about a call (`origin`: PRODUCER or WORKER below). Only where `floor` asks for it."""
        time = now()
        for origins, subscription in self._followers:
            if origins & origin:
                subscription.put((origin, time, code, job))

    def emit(self, origin: Origin, level: Level, code: str, message: str, payload: Any = None,
             *, error: BaseException | None = None, log: bool = True) -> None:  # fmt: skip
        """Emit an event, and from WARNING on a log record (`log=False`: it reaches somebody anyway)."""
        if log and level >= Level.WARNING:
            name = origin.name or "bridge"
            logging.getLogger(f"dingo.{name.lower()}").log(level, "%s", message, exc_info=error)
        if level < self.floor:
            return
        event = Event(origin, level, now(), code, message, payload)
        for one in self._subscriptions:
            if one.level <= level and one.origin & origin:
                one.put(event)

    def guarded(self, what: str, fn: Callable[..., object], *args: Any) -> bool:
        """Call what a user gave us. What it raises becomes an event and a log record; False then."""
        try:
            fn(*args)
        except BaseException as error:
            name = _name_of(fn)
            self.emit(
                Origin.WORKER, Level.WARNING, f"{what}.failed",
                f"{what} {name} raised {type(error).__name__}", {"error": error}, error=error,
            )  # fmt: skip
            return False
        return True


def _name_of(fn: Any) -> str:
    """Name a user's function, also where it stands inside a partial of ours."""
    while isinstance(fn, partial):
        fn = fn.args[0] if fn.args and callable(fn.args[0]) else fn.func
    return getattr(fn, "__qualname__", None) or repr(fn)
