"""The Herald over an SQLite file: rows that hold for a time, and bells that wake who listens.

Nothing of it needs to survive a power cut, so its transactions wait for no disk. Without listeners a worker writes
its card every third of a lease and reads an empty table once a second.
"""

from __future__ import annotations

import contextlib
import os
import threading
from time import monotonic, time
from typing import TYPE_CHECKING

from dingo.kombu.sqlite.bells import LOOK, Bell, Ringer
from dingo.kombu.sqlite.database import Database

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

_CARD, _WISH = 0, 1
# News older than this, and more packs than this, are thrown out (seconds).
_OLD = 30.0
_MOST = 200

# Connections of the parent of this process: to close one here would touch the parent's file.
_inherited: list[sqlite3.Connection | None] = []

_SCHEMA = """
CREATE TABLE IF NOT EXISTS fleet (
    kind INTEGER NOT NULL, key TEXT NOT NULL, until REAL NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS news (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, data BLOB NOT NULL)
"""


class _Desk:
    """A connection that is made when it is needed, for one thread at a time. A fork's child makes its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._connection: sqlite3.Connection | None = None

    def _mine(self) -> threading.Lock:
        """Return the lock. In the child of a fork it and the connection are the parent's."""
        if self._process != os.getpid():
            _inherited.append(self._connection)
            self._begin()
        return self._lock

    @contextlib.contextmanager
    def at(self) -> Iterator[sqlite3.Connection]:
        """Give the connection. Raises BrokerUnavailable."""
        with self._mine():
            if self._connection is None:
                self._connection = self._database.connect(durable=False)
                with self._database.writing(self._connection) as connection:
                    for statement in _SCHEMA.split(";\n"):
                        connection.execute(statement)
            with self._database.errors():
                yield self._connection

    def close(self) -> None:
        """Close the connection."""
        with self._mine():
            if self._connection is not None:
                self._connection.close()
            self._connection = None


class SqliteHerald:
    """Carries what workers say of themselves."""

    def __init__(self, path: str) -> None:
        self._database = Database(path)
        self._worker, self._listener, self._asker = (_Desk(self._database) for _ in range(3))
        self._ringer: Ringer | None = None
        self._bell: Bell | None = None
        self._seen: int | None = None
        self._process = 0

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The file is opened when it is needed."""
        del emit

    def _keep(self, desk: _Desk, kind: int, key: str, data: bytes, seconds: float) -> None:
        now = time()
        with desk.at() as connection, self._database.writing(connection):
            connection.execute("DELETE FROM fleet WHERE until < ?", (now,))
            if seconds > 0:
                connection.execute("INSERT OR REPLACE INTO fleet VALUES (?, ?, ?, ?)", (kind, key, now + seconds, data))
            else:
                connection.execute("DELETE FROM fleet WHERE kind = ? AND key = ?", (kind, key))

    @staticmethod
    def _valid(desk: _Desk, kind: int) -> list[tuple[str, bytes]]:
        with desk.at() as connection:
            rows = connection.execute("SELECT key, data FROM fleet WHERE kind = ? AND until >= ?", (kind, time()))
            return rows.fetchall()

    def appear(self, owner: str, card: bytes, seconds: float) -> None:
        """Show a worker's card, or take it away."""
        self._keep(self._worker, _CARD, owner, card, seconds)

    def wishes(self) -> list[bytes]:
        """Return what listeners wish to hear."""
        return [data for _, data in self._valid(self._worker, _WISH)]

    def tell(self, news: bytes) -> None:
        """Write news, throw out old ones, and wake who listens."""
        now = time()
        with self._worker.at() as connection, self._database.writing(connection):
            written = connection.execute("INSERT INTO news (at, data) VALUES (?, ?)", (now, news)).lastrowid or 0
            connection.execute("DELETE FROM news WHERE seq <= ? OR at < ?", (written - _MOST, now - _OLD))
        if self._ringer is None:
            self._ringer = Ringer(self._database.place)
        for listener, _ in self._valid(self._worker, _WISH):
            self._ringer.ring(f"news-{listener}")

    def wish(self, listener: str, wish: bytes, seconds: float) -> None:
        """Let workers know what a listener wishes to hear. It hears what is told from now on."""
        if seconds > 0:
            self._begin(listener)
        self._keep(self._listener, _WISH, listener, wish, seconds)
        if seconds <= 0:
            self._stop()

    def _begin(self, listener: str) -> None:
        if self._seen is not None and self._process == os.getpid():  # in the child of a fork it is the parent's
            return
        self._process = os.getpid()
        with self._listener.at() as connection:
            (self._seen,) = connection.execute("SELECT coalesce(max(seq), 0) FROM news").fetchone()
        self._bell = Bell(self._database.place, f"news-{listener}")

    def hear(self, listener: str, wait: float) -> list[bytes]:
        """Return the news that came since the last time."""
        self._begin(listener)
        assert self._bell is not None
        until = monotonic() + wait
        while True:
            with self._listener.at() as connection:
                rows = connection.execute(
                    "SELECT seq, data FROM news WHERE seq > ? ORDER BY seq", (self._seen,)
                ).fetchall()
            left = until - monotonic()
            if rows or left <= 0:
                self._seen = rows[-1][0] if rows else self._seen
                return [data for _, data in rows]
            self._bell.wait(min(LOOK, left))

    def cards(self) -> Iterator[bytes]:
        """Yield the cards that are shown."""
        for _, data in self._valid(self._asker, _CARD):
            yield data

    def _stop(self) -> None:
        self._seen = None
        bell, self._bell = self._bell, None
        if bell is not None and self._process == os.getpid():
            bell.close()

    def close(self) -> None:
        """Close the file."""
        for desk in (self._worker, self._listener, self._asker):
            desk.close()
        self._stop()
        ringer, self._ringer = self._ringer, None
        if ringer is not None:
            ringer.close()
