"""Heralding: workers show themselves to the fleet, and tell their events while somebody listens.

    worker      WorkerNews   its card -> Herald.appear
                             Herald.wishes -> a subscription to its own hub, as wide as the widest wish -> Herald.tell
    listener    FleetNews    Herald.wish, renewed  |  Herald.hear -> the subscriptions of this process

With no wish there is no subscription, and the worker's events cost what they cost without any of this. Each side is
one thread, which does not hold up anything when its Herald does not answer.
"""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.bridge.news import CARD, EVENTS, NEWS, WISH, News, Seals, Stop, Wish, card_frame, news_frames, read_wish
from dingo.errors import BadMessage, BrokerUnavailable, ChannelClosed
from dingo.events import Level, Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.config import Config
    from dingo.contracts import Herald
    from dingo.events import Event, Hub, Subscription

# How often a worker looks for wishes, and a listener whether it is to end (seconds).
LOOK = 1.0
# How long events are gathered before they are told (seconds). With EVENTS at once, this bounds what telling costs.
GATHER = 0.1
# How many events wait in a worker to be told; more are lost, and counted.
WAITING = 1000
# How long a wish holds, and how often it is renewed (seconds).
WISH_SECONDS, WISH_EVERY = 10.0, 3.0


class Watch:
    """What both sides do alike: run in a thread until told to stop, and tell once when the Herald is lost."""

    def __init__(self, herald: Herald, hub: Hub, config: Config, name: str) -> None:
        self._herald = herald
        self._hub = hub
        self._config = config
        self._seals = Seals(config.signing_keys)
        self._stop = threading.Event()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        raise NotImplementedError

    def _emit(self, level: Level, code: str, message: str, payload: Any = None) -> None:
        self._hub.emit(Origin.BRIDGE, level, code, message, payload)

    def _try(self, step: Callable[[], None]) -> None:
        """Do a step. Where it fails, tell so once, and wait as the policy for reconnecting says."""
        try:
            step()
        except BrokerUnavailable as error:
            if self._lost == 0:
                self._emit(Level.WARNING, "herald.lost", f"the fleet cannot be told or heard: {error}")
            self._stop.wait(self._config.reconnect.delay(self._lost))
            self._lost += 1
        except BaseException as error:
            self._hub.emit(
                Origin.BRIDGE, Level.ERROR, "herald.failed", f"{type(error).__name__}: {error}", {"error": error},
                error=error,
            )  # fmt: skip
            self._stop.wait(LOOK)
        else:
            if self._lost:
                self._lost = 0
                self._emit(Level.INFO, "herald.restored", "the fleet is told and heard again")


class WorkerNews(Watch):
    """Shows one worker to the fleet, and tells its events to who wishes to hear them."""

    def __init__(self, herald: Herald, hub: Hub, config: Config, name: str, card: Callable[[], dict[str, Any]],
                 heed: Callable[[frozenset[tuple[str, str]]], object]) -> None:  # fmt: skip
        """`heed`: told, about once a second, which calls are not wanted any more."""
        super().__init__(herald, hub, config, "dingo-herald")
        self.shown = threading.Event()
        """Set when the fleet has seen it first, or could not."""
        self._name = name
        self._card = card
        self._heed_stops = heed
        self._rest: Callable[[float], bool] | None = getattr(herald, "rest", None)
        self._until = 0.0  # when it is time to look again (time.monotonic)
        self._subscription: Subscription | None = None
        self._dropped = 0
        self._last: dict[str, Any] = {}
        self._appeared = -config.lease_seconds
        self._refused: set[bytes] = set()
        herald.open(partial(hub.emit, Origin.BRIDGE))
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._try(self._look)
            self.shown.set()
            self._until = monotonic() + LOOK
            while monotonic() < self._until and not self._stop.is_set():
                self._try(self._forward)
        self._try(self._leave)

    def _look(self) -> None:
        card = self._card()
        now = monotonic()
        if card != self._last or now - self._appeared > self._config.lease_seconds / 3:
            shown = self._seals.put(CARD, card_frame(card))
            self._herald.appear(self._hub.token, shown, self._config.lease_seconds)
            self._last, self._appeared = card, now
        wishes = [self._wish_of(data) for data in self._herald.wishes()]
        self._heed([wish for wish in wishes if isinstance(wish, Wish)])
        self._heed_stops(frozenset(call for wish in wishes if isinstance(wish, Stop) for call in wish.calls))

    def _wish_of(self, data: bytes) -> Wish | Stop | None:
        try:
            return read_wish(self._seals.open(WISH, data))
        except BadMessage as error:
            if data not in self._refused:
                self._refused = {data, *list(self._refused)[:100]}
                self._emit(Level.WARNING, "wish.refused", f"what somebody wishes to hear was refused: {error}")
            return None

    def _heed(self, wishes: list[Wish]) -> None:
        """Listen to this process as widely as the wishes ask for, and not at all without any."""
        origins, level = 0, int(Level.ERROR)
        for wish in wishes:
            origins |= wish.origins
            level = min(level, wish.level)
        heard = self._subscription
        if heard is not None and wishes and (heard.origin, heard.level) == (origins, level):
            return
        self._subscription = None
        if wishes:
            self._subscription = self._hub.subscribe(Origin(origins), Level(level), WAITING)
            self._dropped = 0
        if heard is not None:
            heard.close()

    def _forward(self) -> None:
        """Tell what happens here, until it is time to look again."""
        heard = self._subscription
        left = max(0.0, self._until - monotonic())
        if heard is None:
            if self._rest is None:
                self._stop.wait(left)
            elif self._rest(left):
                self._until = 0.0
            return
        try:
            events = [heard.get(left)]
        except (TimeoutError, ChannelClosed):
            return
        self._stop.wait(GATHER)
        while len(events) < EVENTS and len(heard):
            events.append(heard.get(0))
        self._tell(heard, events)

    def _tell(self, heard: Subscription, events: list[Event]) -> None:
        lost, self._dropped = heard.dropped - self._dropped, heard.dropped
        for frame in news_frames(self._name, self._hub.token, lost, events):
            self._herald.tell(self._seals.put(NEWS, frame))

    def _leave(self) -> None:
        """Tell the last events, and take the card away."""
        heard = self._subscription
        if heard is not None:
            heard.close()
            self._tell(heard, list(heard))
        self._herald.appear(self._hub.token, b"", 0)

    def close(self, timeout: float) -> None:
        """Leave the fleet."""
        self._stop.set()
        if self._rest is not None:
            self._herald.wake()  # type: ignore[attr-defined]  # they come together
        if self._subscription is not None:
            self._subscription.close()  # so that nobody waits there
        self._thread.join(timeout)


class FleetNews(Watch):
    """Brings the events of workers to those who listen in this process. It ends when nobody does."""

    def __init__(self, herald: Herald, hub: Hub, config: Config, subscription: Subscription) -> None:
        super().__init__(herald, hub, config, "dingo-fleet")
        self._lock = threading.Lock()
        self._subscriptions = [subscription]
        self._ended = False
        self._wished: Wish | None = None
        self._renewed = 0.0
        herald.open(partial(hub.emit, Origin.BRIDGE))
        self._thread.start()

    def add(self, subscription: Subscription) -> bool:
        """Bring events to one more. False: it has ended."""
        with self._lock:
            if not self._ended:
                self._subscriptions.append(subscription)
            return not self._ended

    def _run(self) -> None:
        while self._goes_on():
            self._try(self._listen)
        self._try(lambda: self._herald.wish(self._hub.token, b"", 0))

    def _goes_on(self) -> bool:
        with self._lock:
            self._subscriptions = [one for one in self._subscriptions if not one.closed]
            self._ended = self._stop.is_set() or not self._subscriptions
            return not self._ended

    def _listen(self) -> None:
        subscriptions = tuple(self._subscriptions)
        origins = 0
        for one in subscriptions:
            origins |= one.origin
        wish = Wish(origins, min(one.level for one in subscriptions))
        now = monotonic()
        if wish != self._wished or now - self._renewed > WISH_EVERY:
            self._herald.wish(self._hub.token, self._seals.put(WISH, wish.frame()), WISH_SECONDS)
            self._wished, self._renewed = wish, now
        for data in self._herald.hear(self._hub.token, LOOK):
            self._hear(data, subscriptions)

    def _hear(self, data: bytes, subscriptions: tuple[Subscription, ...]) -> None:
        try:
            news = News.of(self._seals.open(NEWS, data))
        except BadMessage as error:
            self._emit(Level.WARNING, "news.refused", f"news of a worker were refused: {error}")
            return
        if news.source == self._hub.token:  # of this process: they came straight
            return
        for one in subscriptions:
            one.dropped += news.dropped
            for event in news.events:
                if one.level <= event.level and one.origin & event.origin:
                    one.put(event)

    def close(self, timeout: float) -> None:
        """Listen no more."""
        self._stop.set()
        self._thread.join(timeout)
