"""Reports from RabbitMQ."""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import TYPE_CHECKING

from dingo.errors import BrokerUnavailable, NotAttached
from dingo.kombu.amqp.connection import CONNECT_SECONDS
from dingo.kombu.amqp.part import Part

if TYPE_CHECKING:
    from dingo.contracts import StoredCall
    from dingo.kombu.amqp.frames import Message
    from dingo.kombu.amqp.link import Link

# How many messages with reports may be on their way.
PREFETCH = 1000

_NO_STORE = (
    "RabbitMQ keeps nothing of single calls, so it cannot {what}: "
    'add a redis or sqlite backend (option "backend") that does'
)


class AmqpStore(Part):
    """Gets reports. It can look nothing up: RabbitMQ hands messages on and keeps none."""

    apart = True

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, connect_seconds)
        self._replies: dict[str, str] = {}
        self._packs: dict[str, list[Message]] = {}

    def _connect(self) -> Link:
        self._replies, self._packs = {}, {}
        return super()._connect()

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address."""
        until = monotonic() + wait
        with self._talking_surely() as link:
            self._listen(link, reply)
            while True:
                while link.inbox:
                    message = link.inbox.popleft()
                    self._packs[self._replies[message.consumer]].append(message)
                packs, self._packs[reply] = self._packs[reply], []
                link.ack([one.tag for one in packs])
                left = until - monotonic()
                if packs or link.woken or left <= 0:
                    link.woken = False
                    return [one.body for one in packs]
                link.pump(left)

    def _listen(self, link: Link, reply: str) -> None:
        queue = link.queues.reply(reply)
        if reply not in self._packs:
            self._packs[reply] = []
            tag = f"r{len(self._replies)}"
            self._replies[tag] = reply
            link.prefetch(PREFETCH)
            link.consume(queue, tag)

    def close(self) -> None:
        """Delete the reply queues, unless there are still reports for somebody, and close the connection."""
        self.wake()
        with self._busy:
            if self._link is not None:
                # A queue that cannot be deleted goes by itself in time.
                with contextlib.suppress(BrokerUnavailable), self._talking_surely() as link:
                    for tag, reply in self._replies.items():
                        link.cancel(tag)
                        link.queues.delete_reply(reply)
        super().close()

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Raise NotAttached."""
        del id, name
        raise NotAttached(_NO_STORE.format(what="look up a call"))

    def forget(self, id: str, name: str | None) -> bool:
        """Raise NotAttached."""
        del id, name
        raise NotAttached(_NO_STORE.format(what="forget a result"))

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Raise NotAttached."""
        del id, name, frame, keep
        raise NotAttached(_NO_STORE.format(what="cancel a call that was sent"))

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """Raise NotAttached."""
        del state, queue
        raise NotAttached(_NO_STORE.format(what="list calls"))
