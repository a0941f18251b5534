"""What goes wrong with a connection."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import amqp  # type: ignore[import-untyped, unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NotFound: type[Exception] = amqp.NotFound
PreconditionFailed: type[Exception] = amqp.PreconditionFailed


class LostError(OSError):
    """The connection is of no use any more."""


class UnconfirmedError(OSError):
    """It broke between a publish and its confirm. `confirmed`: the indexes of those messages that were."""

    confirmed: Sequence[int] = ()


# All that ends a connection.
ERRORS: tuple[type[Exception], ...] = (OSError, amqp.AMQPError)


@contextlib.contextmanager
def answering_for(queue: str) -> Iterator[None]:
    """Say for which queue an answer does not come: the server may give them for all others."""
    try:
        yield
    except TimeoutError:
        raise LostError(f"the server does not answer for queue {queue!r}") from None


def said(error: BaseException) -> str:
    """Return what an error says; of what kind it is, where it says nothing."""
    return str(error) or type(error).__name__
