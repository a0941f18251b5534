"""Part: what the components share."""

from __future__ import annotations

import contextlib
import math
import threading
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import kombu

from dingo.config import Config
from dingo.errors import BrokerUnavailable
from dingo.kombu.stock.messages import DUE, headers_of
from dingo.kombu.stock.place import Place
from dingo.kombu.stock.queues import declared, later_queue, level_of, task_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dingo.contracts import Envelope

# Who finds nothing asks again after this time, then after twice as long ... (seconds).
POLL_FIRST = 0.01

# A transport that tries to read what is none of its messages fails with one of these.
_NONSENSE = (ValueError, KeyError, TypeError, AttributeError)


class Part:
    """A connection that is built when it is needed, and a way to be woken."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        self._place = Place.of(url, config or Config())
        self._lease = (config or Config()).lease_seconds
        self._busy = threading.RLock()  # whoever closes waits for the thread that uses the connection
        self._connection: Any = None
        self._channel: Any = None
        self._publisher: Any = None
        self._queues: dict[str, Any] = {}
        self._bell = threading.Event()
        self._pause = POLL_FIRST
        self._emit: Callable[..., None] = lambda *_args: None

    @property
    def max_message_bytes(self) -> int | None:
        """The largest frame that fits into a message of this broker; None: it sets no limit."""
        return self._place.traits.max_message_bytes

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The thread that uses it connects."""
        self._emit = emit

    def wake(self) -> None:
        """Make a waiting call return."""
        self._bell.set()

    def _rest(self, until: float) -> bool:
        """Wait before the next look. False when the time is over, or it was woken."""
        left = until - monotonic()
        woken = self._bell.wait(max(0.0, min(left, self._pause)))
        self._bell.clear()
        self._pause = POLL_FIRST if woken else min(2 * self._pause, self._place.poll_most)
        return not woken and left > 0

    @contextlib.contextmanager
    def _talking(self) -> Iterator[Any]:
        """Give the channel. What goes wrong ends the connection; transports raise whatever their clients do."""
        with self._busy:
            try:
                if self._channel is None:
                    self._connect()
                yield self._channel
            except Exception as error:
                if self._channel is not None and self._place.traits.renew is not None:
                    self._channel.do_restore = False  # it all comes again in time, and asking may take for ever
                self._drop()
                raise BrokerUnavailable(f"{self._place.url}: {type(error).__name__}: {error}") from error

    def _connect(self) -> None:
        if self._place.scheme == "filesystem":
            for name in ("data_folder_in", "data_folder_out", "control_folder"):
                Path(self._place.arguments["transport_options"][name]).mkdir(parents=True, exist_ok=True)
        self._connection, self._channel = self._place.connect()
        self._publisher = kombu.Producer(self._channel, auto_declare=False)
        self._queues = {}

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:  # it is broken: what it held comes again when the broker notices
                self._emit(10, "connection.dropped", f"{self._place.url}: {error}", {"error": error})

    def _queue(self, name: str) -> Any:
        """Return a queue, declared once per connection."""
        queue = self._queues.get(name)
        if queue is None:
            queue = declared(self._channel, name)
            if len(self._queues) > 10_000:  # those of callers come and go
                self._queues.clear()
            self._queues[name] = queue
        return queue

    def _get(self, queue: Any) -> Any:
        """Return the next message, or None."""
        try:
            return queue.get(no_ack=False)
        except _NONSENSE as error:
            text = f"{queue.name}: {self._place.scheme} gave something that is no message of kombu's: {error!r}"
            self._emit(40, "message.refused", text, {"queue": queue.name, "error": error})
            return None

    def _publish(self, queue: str, body: bytes, headers: dict[str, Any], **fields: Any) -> None:
        self._queue(queue)
        self._publisher.publish(
            body, exchange="", routing_key=queue, content_type="application/data", content_encoding="binary",
            headers=headers, delivery_mode=2, **fields,
        )  # fmt: skip

    def _put(self, envelope: Envelope, due: float | None) -> None:
        """Publish a task: to its queue, or to where it waits for its time."""
        headers = headers_of(envelope)
        fields: dict[str, Any] = {"priority": envelope.priority}
        queue = task_queue(envelope.queue)
        wait = 0.0 if due is None else due - time()
        if wait > 0:
            headers[DUE] = due
            most = self._place.traits.delay_most
            if most:
                fields["DelaySeconds"] = min(most, math.ceil(wait))
            else:
                queue = later_queue(envelope.queue, level_of(wait))
        self._publish(queue, envelope.frame, headers, **fields)

    def close(self) -> None:
        """Close the connection: what was fetched and not acknowledged goes back."""
        self.wake()
        with self._busy:
            self._drop()
