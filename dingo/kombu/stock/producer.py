"""StockProducer: tasks to queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo.kombu.stock.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.config import Config
    from dingo.contracts import Envelope


class StockProducer(Part):
    """Publishes tasks."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._sent: set[tuple[str, str]] = set()

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Publish a batch, one by one. What was published is not sent again when the batch is."""
        if not envelopes:
            return
        with self._talking():
            for one in envelopes:
                if (one.name, one.id) not in self._sent:
                    self._put(one, one.due)
                    self._sent.add((one.name, one.id))
        self._sent.clear()
