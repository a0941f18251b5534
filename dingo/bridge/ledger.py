"""The arithmetic of limits over a fleet: when a place may be taken, and when to ask for it again.

Whoever keeps the books (`Books`) makes one exchange one step, so that of many workers each sees what the one before
has done. A call that finds no place goes back to the broker until it may find one:

* by the rate, each is told a moment of its own, one after the other, so that few come in vain;
* for a place, it is told to come by itself only now and then, since where the backend has the call too, giving a
  place back fetches the best of those that wait.

So ten thousand calls that wait for one place cost a few claims a second, not ten thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dingo.contracts import Place, Wait

if TYPE_CHECKING:
    from collections.abc import Sequence

# Starts that a worker was too late for may be caught up with within this time (seconds): no worker looks at a
# limit more often than every few milliseconds.
BURST = 0.1
# Nobody is told to wait longer (seconds): those who wait may be cancelled, and then nobody comes for their turns.
HORIZON = 120.0
# How far apart those who wait for a place are told to come, by how long places are held (seconds).
STEP_LEAST, STEP_MOST = 0.005, 0.1
# Nobody is told to come back for a place sooner (seconds).
SOON = 0.05
# How much the newest time that a place was held counts in their mean.
HELD_SHARE = 0.2


@dataclass(slots=True)
class Pace:
    """What is remembered of one limit. Times are seconds since the epoch, by the clock of the books.

    next: when the next start may be. first, again: the last turn given to those who were refused once, and to those
    who had their turn and were refused again. line: the same for places. held: how long they are held, on average.
    interval: what the turns were spaced by.
    """

    next: float = 0.0
    first: float = 0.0
    again: float = 0.0
    line: float = 0.0
    held: float = 0.0
    interval: float = 0.0

    def start(self, rate: float, now: float) -> bool:
        """Take one of the starts that the rate allows. False: there is none now."""
        interval = 1 / rate
        if interval != self.interval:  # the limit was changed: turns by the old one mean nothing
            self.interval, self.first, self.again = interval, now, now
        self.next = min(self.next, now + interval)  # the clock was set back, or the rate raised
        if now < self.next:
            return False
        late = BURST if interval < BURST / 2 else min(BURST, interval / 4)
        self.next = max(self.next, now - late) + interval
        return True

    def turn(self, now: float, *, had_one: bool) -> float | None:
        """Return the moment to come for a start. None: too many have one already."""
        last = self.again if had_one else self.first
        if last > now + HORIZON:
            return None
        turn = max(last + self.interval, self.next)
        if had_one:
            self.again = turn
        else:
            self.first = turn
        return turn

    def come_again(self, places: int, now: float) -> float:
        """Return in how many seconds to come for a place."""
        if self.line > now + HORIZON:
            return HORIZON
        self.line = max(self.line, now) + min(STEP_MOST, max(STEP_LEAST, self.held / places))
        return max(SOON, self.line - now)

    def given_back(self, seconds: float) -> None:
        """Note how long a place was held."""
        self.held = seconds if self.held == 0.0 else self.held * (1 - HELD_SHARE) + seconds * HELD_SHARE


class Books(Protocol):
    """Where places and turns are written down; one exchange at a time has them."""

    now: float

    def pace(self, name: str) -> Pace:
        """Return what is remembered of a limit, to be changed."""

    def places(self, name: str) -> int:
        """Count the places that living workers have."""

    def has(self, place: Place) -> bool:
        """Whether this worker has that place already."""

    def write(self, place: Place) -> None:
        """Write down that this worker has a place, and that the call waits no more."""

    def strike(self, place: Place) -> float | None:
        """Strike a place out; return since when it was held. None: it was not."""

    def turn(self, place: Place) -> float | None:
        """Return the moment that a call was told."""

    def tell(self, place: Place, turn: float) -> None:
        """Remember the moment that it is told. It does not wait for a place now."""

    def line_up(self, place: Place) -> None:
        """Write down that a call waits for its time, and wants a place."""

    def fetch(self, name: str, count: int) -> None:
        """Have so many of those come at once, the best and oldest first."""


def exchange(books: Books, left: Sequence[Place], waiting: Sequence[Place],
             wanted: Sequence[Place]) -> list[Wait | None]:  # fmt: skip
    """Do what `Ledger.exchange` promises, in these books."""
    for place in left:
        since = books.strike(place)
        if since is not None:
            books.pace(place.name).given_back(max(0.0, books.now - since))
    answers = [_ask(books, place) for place in wanted]
    for place in waiting:
        books.line_up(place)
    limits = {place.name: place.max_concurrency for place in (*left, *waiting)}
    for name, most in limits.items():
        free = 0 if most is None else most - books.places(name)
        if free > 0:
            books.fetch(name, free)
    return answers


def _ask(books: Books, place: Place) -> Wait | None:
    most, now = place.max_concurrency, books.now
    if most is not None:
        if books.has(place):
            return None
        if books.places(place.name) >= most:
            return Wait(books.pace(place.name).come_again(most, now))
    if place.rate is not None and (wait := _start(books, place, place.rate)) is not None:
        return wait
    books.write(place)
    return None


def _start(books: Books, place: Place, rate: float) -> Wait | None:
    pace, now = books.pace(place.name), books.now
    if pace.start(rate, now):
        return None
    told = books.turn(place)
    if told is not None and told > now:
        return Wait(told - now, exact=True)
    turn = pace.turn(now, had_one=told is not None)
    if turn is None:
        return Wait(HORIZON, exact=True)
    books.tell(place, turn)
    return Wait(max(0.0, turn - now), exact=True)
