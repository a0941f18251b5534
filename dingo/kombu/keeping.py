"""What a virtual channel of kombu lacks: messages that are kept, where they are, until they are acknowledged.

kombu's own virtual channels take a message out for good when it is fetched, and remember it in the memory of the
process alone. Who inherits this tells what acknowledging and giving back mean for its messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Keeping:
    """A mixin, to stand before kombu's virtual `Channel`."""

    def _acknowledge(self, tag: str) -> None:
        """Let a fetched message be forgotten. One that is not held any more changes nothing."""
        raise NotImplementedError

    def _give_back(self, tag: str) -> None:
        """Let a fetched message be fetched again, by anyone."""
        raise NotImplementedError

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Let a message be forgotten."""
        self._acknowledge(delivery_tag)
        super().basic_ack(delivery_tag, multiple=multiple)  # type: ignore[misc]

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Give a message back, or let it be forgotten."""
        if not requeue:
            self._acknowledge(delivery_tag)
        super().basic_reject(delivery_tag, requeue=requeue)  # type: ignore[misc]

    def _restore(self, message: Any) -> None:
        self._give_back(message.delivery_tag)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """Fetch a message, or None."""
        message = super().basic_get(queue, no_ack=no_ack, **kwargs)  # type: ignore[misc]
        if message is not None and no_ack:
            self._acknowledge(message.delivery_tag)
        return message

    def basic_consume(self, queue: str, no_ack: bool, callback: Callable[[Any], Any], *args: Any, **kwargs: Any) -> Any:
        """Have messages given to a function."""
        take = callback
        if no_ack:

            def take(message: Any) -> Any:
                self._acknowledge(message.delivery_tag)
                return callback(message)

        return super().basic_consume(queue, no_ack, take, *args, **kwargs)  # type: ignore[misc]
