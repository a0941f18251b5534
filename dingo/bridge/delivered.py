"""RemoteJob: a delivery while it runs in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.contracts import Settlement, Verdict
from dingo.job import Job
from dingo.message.report import Report, Status

if TYPE_CHECKING:
    from dingo.bridge.codec import Codec
    from dingo.bridge.short import Incoming
    from dingo.contracts import Delivery
    from dingo.message.report import Failure, Progress

_SENT = Status.SENT
_WATCHED: Any = object()  # stands in a RemoteJob's `_watch`, so that its end always calls `wake`


class RemoteJob(Job):
    """A delivery while it runs here. Its end is not told to callers in this process but settled."""

    __slots__ = ("begun", "delivery", "incoming", "on_loop")

    begun: float  # when it was claimed (time.monotonic),
    on_loop: bool  # and whether it needs no thread

    def __init__(self, incoming: Incoming, args: Any, kwargs: Any, delivery: Delivery) -> None:
        # Spelt out again rather than called: this is run once per delivery.
        self._plan = incoming.plan_of_next()
        self._args = args
        self._kwargs = kwargs
        self._status = _SENT
        self._open = None
        self._id = delivery.envelope.id
        self._watch = _WATCHED
        self._detail = None
        self.delivery = delivery
        self.incoming = incoming

    @property
    def reply(self) -> str:
        """The address of who waits for its reports, "" for nobody."""
        return self.incoming.reply

    @property
    def queue(self) -> str:
        """The queue it waited in."""
        return self._plan.bridge.queue_of_delivery(self.delivery)  # type: ignore[attr-defined,no-any-return]

    def wake(self) -> None:
        """Hand its end over. One on which others are to follow is settled when those are sent."""
        option = self._plan.option
        if self._status is Status.CANCELLED or not (option.on_success or option.on_error):
            self._plan.bridge.settle_soon(self)  # type: ignore[attr-defined]

    def frame(self, codec: Codec) -> bytes:
        """Return what brought it."""
        del codec
        return self.delivery.envelope.frame

    def give_back(self) -> None:
        """Have it come again at once, for another worker."""
        self._plan.bridge.done(Settlement(self.delivery, Verdict.RETURN))  # type: ignore[attr-defined]

    def put_off(self, due: float, frame: bytes) -> None:
        """Have it come again when it is due, with another frame."""
        self._plan.bridge.done(Settlement(self.delivery, Verdict.LATER, due=due, frame=frame))  # type: ignore[attr-defined]

    def watch(self, *, latch: Any = None, callback: Any = None) -> bool:
        """Nobody in this process waits for it."""
        del latch, callback
        return True

    def mark(self, status: Status, value: Any = None, failure: Failure | None = None,
             progress: Progress | None = None) -> None:  # fmt: skip
        """Report it home, if it is asked for or said by the task itself."""
        self.detail().status = status
        if not self.ended and self.reply and (status is Status.PROGRESS or self._plan.option.monitor_progress):
            report = Report(self.id, self.name, status, value, failure, progress, self.attempt)
            self._plan.bridge.tell(self, report)  # type: ignore[attr-defined]

    def mark_started(self) -> None:
        """Report that it is here, and runs."""
        self.mark(Status.RECEIVED)
        self.mark(Status.STARTED)
