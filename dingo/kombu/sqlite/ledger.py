"""The ledger in the SQLite file: places, unique calls and paused queues, beside the tasks.

A place is its worker's as long as that renews its heartbeat (`owners`, in `dingo.kombu.sqlite`). What is written here
is not flushed by itself: what a power cut takes of it matters to nobody who is left, and a task that was flushed
later has its unique key flushed with it.
"""

from __future__ import annotations

import threading
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.bridge.ledger import HORIZON, Pace, exchange
from dingo.kombu.sqlite.bells import Ringer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from dingo.contracts import Place, UniqueCall, Wait
    from dingo.kombu.sqlite.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS paces (
    name TEXT PRIMARY KEY, next REAL, first REAL, again REAL, line REAL, held REAL, interval REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (
    name TEXT, owner TEXT, number TEXT, since REAL, PRIMARY KEY (name, owner, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (name TEXT, id TEXT, turn REAL, PRIMARY KEY (name, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS line (seq INTEGER PRIMARY KEY, name TEXT, id TEXT, rank INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS line_by_id ON line (name, id);
CREATE INDEX IF NOT EXISTS line_best ON line (name, rank, seq);
CREATE TABLE IF NOT EXISTS uniques (
    name TEXT, key TEXT, id TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (name, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS paused (queue TEXT PRIMARY KEY) WITHOUT ROWID;
"""

# How many of those that wait for a place are looked at to find one that does (a few are on their way already).
_LOOK = 50
# How often what belongs to calls that are no more is thrown out (seconds).
SWEEP_EVERY = 60.0


def free(connection: sqlite3.Connection, name: str, key: str, id: str) -> None:
    """Let go of a unique key, if that call has it: within the transaction that ends the call."""
    connection.execute("DELETE FROM uniques WHERE name = ? AND key = ? AND id = ?", (name, key, id))


class SqliteLedger:
    """One component's ledger. `tend` renews its worker's heartbeat; a Store has none to renew."""

    owner = ""
    """Whose places it writes down: set when the worker is opened."""

    def __init__(self, database: Database, lease_seconds: float = 0.0, tend: Callable[[], Any] | None = None) -> None:
        self._database = database
        self._lease = lease_seconds
        self._tend = tend
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._ringer: Ringer | None = None
        self._swept = monotonic()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = self._database.connect(durable=False)
        return self._opened

    def exchange(self, left: Sequence[Place], waiting: Sequence[Place], wanted: Sequence[Place]) -> list[Wait | None]:
        """Give places back, and ask for others, in one transaction."""
        with self._lock, self._database.writing(self._connection) as connection:
            books = _Books(connection, self.owner, self._lease)
            answers = exchange(books, left, waiting, wanted)
            books.close()
        if books.fetched:
            self._ring()
        return answers

    def _ring(self) -> None:
        if self._ringer is None:
            self._ringer = Ringer(self._database.place)
        self._ringer.ring_workers()

    def tend(self) -> set[str]:
        """Renew the heartbeat; return the queues that are paused."""
        if self._tend is not None:
            if not self.owner:  # it is closed
                return set()
            self._tend()
        if monotonic() - self._swept > SWEEP_EVERY:
            self._swept = monotonic()
            self._sweep()
        return self.paused()

    def _sweep(self) -> None:
        """Throw out the keys, turns and waits of calls that are no more: ended by a kill, cancelled, purged."""
        now = time()
        with self._lock, self._database.writing(self._connection) as connection:
            connection.execute(f"DELETE FROM uniques WHERE until < ? AND {_gone('uniques')}", (now,))  # noqa: S608
            connection.execute(f"DELETE FROM line WHERE {_gone('line')}")  # noqa: S608 - constants
            connection.execute("DELETE FROM turns WHERE turn < ?", (now - HORIZON,))

    def register(self, call: UniqueCall, seconds: float) -> str:
        """Return the id of the call that has the key now."""
        now = time()
        with self._lock, self._database.writing(self._connection) as connection:
            found = connection.execute(
                "SELECT id FROM uniques WHERE name = :name AND key = :key AND (until > :now OR "
                "EXISTS (SELECT 1 FROM tasks WHERE tasks.id = uniques.id AND tasks.name = uniques.name))",
                {"name": call.name, "key": call.key, "now": now},
            ).fetchone()
            if found is not None:
                return str(found[0])
            connection.execute(
                "INSERT OR REPLACE INTO uniques VALUES (?, ?, ?, ?)", (call.name, call.key, call.id, now + seconds)
            )
        return call.id

    def confirm(self, calls: Sequence[UniqueCall], seconds: float) -> None:
        """Say that calls are sent."""
        until = time() + seconds
        with self._lock, self._database.writing(self._connection) as connection:
            connection.executemany(
                "UPDATE uniques SET until = ? WHERE name = ? AND key = ? AND id = ?",
                [(until, call.name, call.key, call.id) for call in calls],
            )

    def free(self, calls: Sequence[UniqueCall]) -> None:
        """Let go of the keys that these calls have."""
        with self._lock, self._database.writing(self._connection) as connection:
            for call in calls:
                free(connection, call.name, call.key, call.id)

    def pause(self, queue: str) -> None:
        """Have workers start nothing more of a queue."""
        self._write("INSERT OR IGNORE INTO paused VALUES (?)", queue)

    def resume(self, queue: str) -> None:
        """Have them go on."""
        self._write("DELETE FROM paused WHERE queue = ?", queue)

    def _write(self, statement: str, queue: str) -> None:
        with self._lock, self._database.writing(self._connection) as connection:
            connection.execute(statement, (queue,))

    def paused(self) -> set[str]:
        """Return the queues that are paused."""
        with self._lock, self._database.errors():
            return {queue for (queue,) in self._connection.execute("SELECT queue FROM paused")}

    def close(self) -> None:
        """Close the file."""
        self.owner = ""
        with self._lock:
            connection, self._opened = self._opened, None
            if connection is not None:
                connection.close()
            if self._ringer is not None:
                self._ringer.close()
                self._ringer = None


def _gone(table: str) -> str:
    return f"NOT EXISTS (SELECT 1 FROM tasks WHERE tasks.id = {table}.id AND tasks.name = {table}.name)"  # noqa: S608


class _Books:
    """The file's pages, for one transaction."""

    def __init__(self, connection: sqlite3.Connection, owner: str, lease_seconds: float) -> None:
        self.now = time()
        self.fetched = False
        self._do = connection.execute
        self._owner = owner
        self._lease = lease_seconds
        self._paces: dict[str, Pace] = {}

    def close(self) -> None:
        """Write down what has changed."""
        for name, pace in self._paces.items():
            self._do(
                "INSERT OR REPLACE INTO paces VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, pace.next, pace.first, pace.again, pace.line, pace.held, pace.interval),
            )

    def pace(self, name: str) -> Pace:
        """Return what is remembered of a limit."""
        pace = self._paces.get(name)
        if pace is None:
            row = self._do(
                "SELECT next, first, again, line, held, interval FROM paces WHERE name = ?", (name,)
            ).fetchone()
            pace = self._paces[name] = Pace(*(row or ()))
        return pace

    def places(self, name: str) -> int:
        """Count the places that living workers have; strike the others out."""
        held = self._do(
            "SELECT places.owner, number, beat FROM places LEFT JOIN owners ON owners.owner = places.owner "
            "WHERE name = ?",
            (name,),
        ).fetchall()
        dead = [(name, owner, number) for owner, number, beat in held if beat is None or beat < self.now - self._lease]
        for one in dead:
            self._do("DELETE FROM places WHERE name = ? AND owner = ? AND number = ?", one)
        return len(held) - len(dead)

    def has(self, place: Place) -> bool:
        """Whether this worker has that place."""
        return self._since(place) is not None

    def _since(self, place: Place) -> float | None:
        row = self._do(
            "SELECT since FROM places WHERE name = ? AND owner = ? AND number = ?",
            (place.name, self._owner, place.number),
        ).fetchone()
        return None if row is None else float(row[0])

    def write(self, place: Place) -> None:
        """Write a place down."""
        if place.max_concurrency is not None:
            self._do("INSERT INTO places VALUES (?, ?, ?, ?)", (place.name, self._owner, place.number, self.now))
        self._do("DELETE FROM line WHERE name = ? AND id = ?", (place.name, place.id))
        self._do("DELETE FROM turns WHERE name = ? AND id = ?", (place.name, place.id))

    def strike(self, place: Place) -> float | None:
        """Strike a place out."""
        since = self._since(place)
        self._do(
            "DELETE FROM places WHERE name = ? AND owner = ? AND number = ?", (place.name, self._owner, place.number)
        )
        return since

    def turn(self, place: Place) -> float | None:
        """Return the moment that a call was told."""
        row = self._do("SELECT turn FROM turns WHERE name = ? AND id = ?", (place.name, place.id)).fetchone()
        return None if row is None else float(row[0])

    def tell(self, place: Place, turn: float) -> None:
        """Remember the moment that it is told."""
        self._do("INSERT OR REPLACE INTO turns VALUES (?, ?, ?)", (place.name, place.id, turn))
        self._do("DELETE FROM line WHERE name = ? AND id = ?", (place.name, place.id))

    def line_up(self, place: Place) -> None:
        """Write down that a call wants a place."""
        self._do(
            "INSERT OR IGNORE INTO line (name, id, rank) VALUES (?, ?, ?)", (place.name, place.id, 9 - place.priority)
        )

    def fetch(self, name: str, count: int) -> None:
        """Have the best of those that wait come at once."""
        rows = self._do(
            "SELECT line.seq, tasks.seq, state FROM line LEFT JOIN tasks ON tasks.id = line.id AND tasks.name = "
            "line.name WHERE line.name = ? ORDER BY line.rank, line.seq LIMIT ?",
            (name, count + _LOOK),
        ).fetchall()
        for place, task, state in rows:
            if task is None:  # it was cancelled
                self._do("DELETE FROM line WHERE seq = ?", (place,))
            elif state == 1 and count > 0:
                self._do("UPDATE tasks SET state = 0, due = NULL WHERE seq = ?", (task,))
                self.fetched = True
                count -= 1
