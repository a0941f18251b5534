"""Unpacking: a pack of calls in a worker, where each of them is a job of its own.

    Pack           what was delivered: settled once, when all its members have ended here
    PackedJob      one member: runs as any other job, and tells its pack of its end

What is to come again (a retry, what was given back) goes to the broker as a call of its own, under its own id, in
the same step in which the pack is acknowledged. So does everything in a pack that is a suspect, or that cannot be
read the short way: then the pack is only divided here.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from dingo.bridge.delivered import RemoteJob
from dingo.contracts import Envelope, Settlement, Verdict
from dingo.message import packed
from dingo.message.frame import decode, encode
from dingo.message.report import Status
from dingo.message.signing import unsealed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.bridge.codec import Codec
    from dingo.bridge.short import Incoming
    from dingo.contracts import Delivery

_SUCCESS = Status.SUCCESS


class PackedJob(RemoteJob):
    """One call of a pack."""

    __slots__ = ("index", "pack")

    def __init__(self, pack: Pack, index: int, args: tuple[Any, ...]) -> None:
        super().__init__(pack.incoming, args, None, pack.delivery)
        self._id = packed.member_id(pack.delivery.envelope.id, index)
        self.pack = pack
        self.index = index

    def wake(self) -> None:
        """Tell its pack of its end."""
        self.pack.ended()

    def frame(self, codec: Codec) -> bytes:
        """Return what would have brought it alone."""
        return divided(self.delivery.envelope, codec)[self.index].frame

    def give_back(self) -> None:
        """Have it come again at once, for another worker."""
        self.pack.come_again(self.index, None, b"")

    def put_off(self, due: float, frame: bytes) -> None:
        """Have it come again when it is due."""
        self.pack.come_again(self.index, due, frame)


class Pack:
    """A delivery of several calls while they run here."""

    __slots__ = ("_again", "_ended", "begun", "delivery", "incoming", "jobs", "on_loop")

    begun: float
    on_loop: bool

    def __init__(self, incoming: Incoming, delivery: Delivery, several: Sequence[tuple[Any, ...]]) -> None:
        self.incoming = incoming
        self.delivery = delivery
        self.jobs = [PackedJob(self, index, args) for index, args in enumerate(several)]
        self._again: dict[int, tuple[float | None, bytes]] = {}
        self._ended = itertools.count(1)  # counts in one step, whatever thread asks

    def ended(self) -> None:
        """Note that one more member has ended here; the last one has the pack settled."""
        if next(self._ended) == len(self.jobs):
            self.incoming.plan.bridge.done(self)  # type: ignore[attr-defined]

    def come_again(self, index: int, due: float | None, frame: bytes) -> None:
        """Note that a member is to come again, with another frame if any."""
        self._again[index] = due, frame
        self.ended()

    def settlement(self, codec: Codec) -> Settlement:
        """Make the verdict on all of it. Asks `codec` for what is reported."""
        if not self._again and (report := codec.successes(self)) is not None:
            return Settlement(self.delivery, Verdict.ACK, [report])
        if len(self._again) == len(self.jobs) and not any(frame for _, frame in self._again.values()):
            return Settlement(self.delivery, Verdict.RETURN)
        reports = [codec.final_report(job) for job in self.jobs if job.index not in self._again]
        return Settlement(self.delivery, Verdict.ACK, reports, sends=self._sends(codec))

    def _sends(self, codec: Codec) -> list[Envelope]:
        if not self._again:
            return []
        singles = divided(self.delivery.envelope, codec)
        sends = []
        for index, (due, frame) in self._again.items():
            single = singles[index]
            single.due = due
            single.frame = frame or single.frame
            sends.append(single)
        return sends

    def values(self) -> list[Any] | None:
        """Return the values of all, if all have succeeded at the first attempt."""
        if all(job._status is _SUCCESS and job._detail is None for job in self.jobs):
            return [job._value for job in self.jobs]
        return None


def divided(envelope: Envelope, codec: Codec) -> list[Envelope]:
    """Return the calls of a pack as they would travel alone. Raises BadMessage."""
    header, body = decode(unsealed(envelope.frame))
    header.pop("k", None)
    singles = []
    for index, arguments in enumerate(packed.member_arguments(body)):
        call_id = packed.member_id(envelope.id, index)
        frame = codec.answered(encode(header | {"id": call_id}, arguments), envelope.frame)
        singles.append(Envelope(envelope.queue, call_id, envelope.name, frame, envelope.priority, None, envelope.reply))
    return singles
