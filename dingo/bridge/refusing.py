"""Refusing: what becomes of messages that a worker has claimed and does not run.

park      another worker may be able to: it comes again, later and later, until its time is over
refuse    it ends here, without having run

Either way whoever waits for it is told in time, and its queue goes on.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from dingo.bridge.codec import sent_at
from dingo.contracts import Settlement, Verdict
from dingo.errors import BadMessage
from dingo.events import Level, Origin
from dingo.message.report import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.bridge.codec import Codec
    from dingo.config import Config
    from dingo.contracts import Delivery
    from dingo.events import Hub
    from dingo.message.report import Code

# A parked task comes back after this many seconds, then after twice as long ...
PARK_FIRST, PARK_MOST = 0.5, 10.0


class Refusals:
    """Makes the verdicts on what is not run, and tells of them. `settle(settlement)` takes each."""

    def __init__(self, config: Config, hub: Hub, codec: Codec, settle: Callable[[Settlement], object]) -> None:
        self.config = config
        self._hub = hub
        self._codec = codec
        self._settle = settle

    def park(self, delivery: Delivery, header: dict[str, Any], why: str, code: Code) -> None:
        """Leave a task to a worker that can run it, for a while; then refuse it."""
        now = time()
        try:
            age = now - sent_at(header)
        except BadMessage as error:
            self.refuse_told(delivery, header, Failure(code, message=f"{why}, and it is {error}"))
            return
        if abs(age) > self.config.unknown_task_seconds:  # from the future it would be left for ever
            why = f"{why}, and no other worker has taken it in {age:.0f} s"
            self.refuse(delivery, header, Failure(code, message=why))
            return
        delay = min(PARK_MOST, max(PARK_FIRST, age / 2))
        self._hub.emit(
            Origin.MAPPER, Level.WARNING, "message.parked",
            f"{delivery.envelope.name} {delivery.envelope.id} is left for another worker: {why}",
            {"id": delivery.envelope.id, "name": delivery.envelope.name, "delay": delay},
        )  # fmt: skip
        self._settle(Settlement(delivery, Verdict.LATER, due=now + delay))

    def refuse_told(self, delivery: Delivery, header: dict[str, Any], failure: Failure) -> None:
        """End a message that nobody can run, and tell of it."""
        self._hub.emit(
            Origin.CONSUMER, Level.ERROR, "message.refused", f"a message was refused: {failure.message}",
            {"id": delivery.envelope.id, "name": delivery.envelope.name, "failure": failure},
        )  # fmt: skip
        self.refuse(delivery, header, failure)

    def refuse(self, delivery: Delivery, header: dict[str, Any], failure: Failure) -> None:
        """End a task that cannot be run, without running it."""
        report = self._codec.refusal(delivery.envelope, failure, self.config.keep_result)
        key = header.get("u")
        self._settle(Settlement(delivery, Verdict.ACK, [report], frees=key if isinstance(key, str) else None))
