"""StockWorker: tasks claimed, and settled with their reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, Verdict
from dingo.errors import BrokerUnavailable
from dingo.kombu.stock.messages import envelope_of
from dingo.kombu.stock.part import POLL_FIRST, Part
from dingo.kombu.stock.place import KEEP
from dingo.kombu.stock.queues import LOOK_EVERY, later_queue, reply_queue, task_queue
from dingo.store.mail import packs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dingo.config import Config

# How many delayed tasks are looked at before tasks that are due are claimed again.
LOOK_AT_ONCE = 100
# After how long another caller's call of an id that this worker holds comes again (seconds).
NAMESAKES_AFTER = 0.5
# Larger packs of reports are divided (bytes).
PACK_LIMIT = 64 * 1024


@dataclass(slots=True, eq=False)
class _Claim:
    """The token of a delivery: good for one channel, until it is settled.

    `reply`: who called. `messages`: all that brought this task, which are acknowledged together. `started`: they were
    before its start.
    """

    channel: Any
    reply: str
    messages: list[Any]
    since: float
    started: bool = False
    settled: bool = False


class StockWorker(Part):
    """Consumer and Reporter."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._held: dict[tuple[str, str], _Claim] = {}
        self._looks: dict[tuple[str, int], float] = {}

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, so that a wrong URL is told at once. Raises BrokerUnavailable."""
        super().open(emit)
        with self._talking():
            pass
        scheme = self._place.scheme
        if scheme not in KEEP:
            text = f"kombu's {scheme} deletes messages when they are fetched: a task whose worker dies is lost"
            emit(30, "broker.forgets", text, {"scheme": scheme})

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the first queue first."""
        until = monotonic() + wait
        wanted = room > 0 and bool(queues)
        while True:
            if wanted and (claimed := self._claim_now(queues, room)):
                self._pause = POLL_FIRST
                return claimed
            if not self._rest(until):
                return []

    def _claim_now(self, queues: Sequence[str], room: int) -> list[Delivery]:
        claimed: list[Delivery] = []
        with self._talking():
            for queue in queues:
                if not self._place.traits.delay_most:
                    self._look_later(queue)
                source = self._queue(task_queue(queue))
                while len(claimed) < room and (message := self._get(source)) is not None:
                    delivery = self._take(queue, message)
                    if delivery is not None:
                        claimed.append(delivery)
        return claimed

    def _take(self, queue: str, message: Any) -> Delivery | None:
        """Claim a message, unless it is early, or this worker has its task already."""
        envelope = envelope_of(queue, message)
        if envelope.due is not None and envelope.due > time():
            self._put(envelope, envelope.due)
            message.ack()
            return None
        key = (envelope.name, envelope.id)
        held = self._held.get(key)
        if held is not None and envelope.id:
            if held.reply == envelope.reply:
                self._bring_again(held, message)
            else:  # another caller's, which has to wait for this one
                self._put(envelope, time() + NAMESAKES_AFTER)
                message.ack()
            return None
        claim = self._held[key] = _Claim(self._channel, envelope.reply, [message], monotonic())
        return Delivery(envelope, claim)

    def _bring_again(self, held: _Claim, message: Any) -> None:
        """Note that a task has come again that still runs here: it was sent twice, or its connection was lost."""
        if held.started:
            message.ack()
        elif held.channel is self._channel:
            held.messages.append(message)
        else:
            held.channel, held.messages = self._channel, [message]

    def _look_later(self, queue: str) -> None:
        """Move on those tasks whose time has come, or is nearer than it was."""
        now = monotonic()
        for level, every in enumerate(LOOK_EVERY):
            if now < self._looks.get((queue, level), 0.0):
                continue
            moved = 0
            source = self._queue(later_queue(queue, level))
            early: list[tuple[Envelope, Any]] = []
            for _ in range(LOOK_AT_ONCE):
                message = self._get(source)
                if message is None:
                    break
                envelope = envelope_of(queue, message)
                if envelope.due is None or envelope.due <= time():
                    self._put(envelope, None)
                    message.ack()
                    moved += 1
                else:
                    early.append((envelope, message))
            for envelope, message in early:  # to the end of the line, where the others have been looked at
                self._put(envelope, envelope.due)
                message.ack()
            self._looks[queue, level] = now + (0.0 if moved + len(early) == LOOK_AT_ONCE and moved else every)

    # -- settling --------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Publish reports and what is to come again, then acknowledge; return the stale ones."""
        if not settlements:
            return []
        good = [one for one in settlements if self._is_ours(one.delivery.token)]
        if good:
            with self._talking():
                self._publish_reports([report for one in good for report in one.reports])
                for one in good:
                    self._carry_out(one)
                    one.delivery.token.settled = True
        for one in settlements:
            key = (one.delivery.envelope.name, one.delivery.envelope.id)
            if self._held.get(key) is one.delivery.token:
                del self._held[key]
        kept = {id(one) for one in good}
        return [one for one in settlements if id(one) not in kept]

    def _is_ours(self, claim: _Claim) -> bool:
        return not claim.settled and (claim.started or claim.channel is self._channel)

    def _carry_out(self, one: Settlement) -> None:
        claim: _Claim = one.delivery.token
        envelope = one.delivery.envelope
        if one.verdict is Verdict.RETURN and not claim.started:
            first, *others = claim.messages
            first.reject(requeue=True)
            for message in others:
                message.ack()
            return
        if one.verdict is not Verdict.ACK:
            if one.frame is not None:
                envelope.frame = one.frame
            self._put(envelope, one.due if one.verdict is Verdict.LATER else None)
        for task in one.sends:
            self._put(task, task.due)
        if not claim.started:
            for message in claim.messages:
                message.ack()

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on."""
        if reports:
            with self._talking():
                self._publish_reports(reports)

    def _publish_reports(self, reports: Sequence[ReportEnvelope]) -> None:
        """Put reports for the same caller into one message, unless it grows too large."""
        unclaimed: set[str] = set()
        for reply, data in packs(reports, PACK_LIMIT):
            if reply in unclaimed:
                continue
            try:
                self._publish(reply_queue(reply), data, {})
            except Exception as error:
                gone = self._place.traits.gone
                if gone is None or not gone(error):
                    raise
                unclaimed.add(reply)
                self._emit(10, "report.unclaimed", f"nobody waits at {reply} any more", {"reply": reply})

    def starting(self, delivery: Delivery) -> int:
        """Acknowledge a task before it starts: nothing here counts starts, so only that keeps it from a second one."""
        claim: _Claim = delivery.token
        if not claim.started:
            with self._talking() as channel:
                if claim.settled or claim.channel is not channel:
                    raise BrokerUnavailable(f"{self._place.url}: the claim went with its connection")
                for message in claim.messages:
                    message.ack()
                claim.started = True
        return delivery.starts + 1

    def tend(self) -> list[Any]:
        """Keep what is held from others, where the broker sets a time for that. Nobody can ask to stop a call."""
        renew, channel = self._place.traits.renew, self._channel
        if renew is None or channel is None:
            return []
        now = monotonic()
        for claim in list(self._held.values()):
            if claim.channel is channel and not claim.started and now - claim.since > self._lease / 3:
                try:
                    for message in list(claim.messages):
                        renew(channel, message, math.ceil(self._lease))
                except Exception as error:
                    if not claim.settled:  # else it was acknowledged meanwhile
                        raise BrokerUnavailable(f"{self._place.url}: {type(error).__name__}: {error}") from error
                claim.since = now
        return []

    def close(self) -> None:
        """Put back what was claimed, and close the connection."""
        super().close()
        self._held.clear()
