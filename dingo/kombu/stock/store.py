"""StockStore: reports from the reply queue."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.errors import BrokerUnavailable, NotAttached
from dingo.kombu.stock.part import POLL_FIRST, Part
from dingo.kombu.stock.queues import declared_for_reports, reply_queue

if TYPE_CHECKING:
    from dingo.config import Config
    from dingo.contracts import StoredCall

_NO_STORE = (
    "a queue keeps nothing of single calls, so {scheme}:// cannot {what}: "
    'add a backend that can (option "backend", for instance backend="redis://host" or "sqlite:///results.db")'
)


class StockStore(Part):
    """Gets reports. It can look nothing up: a queue hands messages on and keeps none."""

    apart = True

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._replies: set[str] = set()
        self._packs: dict[str, list[bytes]] = {}  # taken from the server, and not handed out yet, by address

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address."""
        until = monotonic() + wait
        while True:
            packs = self._packs.setdefault(reply, [])
            with self._talking():
                queue = self._reply_queue(reply)
                while (message := self._get(queue)) is not None:
                    if isinstance(message.body, bytes):
                        packs.append(message.body)  # where the connection breaks now, it is handed out the next time
                    message.ack()
            if packs:
                self._pause = POLL_FIRST
                return self._packs.pop(reply)
            if not self._rest(until):
                return []

    def _reply_queue(self, reply: str) -> Any:
        name = reply_queue(reply)
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = declared_for_reports(self._channel, name)
            self._replies.add(reply)
        return queue

    def close(self) -> None:
        """Delete the reply queues, and close the connection."""
        self.wake()
        with self._busy:
            replies, self._replies = self._replies, set()
            for reply in replies if self._channel is not None else ():
                try:
                    with self._talking():
                        self._reply_queue(reply).delete()
                except BrokerUnavailable as error:
                    self._emit(30, "queue.left", f"{reply_queue(reply)} was not deleted: {error}", {"error": error})
            self._replies.clear()
        super().close()

    def _refuse(self, what: str) -> NotAttached:
        return NotAttached(_NO_STORE.format(scheme=self._place.scheme, what=what))

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Raise NotAttached."""
        del id, name
        raise self._refuse("look up a call")

    def forget(self, id: str, name: str | None) -> bool:
        """Raise NotAttached."""
        del id, name
        raise self._refuse("forget a result")

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Raise NotAttached."""
        del id, name, frame, keep
        raise self._refuse("cancel a call that was sent")

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """Raise NotAttached."""
        del state, queue
        raise self._refuse("list calls")
