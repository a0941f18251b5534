"""Places: the limits of a fleet, as its workers keep them.

A claimed call of a limited task asks for a place before it goes into a pool, all that were claimed together in one
exchange with the ledger. One that gets none goes back to the broker until it may find one, so that it stands in
nobody's way. A place is given back when the function has returned (`dingo.worker.attempt`), or when a call that had
one ends without having run.

    I/O thread      claim -> want -> turn: exchange -> run, or settle LATER (and, if the tasks are there too, line up)
    pool            the function returns -> Held.leave -> the I/O thread is woken -> turn
"""

from __future__ import annotations

import random
from collections import deque
from time import time
from typing import TYPE_CHECKING, Any

from dingo.bridge.ledger import HORIZON
from dingo.contracts import Place, Settlement, Verdict, Wait
from dingo.errors import BrokerUnavailable, NotAttached

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.bridge.delivered import RemoteJob
    from dingo.contracts import Ledger
    from dingo.job import Job
    from dingo.message.option import Option

# Where giving a place back fetches those that wait, they come by themselves only for the case that whoever had it
# died: after so many seconds, and then so much further apart than those who have to come by themselves.
BY_ITSELF = 5.0
APART = 20
# What got no place takes no room: so many more tasks than there is room for are claimed then at most, lest those that
# stand behind ten thousand limited ones wait for long.
FLOOD_MOST = 500
# How many calls that were put off are remembered before those that others have run are forgotten.
MOST_AWAY = 10_000
# What counts over all workers, and so needs a ledger.
_COUNTED = ("unique", "rate_limit", "max_concurrency")


def check_counted(name: str, option: Option, ledger: Ledger | None) -> None:
    """Raise NotAttached where a task asks for what nobody here can count."""
    if ledger is not None:
        return
    for one in _COUNTED:
        if getattr(option, one) is not None:
            raise NotAttached(
                f"task {name!r}: option {one!r} counts over all workers, and the backend of this app cannot count: "
                'add one that can, as in App(broker, backend="redis://host") or backend="sqlite:///jobs.db"'
            )


def is_limited(option: Option) -> bool:
    """Whether calls with these options need a place."""
    return option.max_concurrency is not None or option.rate_limit is not None


class FleetLimit:
    """Stands where a plan's Limit does in a local app: its places are asked for before a call comes to a pool."""

    def enter(self, job: Job) -> bool:
        """Give a call back that came to a pool before the task had limits: it then comes again, with a place."""
        job._plan.bridge.give_back(job)  # type: ignore[attr-defined]
        return False


class Held:
    """A place that a call has."""

    __slots__ = ("_give_back", "_place")

    def __init__(self, place: Place, give_back: Callable[[Place], None]) -> None:
        self._place = place
        self._give_back = give_back

    def leave(self) -> None:
        """Give it back. Called from any thread; starts that a rate allowed are gone for good."""
        if self._place.max_concurrency is not None:
            self._give_back(self._place)


class Places:
    """One worker's dealings with the ledger. All of it is the I/O thread's, but for `left`, to which anyone appends.

    `here`: whether the ledger is where the tasks are. `run` takes a call with its place; `settle` what goes back.
    """

    def __init__(self, ledger: Ledger, *, here: bool, run: Callable[[Any], None],
                 settle: Callable[[list[Settlement]], None], give_back: Callable[[Place], None]) -> None:  # fmt: skip
        self.left: deque[Place] = deque()
        self._ledger = ledger
        self._here = here
        self._run = run
        self._settle = settle
        self._give_back = give_back
        self.names: set[str] = set()
        """The tasks whose calls have wanted places."""
        self._numbers = 0
        self._flood = 0
        self._wanted: list[tuple[RemoteJob, Place]] = []
        self._refused: list[tuple[RemoteJob, Place, Wait]] = []
        self._waiting: list[Place] = []
        self._away: dict[tuple[str, str], float] = {}  # what was put off here and has not come again: when it is due

    @property
    def busy(self) -> bool:
        """Whether calls that were put off here are still to come."""
        now = time()
        return any(due > now for due in list(self._away.values()))

    def flood(self) -> int:
        """Return how many more tasks than there is room for to claim now: most of the last ones got no place."""
        flood, self._flood = self._flood, 0
        return flood

    def want(self, job: RemoteJob) -> None:
        """Have a claimed call run when it has a place: in the next turn, or when it comes again."""
        option, envelope = job._plan.option, job.delivery.envelope
        self._numbers += 1
        self.names.add(envelope.name)
        self._away.pop((envelope.name, envelope.id), None)
        place = Place(
            envelope.name, envelope.id, str(self._numbers), envelope.priority, option.max_concurrency, option.rate_limit
        )
        self._wanted.append((job, place))

    def turn(self) -> None:
        """Give back, ask, and put off what got no place. Raises BrokerUnavailable: the next turn goes on from there."""
        if self._wanted or self.left:
            self._exchange()
        if self._refused:
            self._put_off()
        if self._waiting:
            self._ledger.exchange((), self._waiting, ())
            self._waiting = []

    def _exchange(self) -> None:
        left = [self.left.popleft() for _ in range(len(self.left))]
        try:
            answers = self._ledger.exchange(left, (), [place for _, place in self._wanted])
        except BrokerUnavailable:
            self.left.extendleft(reversed(left))
            raise
        wanted, self._wanted = self._wanted, []
        for (job, place), wait in zip(wanted, answers, strict=True):
            if wait is None:
                job.detail().place = Held(place, self._give_back)
                self._run(job)
            else:
                self._refused.append((job, place, wait))
        if self._here and 2 * len(self._refused) > len(wanted):
            self._flood = min(FLOOD_MOST, 2 * len(self._refused))

    def _put_off(self) -> None:
        now = time()
        batch = [
            Settlement(job.delivery, Verdict.LATER, due=now + self._seconds(wait)) for job, _, wait in self._refused
        ]
        self._settle(batch)
        if len(self._away) > MOST_AWAY:  # others run them
            self._away = {call: due for call, due in self._away.items() if due > now}
        self._away.update(
            {(place.name, place.id): one.due or 0.0 for (_, place, _), one in zip(self._refused, batch, strict=True)}
        )
        if self._here:  # only now do they wait for their time, and can be fetched
            self._waiting += [place for _, place, wait in self._refused if not wait.exact]
        self._refused = []

    def _seconds(self, wait: Wait) -> float:
        seconds = wait.seconds
        if self._here and not wait.exact:
            seconds = BY_ITSELF + APART * seconds
        return seconds * random.uniform(0.5, 1.5) if seconds >= HORIZON else seconds  # noqa: S311 - spreads them
