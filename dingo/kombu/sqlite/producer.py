"""Putting tasks into the file."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING

from dingo.kombu.sqlite.bells import Ringer
from dingo.kombu.sqlite.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from dingo.contracts import Envelope


def put(connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> int:
    """Write tasks into the file, within a transaction; what is there already counts once. Return how many were not."""
    now = time()
    return connection.executemany(
        "INSERT OR IGNORE INTO tasks (id, name, queue, rank, state, due, reply, frame) VALUES (?,?,?,?,?,?,?,?)",
        [
            (one.id, one.name, one.queue, 9 - one.priority, int(one.due is not None and one.due > now), one.due,
             one.reply, one.frame)
            for one in envelopes
        ],
    ).rowcount  # fmt: skip


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
        with self._database.writing(self._connection) as connection:
            connection.execute("SAVEPOINT new")
            if envelopes and put(connection, envelopes) < len(envelopes):
                connection.execute("ROLLBACK TO new")
                known = _known(connection, envelopes)
                put(connection, envelopes)
        self._ringer.ring_workers()
        return known

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._ringer.close()
