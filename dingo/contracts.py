"""The roles an App is made of: who calls them, from which thread, what may block and what may raise.

A broker is a Producer and a Consumer, a backend a Reporter and a Store; one object may take several roles. All
of them deal in batches, and in bytes: what is in a frame is `dingo.message.frame`'s business. The suites in
`dingo.testing.suites` say the same in code, and every implementation passes them.

    caller                                                      worker
    send(envelopes)  -> Producer ~~> Consumer -> claim(...) -> deliveries
    collect(reply)   <- Store    <~~ Reporter <- report(...)  or, where the consumer is the reporter too,
                                     Consumer <- settle(...)  with the reports in it, in one step
    hear(...)        <- Herald   <~~ Herald   <- tell(...)    what workers say of themselves; an app can do without
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.message.report import Report
    from dingo.message.task import Header, TaskMessage


class Role(enum.StrEnum):
    """What a component can be to an App."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    NAMED_CONSUMER = "named_consumer"
    REPORTER = "reporter"
    STORE = "store"
    HERALD = "herald"


@dataclass(slots=True)
class Envelope:
    """A task on its way to a queue. Times are seconds since the epoch.

    `frame` is all that a worker needs; the other fields repeat what a broker needs of it. `priority`: 9 first.
    `due`: not before; `reply`: the address of who wants the reports, "" for nobody.
    """

    queue: str
    id: str
    name: str
    frame: bytes
    priority: int = 4
    due: float | None = None
    reply: str = ""


@dataclass(slots=True)
class Delivery:
    """A task that a consumer has claimed and must settle.

    `token` is the broker's: it tells this claim from an earlier one of the same task, so that a late settling
    changes nothing. `suspect`: a worker died that had claimed it, and it may be why; its start is to be
    recorded with `Consumer.starting` before it runs.
    """

    envelope: Envelope
    token: Any
    suspect: bool = False
    starts: int = 0


@dataclass(slots=True)
class ReportEnvelope:
    """A report on its way to who waits for it.

    `final`: it is the last one of its call, to be kept `keep` seconds for whoever asks by id.
    """

    reply: str
    id: str
    name: str
    frame: bytes
    final: bool = False
    keep: float = 0.0


class Verdict(enum.Enum):
    """What becomes of a claimed task."""

    ACK = "ack"
    """It is done: forget it."""
    RETURN = "return"
    """It was not started: another worker may have it at once. No attempt is counted."""
    LATER = "later"
    """It is to come again when due (a retry, or parked for a worker that knows it), with a new frame if any."""


@dataclass(slots=True)
class Settlement:
    """The verdict on one delivery, with the reports and the tasks that go with it.

    Where the consumer is also the reporter, all of it happens or nothing does. Of a stale delivery (its claim
    was given to another worker) nothing happens. `frees`: the key of a unique call that has ended, to be free
    again in the same step. `sends`: tasks that take the place of the one that is acknowledged; where it is not one
    step they are sent first, so that they may be there twice and are not lost.
    """

    delivery: Delivery
    verdict: Verdict = Verdict.ACK
    reports: list[ReportEnvelope] = field(default_factory=list)
    due: float | None = None
    frame: bytes | None = None
    frees: str | None = None
    sends: list[Envelope] = field(default_factory=list)


@dataclass(slots=True)
class Place:
    """A place among those that may run of one task: what a claimed call of it wants, has, or gives back.

    `number` tells it from all others of its worker. `max_concurrency`: how many places there are, None: any
    number; `rate`: how many may be taken in a second, None: as many as there are.
    """

    name: str
    id: str
    number: str
    priority: int = 4
    max_concurrency: int | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """No place now: ask again in so many seconds.

    `exact`: the rate says so. Else it is a guess: there is a place when somebody gives his back.
    """

    seconds: float
    exact: bool = False


@dataclass(frozen=True, slots=True)
class UniqueCall:
    """A call that no other of that name and key may run beside."""

    name: str
    key: str
    id: str


class Component(Protocol):
    """What all components have in common."""

    def open(self, emit: Callable[..., None]) -> None:
        """Connect. `emit(level, code, message, payload)` tells what happens inside. Raises BrokerUnavailable."""

    def close(self) -> None:
        """Let go of everything, claims that were not settled too. Idempotent."""


@runtime_checkable
class Producer(Component, Protocol):
    """Gets tasks to a broker. Called by the app's sender thread alone.

    One with an attribute `max_message_bytes` takes frames of at most so many bytes; larger calls are refused.
    """

    def send(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope] | None:
        """Return when the broker is responsible for all of them; a task sent again under its id counts once.

        Returns those that were there already, if it can tell: their caller gets the result of the one that was first.
        Raises BrokerUnavailable (the same batch is sent again later) and SendUncertain (alike).
        """


@runtime_checkable
class Consumer(Component, Protocol):
    """Gets tasks from a broker. Called by the worker's I/O thread alone, but for `wake`.

    One with a method `starting_all(deliveries)`, which records the starts of several at once, has suspects run in
    groups; else they run one at a time. Raises BrokerUnavailable: then some of them may count as started.

    One with a true attribute `settles_aside` may be asked to `settle` by another thread, one at a time, while the I/O
    thread waits in `claim`.
    """

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` due tasks, best first; wait up to `wait` seconds for the first of them.

        Returns early, maybe empty, after `wake`. Raises BrokerUnavailable.
        """

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts. Return those that were stale. Raises BrokerUnavailable: all come again then."""

    def starting(self, delivery: Delivery) -> int:
        """Record the start of a suspect; return how many starts are recorded now."""

    def tend(self) -> list[Any]:
        """Say that this worker lives; return the tokens of its claims that are to be stopped (cancelled calls).

        Called about once a second, from a thread of its own: it must not depend on what tasks do.
        """

    def wake(self) -> None:
        """Make a waiting `claim` return. Called from any thread."""


@runtime_checkable
class NamedConsumer(Consumer, Protocol):
    """A consumer with a queue for each task name: a worker then gets only what it has registered.

    Its queues are called QUEUE.NAME. To them goes what an app sends whose Producer has the same attribute, or that has
    such a consumer attached too. Its worker serves the plain QUEUE after them: who knows nothing of this can call it.
    """

    named: bool
    """True. A component without this attribute is a plain Consumer."""


@runtime_checkable
class Reporter(Component, Protocol):
    """Gets reports to a backend. Called by the worker's I/O thread alone.

    One with an attribute `max_message_bytes` (known once it is open) takes frames of at most so many bytes; the worker
    ends a call whose report is larger FAILURE/BAD_RETURN.
    """

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Return when the backend is responsible for all of them. Raises BrokerUnavailable."""


@runtime_checkable
class Store(Component, Protocol):
    """Gets reports to callers, and answers questions about calls. `collect` is the receiver thread's alone.

    One with a true attribute `apart` is not where the tasks are: it knows only calls that have ended, and raises
    NotAttached when it is asked about others. One that nobody tells of reports may have a method `expect`: it is called
    when calls were sent. One whose server may come back from an outage without what it had has a method
    `unknown(calls)`: it is asked then which of the given (id, name) are not known any more.
    """

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return all new reports for this address, in order; wait up to `wait` seconds for the first.

        They come in packs: frames one behind the other, each behind its length (`dingo.message.frame.pack`).
        """

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call: its final frame if it has ended. None: nothing is."""

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call; whether there was something."""

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Withdraw a call that waits: True. Ask its worker to stop it: None. It has ended, or is unknown: False.

        `frame`: the final report of one that is withdrawn, for who waits for it, to be kept `keep` seconds, in the same
        step. Empty: nobody is told, nothing is kept.
        """

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls in a state ("waiting", "delayed"), in one queue or in all."""

    def wake(self) -> None:
        """Make a waiting `collect` return. Called from any thread."""


@runtime_checkable
class Herald(Component, Protocol):
    """Carries what workers say of themselves: that they live, and their events while somebody listens.

    Lossy: nothing waits for it, nothing of it is kept for long, and what it cannot carry is lost. All it carries is
    bytes, which others have made (`dingo.bridge.news`). `open` connects nothing. One thread of a worker calls
    `appear`, `wishes` and `tell`, one of a listener `wish` and `hear`, any thread `cards` and `close`. All raise
    BrokerUnavailable.

    One that hears of wishes as they come may have `rest(seconds)`, which a worker calls to wait for some (True: there
    may be), and `wake()`, which ends that.
    """

    def appear(self, owner: str, card: bytes, seconds: float) -> None:
        """Show a worker's card to the fleet for so many seconds; for 0 seconds: take it away."""

    def wishes(self) -> list[bytes]:
        """Return what listeners wish to hear at present. Called about once a second."""

    def tell(self, news: bytes) -> None:
        """Carry news to all who listen."""

    def wish(self, listener: str, wish: bytes, seconds: float) -> None:
        """Let workers know for so many seconds what a listener wishes to hear; for 0 seconds: nothing more."""

    def hear(self, listener: str, wait: float) -> list[bytes]:
        """Return the news that came since the last time; wait up to `wait` seconds for the first."""

    def cards(self) -> Iterator[bytes]:
        """Yield the cards of the workers that live."""


@dataclass(slots=True)
class StoredCall:
    """What a store knows of a call. `state`: "waiting", "delayed", "running" or "ended" (then with `frame`)."""

    id: str
    name: str
    state: str
    frame: bytes | None = None
    queue: str = ""
    due: float | None = None


class Ledger(Protocol):
    """What a fleet agrees upon: places, unique calls, paused queues. Each step happens or does not.

    A Reporter and a Store whose backend can do this have one, as their attribute `ledger`; without it limits over
    all workers and unique calls are refused. That of a Store is called by any thread, that of a Reporter by the
    worker's I/O thread and, `tend` alone, by its keeper. All of it raises BrokerUnavailable.
    """

    def exchange(self, left: Sequence[Place], waiting: Sequence[Place], wanted: Sequence[Place]) -> list[Wait | None]:
        """Give places back, and ask for others: the answers to `wanted`, in order; None: it has its place.

        A place is its worker's as long as that lives. Asked for again, after a lost answer, it counts once.
        `waiting`: calls in this very backend that were refused and wait for their time now: when a place is free
        they are made to come at once, the best and oldest first.
        """

    def tend(self) -> set[str]:
        """Say that the worker with these places lives; return the queues that are paused. Once a second."""

    def register(self, call: UniqueCall, seconds: float) -> str:
        """Return the id of the call that has the key now: this one, if none had it.

        It has the key for so many seconds, and as long as this backend holds the call.
        """

    def confirm(self, calls: Sequence[UniqueCall], seconds: float) -> None:
        """Say that calls are sent: those that have their key still have it for so many seconds from now."""

    def free(self, calls: Sequence[UniqueCall]) -> None:
        """Let go of the keys that these calls have."""

    def pause(self, queue: str) -> None:
        """Have workers start nothing more of a queue."""

    def resume(self, queue: str) -> None:
        """Have them go on."""

    def paused(self) -> set[str]:
        """Return the queues that are paused."""


class Marshaller(Protocol):
    """Values to bytes and back. Any thread may call it. `fn` is None where only the name is known.

    One whose reading may run what the bytes say has a true attribute `unpickles`: it reads from a broker only where
    `Config.accept_pickle` is set.
    """

    def prepare(self, name: str, fn: Callable[..., Any]) -> None:
        """See a task before anything of it is carried."""

    def encode_task(self, fn: Callable[..., Any] | None, task: TaskMessage) -> bytes:
        """Put the arguments into bytes. Raises BadArguments."""

    def decode_task(self, fn: Callable[..., Any] | None, header: Header, data: bytes) -> TaskMessage:
        """Read them again. Raises BadMessage, BadArguments."""

    def encode_report(self, fn: Callable[..., Any] | None, report: Report) -> bytes:
        """Put a report into bytes, but for its id and name. Raises BadReturn."""

    def decode_report(self, fn: Callable[..., Any] | None, header: Header, data: bytes) -> Report:
        """Read it again. Raises BadMessage."""


class Invoker(Protocol):
    """Runs functions, in the worker."""

    def invoke(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function and return what it returns."""

    def returned(self, fn: Callable[..., Any], value: Any) -> Any:
        """Turn what was returned into what is reported."""


class IDMaker(Protocol):
    """Makes ids of calls. Any thread may call it."""

    def new_id(self) -> str:
        """Return an id that no other call of the task has."""
