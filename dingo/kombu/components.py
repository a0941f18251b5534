"""Producer, Consumer, NamedConsumer, Reporter and Store, each from a URL, and Broker and Backend, which are two in one.

For those who attach roles by hand with `app.use`; `app.connect` does the same and, where broker and backend are one,
settles a task and its report in one step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.kombu import urls
from dingo.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dingo.config import Config
    from dingo.contracts import Delivery, Envelope, Ledger, ReportEnvelope, Settlement, StoredCall


class _Part:
    """What all have in common: the URL, and the component of the transport behind it."""

    _make: Callable[[str, Config | None], Any]

    def __init__(self, url: str, config: Config | None = None) -> None:
        self._behind = type(self)._make(url, config)
        self._url = url

    def __repr__(self) -> str:
        """What it is and where, without credentials."""
        return f"<{type(self).__name__} {mask_url(self._url)}>"

    def open(self, emit: Callable[..., None]) -> None:
        """Connect. Raises BrokerUnavailable."""
        self._behind.open(emit)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._behind.close()

    @property
    def ledger(self) -> Ledger | None:
        """What counts for all workers, where the backend can."""
        ledger: Ledger | None = getattr(self._behind, "ledger", None)
        return ledger


class Producer(_Part):
    """Gets tasks to the broker. `named`: to a queue for each task name, for workers with a NamedConsumer."""

    _make = staticmethod(urls.producer)

    def __init__(self, url: str, config: Config | None = None, *, named: bool = False) -> None:
        super().__init__(url, config)
        self.named = named

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Return when the broker is responsible for all of them. Raises BrokerUnavailable, SendUncertain."""
        self._behind.send(envelopes)


class Consumer(_Part):
    """Gets tasks from the broker: one queue, dispatched by name."""

    _make = staticmethod(urls.worker)

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` due tasks; wait up to `wait` seconds for the first. Raises BrokerUnavailable."""
        claimed: list[Delivery] = self._behind.claim(queues, room, wait)
        return claimed

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts; return the stale ones. Raises BrokerUnavailable."""
        for one in settlements:
            one.reports = []  # the Reporter has published them already
        stale: list[Settlement] = self._behind.settle(settlements)
        return stale

    def starting(self, delivery: Delivery) -> int:
        """Record the start of a suspect; return how many starts are recorded now."""
        return int(self._behind.starting(delivery))

    def tend(self) -> list[Any]:
        """Say that this worker lives; return the claims that are to be stopped."""
        return list(self._behind.tend())

    def wake(self) -> None:
        """Make a waiting `claim` return."""
        self._behind.wake()


class NamedConsumer(Consumer):
    """Gets tasks from the broker: a queue for each task name, so that a worker gets only what it has registered."""

    named = True


class Reporter(_Part):
    """Gets reports to the backend."""

    _make = staticmethod(urls.reporter)

    @property
    def max_message_bytes(self) -> int | None:
        """How many bytes a report may have; None: as many as it likes. Known once it is open."""
        return _largest(self._behind)

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Return when the backend is responsible for all of them. Raises BrokerUnavailable."""
        self._behind.report(reports)


class Store(_Part):
    """Gets reports to callers, and answers questions about calls."""

    _make = staticmethod(urls.store)

    @property
    def apart(self) -> bool:
        """Whether it knows only calls that have ended."""
        return bool(getattr(self._behind, "apart", False))

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return packs of new reports for this address. Raises BrokerUnavailable."""
        return list(self._behind.collect(reply, wait))

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call."""
        known: StoredCall | None = self._behind.fetch(id, name)
        return known

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call; whether there was something."""
        return bool(self._behind.forget(id, name))

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Withdraw a call that waits: True; ask its worker to stop it: None; it has ended, or is unknown: False."""
        withdrawn: bool | None = self._behind.cancel(id, name, frame, keep)
        return withdrawn

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls in a state."""
        return list(self._behind.calls(state, queue))

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        self._behind.wake()

    def expect(self) -> None:
        """Look often from now on, if it has to look for reports."""
        expect = getattr(self._behind, "expect", None)
        if expect is not None:
            expect()


class Broker(Consumer):
    """Producer and Consumer."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._producer = urls.producer(url, config)

    def open(self, emit: Callable[..., None]) -> None:
        """Connect. Raises BrokerUnavailable."""
        super().open(emit)
        self._producer.open(emit)

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Return when the broker is responsible for all of them. Raises BrokerUnavailable, SendUncertain."""
        self._producer.send(envelopes)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        super().close()
        self._producer.close()


class Backend(Store):
    """Reporter and Store."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._reporter = urls.reporter(url, config)

    @property
    def max_message_bytes(self) -> int | None:
        """How many bytes a report may have; None: as many as it likes. Known once it is open."""
        return _largest(self._reporter)

    def open(self, emit: Callable[..., None]) -> None:
        """Connect. Raises BrokerUnavailable."""
        super().open(emit)
        self._reporter.open(emit)

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Return when the backend is responsible for all of them. Raises BrokerUnavailable."""
        self._reporter.report(reports)

    @property
    def ledger(self) -> Ledger | None:
        """What counts for all workers, where the backend can: with places of its own."""
        ledger: Ledger | None = getattr(self._reporter, "ledger", None)
        return ledger

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        super().close()
        self._reporter.close()


def _largest(reporter: Any) -> int | None:
    largest: int | None = getattr(reporter, "max_message_bytes", None)
    return largest
