"""Sent: the calls that the broker has and that have not ended, for a broker whose server may lose its memory.

A server without persistence comes back empty, one that writes now and then comes back with an older state. Whoever
still waits then sends again what is gone, so that it is lost only where caller and server die together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.message import packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dingo.bridge.packing import Departing, PackedCalls
    from dingo.contracts import Envelope
    from dingo.job import Job

# Larger calls are not kept: of 100,000 that wait, a caller would not have the memory (bytes).
KEPT_MOST = 2048


class Sent:
    """What was sent. The sender notes it, whoever ends a call drops it, the receiver asks what is gone."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._calls: dict[tuple[str, str], tuple[Job | PackedCalls, Envelope | None]] = {}
        self._doubtful: Sequence[tuple[str, str]] = ()

    def note(self, calls: Iterable[Departing]) -> None:
        """Remember calls that the broker has taken. One may have ended before this is noted."""
        for job, envelope in calls:
            call, most = (envelope.id, envelope.name), KEPT_MOST * (packed.size_of(envelope.id) or 1)
            self._calls[call] = job, (envelope if len(envelope.frame) <= most else None)
            if job.ended:
                self._calls.pop(call, None)

    def drop(self, job: Job | PackedCalls) -> None:
        """Forget a call that has ended."""
        self._calls.pop((job._id or "", job.name), None)

    def doubt(self) -> None:
        """After an outage, ask the server which calls it does not know any more. Raises BrokerUnavailable."""
        known = list(self._calls)
        self._doubtful = self._store.unknown(known) if known else ()

    def lost(self) -> tuple[list[Departing], list[Job | PackedCalls]]:
        """Return, once, what is gone: what is to be sent again, and what cannot or must not be.

        To be asked when no more reports come: of what was doubtful, some may just have ended.
        """
        again: list[Departing] = []
        over: list[Job | PackedCalls] = []
        for call in self._doubtful:
            job, envelope = self._calls.get(call, (None, None))
            if job is not None and envelope is not None and job._plan.option.redeliver:
                again.append((job, envelope))
            elif job is not None:
                over.append(job)
        self._doubtful = ()
        return again, over
