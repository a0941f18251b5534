"""The file: its tables, its transactions, and what is to be done when SQLite refuses."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import sqlite3
import tempfile
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from dingo.errors import BadConfig, BrokerUnavailable
from dingo.kombu.sqlite.ledger import SCHEMA as LEDGER_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, name TEXT NOT NULL, queue TEXT NOT NULL,
    rank INTEGER NOT NULL,                 -- 9 - priority: the best first in ascending order
    state INTEGER NOT NULL DEFAULT 0,      -- 0 waits, 1 waits for its time, 2 claimed
    due REAL, owner TEXT, fence INTEGER NOT NULL DEFAULT 0, starts INTEGER NOT NULL DEFAULT 0,
    suspect INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0, reply TEXT NOT NULL, frame BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS tasks_by_id ON tasks (id, name);
CREATE INDEX IF NOT EXISTS tasks_waiting ON tasks (queue, rank, seq) WHERE state = 0;
CREATE INDEX IF NOT EXISTS tasks_later ON tasks (due) WHERE state = 1;
CREATE INDEX IF NOT EXISTS tasks_claimed ON tasks (owner) WHERE state = 2;
CREATE TABLE IF NOT EXISTS reports (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, reply TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
    final INTEGER NOT NULL, until REAL NOT NULL, frame BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS reports_for ON reports (reply, seq);
CREATE UNIQUE INDEX IF NOT EXISTS reports_final ON reports (id, name) WHERE final = 1;
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, beat REAL NOT NULL) WITHOUT ROWID;
"""
_SCHEMA += LEDGER_SCHEMA

# What is to be done about what SQLite says.
_HINTS = {
    sqlite3.SQLITE_READONLY: ": this process may not write the file, or its directory, or the disk",
    sqlite3.SQLITE_CANTOPEN: ": its directory must be there, and this process must be allowed to write in it",
    sqlite3.SQLITE_FULL: ": nothing is lost, and all goes on when there is room",
    sqlite3.SQLITE_BUSY: ": another program keeps it locked; all goes on when it does not",
}
# How long one process waits for the others' transactions (seconds). They take about a millisecond each.
BUSY_SECONDS = 5.0
# How often it tries meanwhile (seconds): soon, then less often. SQLite's own waits grow to a tenth of a second, and
# somebody who goes on writing with short breaks is then hardly ever met in one.
_TRY_FIRST, _TRY_MOST = 0.0005, 0.002


class Database:
    """A file and the place of its bells and locks. Connections are made per component and thread."""

    def __init__(self, path: str) -> None:
        if not path or path == ":memory:":
            raise BadConfig("sqlite:/// needs the path of a file: sqlite:///jobs.db, or sqlite:////var/lib/jobs.db")
        self.path = Path(path).absolute()
        name = hashlib.sha256(str(self.path.parent.resolve() / self.path.name).encode()).hexdigest()[:16]
        self.place = Path(tempfile.gettempdir()) / f"dingo-{os.getuid()}-{name}"

    def connect(self, *, durable: bool = True) -> sqlite3.Connection:
        """Open the file, making it and its tables if they are not there. Raises BrokerUnavailable, BadConfig.

        `durable`: a commit survives a power cut; else it survives the death of every process, and costs no flush.
        """
        with self.errors():
            connection = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            _switch_to_wal(connection)
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            if connection.execute("SELECT name FROM sqlite_master WHERE name = 'paused'").fetchone() is None:
                self._make_tables(connection)
            (version,) = connection.execute("SELECT value FROM meta WHERE key = 'version'").fetchone()
            self.place.mkdir(mode=0o700, exist_ok=True)
        if int(version) > SCHEMA_VERSION:
            raise BadConfig(f"{self.path} was made by a newer dingo (schema {version}): upgrade this one")
        return connection

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        # In one transaction: another process may open the file at the same moment.
        with self.writing(connection):
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('version', ?)", (str(SCHEMA_VERSION),))

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite raises into our own."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            hint = _HINTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
            raise BrokerUnavailable(f"{self.path}: {error}{hint}") from error
        except OSError as error:  # of the bells and locks
            raise BrokerUnavailable(f"{self.path}: {error}") from error

    @contextlib.contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
        """One transaction that writes."""
        with self.errors():
            _locking(connection, "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # else SQLite has taken it back by itself, as it does on a full disk
                    connection.execute("ROLLBACK")
                raise

    def write(self, connection: sqlite3.Connection, statement: str, values: Sequence[Any]) -> sqlite3.Cursor:
        """One statement that writes, a transaction of its own: nothing else of Python is run while it locks the file.

        Raises BrokerUnavailable, and what `errors` lets through.
        """
        with self.errors():
            return _locking(connection, statement, values)


def _locking(connection: sqlite3.Connection, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
    """Carry out a statement that locks the file, as soon as nobody else has it locked."""
    until = monotonic() + BUSY_SECONDS
    pause = _TRY_FIRST
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                return connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or monotonic() > until:
                    raise
            sleep(pause)
            pause = min(_TRY_MOST, pause * 1.5)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000:.0f}")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Once per file. SQLite does not wait for others here, as it does everywhere else, so we do."""
    until = monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or monotonic() > until:
                raise
            select.select([], [], [], 0.01)
