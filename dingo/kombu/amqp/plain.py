"""Connections by py-amqp alone: for what is rare and needs no speed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import amqp  # type: ignore[import-untyped, unused-ignore]

from dingo.errors import BrokerUnavailable
from dingo.kombu.amqp.connection import Connection
from dingo.kombu.amqp.errors import ERRORS, said
from dingo.kombu.amqp.wire import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dingo.kombu.amqp.address import Address


def plain_connection(address: Address, connect_seconds: float, blocked: Callable[[str], None] | None = None) -> Any:
    """Connect. `blocked`: told why the server takes nothing."""
    connection = Connection(address, connect_seconds, HEARTBEAT, blocked)
    try:
        connection.connect()
    except BaseException:
        connection.collect()
        raise
    return connection


def message(body: bytes, **properties: Any) -> Any:
    """Make a message of py-amqp's."""
    return amqp.Message(body, **properties)


@contextlib.contextmanager
def speaking(address: Address) -> Iterator[None]:
    """Turn what py-amqp raises into our own."""
    try:
        yield
    except ERRORS as error:
        raise BrokerUnavailable(f"{address.url}: {said(error)}") from error
