"""Tasks to RabbitMQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo.kombu.amqp.connection import CONNECT_SECONDS
from dingo.kombu.amqp.errors import ERRORS, UnconfirmedError
from dingo.kombu.amqp.messages import key_of, task_message
from dingo.kombu.amqp.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.contracts import Envelope


class AmqpProducer(Part):
    """Publishes tasks."""

    _heartbeat = 0  # its thread sleeps while nothing is to be sent, and nothing is lost with its connection

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, connect_seconds)
        self._confirmed: set[tuple[str, str]] = set()

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Publish a batch, and return when the server has confirmed it. What was confirmed is not sent again."""
        left = [one for one in envelopes if key_of(one) not in self._confirmed] if self._confirmed else envelopes
        if left:
            self._look()
            with self._talking() as link:
                try:
                    link.publish([task_message(link, one, due=one.due) for one in left])
                except UnconfirmedError as error:
                    self._confirmed |= {key_of(left[index]) for index in error.confirmed}
                    raise
        self._confirmed.clear()

    def _look(self) -> None:
        """Let go of a connection that was lost while nothing was sent, so that the next is made at once."""
        with self._busy:
            if self._link is not None:
                try:
                    self._link.pump(0)
                except ERRORS:
                    self._drop()
