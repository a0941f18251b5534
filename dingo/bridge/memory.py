"""The wire in memory: broker and backend for one process, for tests and for `memory://`.

It is honest: it deals in the same frames, claims, verdicts and leases as a server would, so that what works over
it works over a broker. All components of one wire share it; a wire with a name is the same for all who name it.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from dataclasses import dataclass, field
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.bridge.memory_ledger import MemoryLedger, Pages
from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, StoredCall, UniqueCall, Verdict
from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


# How many packs of news wait for one listener.
NEWS_MOST = 100


@dataclass(slots=True)
class _Row:
    """One task on the wire."""

    envelope: Envelope
    owner: object = None
    fence: int = 0
    starts: int = 0
    suspect: bool = False
    cancel: bool = False


@dataclass
class Wire:
    """What all components of one wire share. `changed` guards everything and tells of everything new."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    rows: dict[tuple[str, str], _Row] = field(default_factory=dict)
    queues: dict[str, list[tuple[int, int, tuple[str, str]]]] = field(default_factory=dict)
    later: list[tuple[float, int, tuple[str, str]]] = field(default_factory=list)
    replies: dict[str, list[bytes]] = field(default_factory=dict)
    ended: dict[tuple[str, str], tuple[float, bytes]] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    pages: Pages = field(default_factory=Pages)
    cards: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    wishes: dict[str, tuple[float, bytes]] = field(default_factory=dict)
    news: dict[str, deque[bytes]] = field(default_factory=dict)

    def add(self, envelope: Envelope) -> bool:
        """Take a task. False if it is here already."""
        key = (envelope.name, envelope.id)
        if key in self.rows:
            return False
        row = self.rows[key] = _Row(envelope)
        self.ended.pop(key, None)  # of an earlier call of that id
        self.put(row)
        return True

    def put(self, row: _Row) -> None:
        """Make a task wait: for its time, or in its queue."""
        envelope = row.envelope
        key = (envelope.name, envelope.id)
        if envelope.due is not None and envelope.due > time():
            heapq.heappush(self.later, (envelope.due, next(self.numbers), key))
        else:
            queue = self.queues.setdefault(envelope.queue, [])
            heapq.heappush(queue, (-envelope.priority, next(self.numbers), key))
        self.changed.notify_all()

    def hasten(self, row: _Row) -> bool:
        """Have a task that waits for its time come at once, before others of its priority. Whether it waited so."""
        envelope = row.envelope
        if row.owner is not None or envelope.due is None or envelope.due <= time():
            return False
        envelope.due = None
        queue = self.queues.setdefault(envelope.queue, [])
        heapq.heappush(queue, (-envelope.priority, -next(self.numbers), (envelope.name, envelope.id)))
        self.changed.notify_all()
        return True

    def release_due(self) -> float | None:
        """Move what is due to its queue; return when the next one is."""
        while self.later and self.later[0][0] <= time():
            key = heapq.heappop(self.later)[2]
            if key in self.rows:
                self.put(self.rows[key])
        return self.later[0][0] if self.later else None

    def take(self, queue: str, owner: object) -> Delivery | None:
        """Claim the best task of a queue."""
        waiting = self.queues.get(queue, [])
        while waiting:
            row = self.rows.get(heapq.heappop(waiting)[2])
            # A task that was hastened and put off again may stand here twice.
            if row is not None and row.owner is None and (row.envelope.due is None or row.envelope.due <= time()):
                row.owner = owner
                row.fence += 1
                return Delivery(row.envelope, row.fence, row.suspect, row.starts)
        return None

    def end(self, key: tuple[str, str], report: ReportEnvelope) -> None:
        """Keep a final report, unless there is one: the first never changes."""
        if report.keep > 0:
            self.ended.setdefault(key, (time() + report.keep, report.frame))


_wires: dict[str, Wire] = {}
_guard = threading.Lock()


def wire(name: str = "") -> Wire:
    """Return the wire of that name; without a name a new one."""
    with _guard:
        return _wires.setdefault(name, Wire()) if name else Wire()


class _OnWire:
    """What the components share: a wire, and a way to make a waiting call return."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.ledger = MemoryLedger(wire, self)
        self._woken = False

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready: there is nothing to connect to."""
        del emit

    def wake(self) -> None:
        """Make a waiting call return."""
        with self.wire.changed:
            self._woken = True
            self.wire.changed.notify_all()

    def _wait(self, until: float, due: float | None = None) -> bool:
        """Wait for a change. False when the time is over, or it was woken."""
        if self._woken:
            self._woken = False
            return False
        left = until - monotonic()
        if left <= 0:
            return False
        self.wire.changed.wait(left if due is None else min(left, max(0.001, due - time())))
        return True


class MemoryProducer(_OnWire):
    """Puts tasks on the wire."""

    def send(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Put them on; one whose id is on it already counts once. Return those."""
        with self.wire.changed:
            return [envelope for envelope in envelopes if not self.wire.add(envelope)]

    def close(self) -> None:
        """Nothing is held."""


class MemoryConsumer(_OnWire):
    """Claims tasks from the wire. What it has not settled when it is closed is given back."""

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks of these queues, the first queue first."""
        until = monotonic() + wait
        with self.wire.changed:
            while True:
                due = self.wire.release_due()
                claimed: list[Delivery] = []
                for queue in queues:
                    while len(claimed) < room and (delivery := self.wire.take(queue, self)) is not None:
                        claimed.append(delivery)
                if claimed or not self._wait(until, due):
                    return claimed

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts; return those whose claim is not ours any more."""
        with self.wire.changed:
            return [one for one in settlements if not self._settle(one)]

    def _settle(self, settlement: Settlement) -> bool:
        envelope = settlement.delivery.envelope
        key = (envelope.name, envelope.id)
        row = self.wire.rows.get(key)
        if row is None or row.owner is not self or row.fence != settlement.delivery.token:
            return False
        if settlement.verdict is Verdict.ACK:
            del self.wire.rows[key]
            if settlement.frees is not None:
                self.wire.pages.free(UniqueCall(envelope.name, settlement.frees, envelope.id))
            for one in settlement.sends:
                self.wire.add(one)
        else:
            row.owner = None
            row.envelope.due = settlement.due if settlement.verdict is Verdict.LATER else None
            if settlement.frame is not None:
                row.envelope.frame = settlement.frame
            self.wire.put(row)
        _publish(self.wire, settlement.reports)
        return True

    def starting(self, delivery: Delivery) -> int:
        """Record the start of a suspect."""
        with self.wire.changed:
            row = self.wire.rows.get((delivery.envelope.name, delivery.envelope.id))
            if row is None:
                return delivery.starts
            row.starts += 1
            return row.starts

    def starting_all(self, deliveries: Sequence[Delivery]) -> None:
        """Record the starts of several."""
        for delivery in deliveries:
            self.starting(delivery)

    def tend(self) -> list[Any]:
        """Return the claims that are to be stopped. Nobody else looks whether it lives: it is this process."""
        with self.wire.changed:
            return [key for key, row in self.wire.rows.items() if row.owner is self and row.cancel]

    def close(self, *, died: bool = False) -> None:
        """Give back what is claimed. `died`: as if the worker had died, for tests."""
        with self.wire.changed:
            self.wire.pages.dismiss(self)
            for row in self.wire.rows.values():
                if row.owner is self:
                    row.owner = None
                    row.suspect = row.suspect or died
                    self.wire.put(row)


def _publish(wire: Wire, reports: Sequence[ReportEnvelope]) -> None:
    by_reply: dict[str, list[bytes]] = {}
    for report in reports:
        if report.reply:
            by_reply.setdefault(report.reply, []).append(report.frame)
        if report.final:
            wire.end((report.name, report.id), report)
    for reply, frames in by_reply.items():
        wire.replies.setdefault(reply, []).append(pack(frames))
    wire.changed.notify_all()


class MemoryReporter(_OnWire):
    """Puts reports on the wire."""

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Put them on."""
        with self.wire.changed:
            _publish(self.wire, reports)

    def close(self) -> None:
        """Nothing is held."""


class MemoryWorker(MemoryConsumer):
    """Consumer and Reporter in one, as most brokers' are."""

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Put reports of tasks that go on."""
        with self.wire.changed:
            _publish(self.wire, reports)


class MemoryNamedWorker(MemoryWorker):
    """The same with a queue for each task name."""

    named = True


class MemoryStore(_OnWire):
    """Gets reports from the wire, and looks at what is on it."""

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address."""
        until = monotonic() + wait
        with self.wire.changed:
            while True:
                packs = self.wire.replies.pop(reply, [])
                if packs or not self._wait(until):
                    return packs

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call."""
        with self.wire.changed:
            for (known, of), (until, frame) in self.wire.ended.items():
                if of == id and name in (None, known) and until > time():
                    return StoredCall(id, known, "ended", frame)
            for (known, of), row in self.wire.rows.items():
                if of == id and name in (None, known):
                    return _stored(row)
        return None

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call."""
        with self.wire.changed:
            keys = [key for key in self.wire.ended if key[1] == id and name in (None, key[0])]
            for key in keys:
                del self.wire.ended[key]
        return bool(keys)

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Withdraw a call that waits: True; ask its worker to stop it: None; it has ended: False."""
        with self.wire.changed:
            row = self.wire.rows.get((name, id))
            if row is None:
                return False
            if row.owner is not None:
                row.cancel = True
                return None
            del self.wire.rows[name, id]
            if frame:
                _publish(self.wire, [ReportEnvelope(row.envelope.reply, id, name, frame, True, keep)])
            return True

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls in a state ("waiting", "delayed")."""
        with self.wire.changed:
            if state == "ended":
                return [StoredCall(id, name, state, frame) for (name, id), (_, frame) in self.wire.ended.items()]
            found = [_stored(row) for row in self.wire.rows.values()]
        return [one for one in found if one.state == state and queue in (None, one.queue)]

    def close(self) -> None:
        """Nothing is held."""


class MemoryHerald(_OnWire):
    """Carries what workers of this process say of themselves. Leases are by this process' own clock."""

    def appear(self, owner: str, card: bytes, seconds: float) -> None:
        """Show a card, or take it away."""
        with self.wire.changed:
            _keep(self.wire.cards, owner, card, seconds)

    def wishes(self) -> list[bytes]:
        """Return what listeners wish to hear."""
        with self.wire.changed:
            return _valid(self.wire.wishes)

    def tell(self, news: bytes) -> None:
        """Put news into the line of everyone who listens; the oldest goes where a line is full."""
        with self.wire.changed:
            for listener in self.wire.wishes:
                self.wire.news.setdefault(listener, deque(maxlen=NEWS_MOST)).append(news)
            self.wire.changed.notify_all()

    def wish(self, listener: str, wish: bytes, seconds: float) -> None:
        """Let workers know what a listener wishes to hear."""
        with self.wire.changed:
            _keep(self.wire.wishes, listener, wish, seconds)
            if seconds <= 0:
                self.wire.news.pop(listener, None)

    def hear(self, listener: str, wait: float) -> list[bytes]:
        """Return the news for a listener."""
        until = monotonic() + wait
        with self.wire.changed:
            while True:
                news = list(self.wire.news.pop(listener, ()))
                if news or not self._wait(until):
                    return news

    def cards(self) -> Iterator[bytes]:
        """Yield the cards that are shown."""
        with self.wire.changed:
            shown = _valid(self.wire.cards)
        yield from shown

    def close(self) -> None:
        """Nothing is held."""


def _keep(what: dict[str, tuple[float, bytes]], key: str, data: bytes, seconds: float) -> None:
    if seconds > 0:
        what[key] = (monotonic() + seconds, data)
    else:
        what.pop(key, None)


def _valid(what: dict[str, tuple[float, bytes]]) -> list[bytes]:
    """Throw out what is over, and return the rest."""
    for key in [key for key, (until, _) in what.items() if until < monotonic()]:
        del what[key]
    return [data for _, data in what.values()]


def _stored(row: _Row) -> StoredCall:
    envelope = row.envelope
    delayed = envelope.due is not None and envelope.due > time()
    state = "running" if row.owner is not None else "delayed" if delayed else "waiting"
    return StoredCall(envelope.id, envelope.name, state, None, envelope.queue, envelope.due)
