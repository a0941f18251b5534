"""A caller's side of the file: collects reports, and looks at the calls that are there."""

from __future__ import annotations

import contextlib
import threading
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.contracts import ReportEnvelope, StoredCall
from dingo.kombu.sqlite.bells import LOOK, Bell, Ringer
from dingo.kombu.sqlite.database import Database
from dingo.kombu.sqlite.ledger import SqliteLedger
from dingo.kombu.sqlite.mail import post
from dingo.message.frame import pack

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

# How many reports are taken at once.
_COLLECT = 2000


class SqliteStore:
    """Gets reports out of the file, and looks at what is in it."""

    def __init__(self, path: str) -> None:
        self._database = Database(path)
        self._connection: sqlite3.Connection | None = None
        self._side: sqlite3.Connection | None = None
        self._side_lock = threading.Lock()
        self._bell: Bell | None = None
        self.ledger = SqliteLedger(self._database)
        self._seen = 0
        self._woken = False

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The file is opened by the thread that collects."""
        del emit

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the new reports for this address, as one pack."""
        if self._connection is None:
            connection = self._database.connect()
            with self._database.errors():
                self._bell = Bell(self._database.place, reply)
            self._connection = connection
        assert self._bell is not None
        until = monotonic() + wait
        while True:
            with self._database.errors():
                rows = self._connection.execute(
                    "SELECT seq, frame FROM reports WHERE reply = ? AND seq > ? ORDER BY seq LIMIT ?",
                    (reply, self._seen, _COLLECT),
                ).fetchall()
            if rows:
                self._seen = rows[-1][0]
                return [pack([frame for _, frame in rows])]
            left = until - monotonic()
            if left <= 0 or self._woken:
                self._woken = False
                return []
            self._bell.wait(min(LOOK, left))

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        self._woken = True
        if self._bell is not None:
            self._bell.ring()

    @contextlib.contextmanager
    def _asking(self) -> Iterator[sqlite3.Connection]:
        with self._side_lock:
            if self._side is None:
                self._side = self._database.connect()
            with self._database.errors():
                yield self._side

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call. What an earlier one of its name and id has left behind is not its own."""
        with self._asking() as connection, self._at_one_moment(connection):
            ended = connection.execute(
                "SELECT name, frame FROM reports WHERE final = 1 AND id = ? AND (? IS NULL OR name = ?) AND until > ? "
                "AND NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = reports.id AND tasks.name = reports.name)",
                (id, name, name, time()),
            ).fetchone()
            if ended is not None:
                return StoredCall(id, ended[0], "ended", ended[1])
            row = connection.execute(
                f"SELECT {_CALL} FROM tasks WHERE id = ? AND (? IS NULL OR name = ?)",  # noqa: S608 - a constant
                (id, name, name),
            ).fetchone()
        return None if row is None else _stored(row)

    @staticmethod
    @contextlib.contextmanager
    def _at_one_moment(connection: sqlite3.Connection) -> Iterator[None]:
        """Have all that is read be of the same moment."""
        connection.execute("BEGIN")
        try:
            yield
        finally:
            connection.execute("COMMIT")

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call."""
        with self._asking() as connection, self._database.writing(connection):
            deleted = connection.execute(
                "DELETE FROM reports WHERE id = ? AND (? IS NULL OR name = ?)", (id, name, name)
            )
        return deleted.rowcount > 0

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Withdraw a call that waits: True; ask its worker to stop it: None; it has ended: False."""
        with self._asking() as connection, self._database.writing(connection):
            gone = connection.execute(
                "DELETE FROM tasks WHERE id = ? AND name = ? AND state != 2 RETURNING reply", (id, name)
            ).fetchone()
            if gone is None:
                asked = connection.execute("UPDATE tasks SET cancel = 1 WHERE id = ? AND name = ?", (id, name)).rowcount
                return None if asked else False
            if frame:
                post(connection, [ReportEnvelope(gone[0], id, name, frame, True, keep)], newest=True)
        if frame and gone[0]:
            with contextlib.closing(Ringer(self._database.place)) as ringer:
                ringer.ring(gone[0])
        return True

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls in a state, in the order they would run."""
        with self._asking() as connection:
            if state == "ended":
                rows = connection.execute(
                    "SELECT id, name, frame FROM reports WHERE final = 1 AND until > ? ORDER BY seq", (time(),)
                ).fetchall()
                return [StoredCall(id, name, state, frame) for id, name, frame in rows]
            rows = connection.execute(
                f"SELECT {_CALL} FROM tasks WHERE state = ? AND (? IS NULL OR queue = ?) ORDER BY due, rank, seq",  # noqa: S608
                (_STATES.index(state), queue, queue),
            ).fetchall()
        return [_stored(row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        for connection in (self._connection, self._side):
            if connection is not None:
                connection.close()
        self._connection = self._side = None
        self.ledger.close()
        if self._bell is not None:
            self._bell.close()


_STATES = ("waiting", "delayed", "running")
_CALL = "id, name, state, queue, due"


def _stored(row: tuple[Any, ...]) -> StoredCall:
    id, name, state, queue, due = row
    return StoredCall(id, name, _STATES[state], None, queue, due)
