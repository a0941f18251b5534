"""The ledger of the wire in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time
from typing import TYPE_CHECKING

from dingo.bridge.ledger import Pace, exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.bridge.memory import Wire
    from dingo.contracts import Place, UniqueCall, Wait


@dataclass
class Pages:
    """What all ledgers of one wire share."""

    paces: dict[str, Pace] = field(default_factory=dict)
    places: dict[str, dict[tuple[int, str], float]] = field(default_factory=dict)  # by owner and number: since when
    turns: dict[tuple[str, str], float] = field(default_factory=dict)
    line: dict[str, dict[str, int]] = field(default_factory=dict)  # the ids that wait for a place: their priority
    unique: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def dismiss(self, owner: object) -> None:
        """Strike out all places of a worker."""
        for held in self.places.values():
            for key in [key for key in held if key[0] == id(owner)]:
                del held[key]

    def free(self, call: UniqueCall) -> None:
        """Let go of a key, if that call has it."""
        if self.unique.get((call.name, call.key), ("",))[0] == call.id:
            del self.unique[call.name, call.key]


class MemoryLedger:
    """One component's ledger. It is its own books: the wire is held while they are open."""

    def __init__(self, wire: Wire, owner: object) -> None:
        self._wire = wire
        self._pages = wire.pages
        self._owner = id(owner)
        self.now = 0.0

    def exchange(self, left: Sequence[Place], waiting: Sequence[Place], wanted: Sequence[Place]) -> list[Wait | None]:
        """Give places back, and ask for others."""
        with self._wire.changed:
            self.now = time()
            return exchange(self, left, waiting, wanted)

    def tend(self) -> set[str]:
        """Return the queues that are paused. Nobody looks whether this worker lives: it is this process."""
        return self.paused()

    # -- the books ---------------------------------------------------------------------------------

    def pace(self, name: str) -> Pace:
        """Return what is remembered of a limit."""
        return self._pages.paces.setdefault(name, Pace())

    def places(self, name: str) -> int:
        """Count the places that are taken."""
        return len(self._pages.places.get(name, ()))

    def has(self, place: Place) -> bool:
        """Whether this worker has that place."""
        return (self._owner, place.number) in self._pages.places.get(place.name, ())

    def write(self, place: Place) -> None:
        """Write a place down."""
        if place.max_concurrency is not None:
            self._pages.places.setdefault(place.name, {})[self._owner, place.number] = self.now
        self._pages.line.get(place.name, {}).pop(place.id, None)
        self._pages.turns.pop((place.name, place.id), None)

    def strike(self, place: Place) -> float | None:
        """Strike a place out."""
        return self._pages.places.get(place.name, {}).pop((self._owner, place.number), None)

    def turn(self, place: Place) -> float | None:
        """Return the moment that a call was told."""
        return self._pages.turns.get((place.name, place.id))

    def tell(self, place: Place, turn: float) -> None:
        """Remember the moment that it is told."""
        self._pages.turns[place.name, place.id] = turn
        self._pages.line.get(place.name, {}).pop(place.id, None)

    def line_up(self, place: Place) -> None:
        """Write down that a call wants a place."""
        self._pages.line.setdefault(place.name, {}).setdefault(place.id, place.priority)

    def fetch(self, name: str, count: int) -> None:
        """Have the best of those that wait come at once."""
        line = self._pages.line.get(name, {})
        for id in sorted(line, key=line.__getitem__, reverse=True):
            if count == 0:
                return
            row = self._wire.rows.get((name, id))
            if row is None:
                del line[id]  # it was cancelled
            elif self._wire.hasten(row):
                count -= 1

    # -- unique calls ------------------------------------------------------------------------------

    def register(self, call: UniqueCall, seconds: float) -> str:
        """Return the id of the call that has the key now."""
        with self._wire.changed:
            id, until = self._pages.unique.get((call.name, call.key), ("", 0.0))
            if id and (until > time() or (call.name, id) in self._wire.rows):
                return id
            self._pages.unique[call.name, call.key] = call.id, time() + seconds
            return call.id

    def confirm(self, calls: Sequence[UniqueCall], seconds: float) -> None:
        """Say that calls are sent."""
        with self._wire.changed:
            for call in calls:
                if self._pages.unique.get((call.name, call.key), ("",))[0] == call.id:
                    self._pages.unique[call.name, call.key] = call.id, time() + seconds

    def free(self, calls: Sequence[UniqueCall]) -> None:
        """Let go of the keys that these calls have."""
        with self._wire.changed:
            for call in calls:
                self._pages.free(call)

    # -- paused queues -----------------------------------------------------------------------------

    def pause(self, queue: str) -> None:
        """Have workers start nothing more of a queue."""
        with self._wire.changed:
            self._pages.paused.add(queue)

    def resume(self, queue: str) -> None:
        """Have them go on."""
        with self._wire.changed:
            self._pages.paused.discard(queue)

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        with self._wire.changed:
            return set(self._pages.paused)
