"""Putting tasks into the file."""

from __future__ import annotations

import sqlite3
from time import time
from typing import TYPE_CHECKING, Any

from dingo.kombu.sqlite.bells import Ringer
from dingo.kombu.sqlite.database import Database
from dingo.kombu.sqlite.rows import statements, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dingo.contracts import Envelope

_INTO = "INTO tasks (id, name, queue, rank, state, due, reply, frame) {rows}"


def _rows(envelopes: Iterable[Envelope]) -> list[tuple[Any, ...]]:
    now = time()
    return [
        (one.id, one.name, one.queue, 9 - one.priority, int(one.due is not None and one.due > now), one.due, one.reply,
         one.frame)
        for one in envelopes
    ]  # fmt: skip


def put(connection: sqlite3.Connection, envelopes: Iterable[Envelope]) -> None:
    """Write tasks into the file, within a transaction; what is there already counts once."""
    write(connection, f"INSERT OR IGNORE {_INTO}", _rows(envelopes))


def _known(connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """Return those that are in the file already."""
    look = "SELECT 1 FROM tasks WHERE id = ? AND name = ?"
    return [one for one in envelopes if connection.execute(look, (one.id, one.name)).fetchone() is not None]


class SqliteProducer:
    """Puts tasks into the file."""

    def __init__(self, path: str) -> None:
        self._database = Database(path)
        self._connection: sqlite3.Connection | None = None

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The file is opened at the first batch, by the thread that sends."""
        del emit

    def send(self, envelopes: Sequence[Envelope]) -> list[Envelope]:
        """Write a batch in one transaction, and wake the workers. Return what was there already."""
        if self._connection is None:
            connection = self._database.connect()
            self._ringer = Ringer(self._database.place)
            self._connection = connection
        known: list[Envelope] = []
        try:
            self._put_new(self._connection, _rows(envelopes))
        except sqlite3.IntegrityError:
            with self._database.writing(self._connection) as connection:
                known = _known(connection, envelopes)
                put(connection, envelopes)
        self._ringer.ring_workers()
        return known

    def _put_new(self, connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> None:
        """Write tasks into the file. Raises IntegrityError where any of them is there already; then none is written."""
        parts = list(statements(f"INSERT {_INTO}", rows))
        if len(parts) == 1:
            self._database.write(connection, *parts[0])
            return
        with self._database.writing(connection):
            for statement, values in parts:
                connection.execute(statement, values)

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._ringer.close()
