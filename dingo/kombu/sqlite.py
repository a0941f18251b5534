"""SQLite as broker and backend: a durable queue in one file, for many processes, without a server.

One writer at a time, so every transaction is short and takes a whole batch. `synchronous=FULL`: what was sent or
reported survives a power cut, and since a batch shares one flush, that costs little. Settling a task and
publishing its report is one transaction: either both have happened or neither.

Death is judged by two signs, and neither depends on how long a task runs: every worker holds a lock on a file of
its own, which the system frees when it dies (seen within about a second, on the same machine), and renews a
heartbeat in the database (seen after the lease, for what is frozen).

Times are seconds since the epoch, by this machine's clock: all processes of one file share it. No life depends on
it: whose heartbeat has not changed for a lease, as the one who looks has measured it, is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
import socket
import sqlite3
import tempfile
import threading
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, StoredCall, Verdict
from dingo.errors import BadConfig, BrokerUnavailable
from dingo.kombu import sqlite_ledger
from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
_SCHEMA += sqlite_ledger.SCHEMA

# What is to be done about what SQLite says.
_HINTS = {
    sqlite3.SQLITE_READONLY: ": this process may not write the file, or its directory, or the disk",
    sqlite3.SQLITE_CANTOPEN: ": its directory must be there, and this process must be allowed to write in it",
    sqlite3.SQLITE_FULL: ": nothing is lost, and all goes on when there is room",
    sqlite3.SQLITE_BUSY: ": another program keeps it locked; all goes on when it does not",
}
# How long one process waits for the others' transactions (seconds). They take about a millisecond each.
BUSY_SECONDS = 5.0
# A bell may be missed (another user's process, a full socket): look at least so often (seconds).
LOOK = 0.25
# How often a waiting worker looks for dead ones, and how often what is kept too long is thrown out (seconds).
REAP_EVERY = 1.0
# A heartbeat that is renewed so much later than every third of a lease says that something holds up all (seconds).
LATE = 2.0
SWEEP_EVERY = 60.0
# How long a report waits for its caller when its result is not kept any more (seconds).
MAIL_SECONDS = 60.0
_COLLECT = 2000


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
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # else SQLite has taken it back by itself, as it does on a full disk
                    connection.execute("ROLLBACK")
                raise


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


class Bell:
    """A datagram socket by which other processes wake the one that waits here."""

    def __init__(self, place: Path, name: str) -> None:
        self._path = place / f"{name}.bell"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._socket.bind(str(self._path))

    def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so many seconds."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        while ready:
            try:
                self._socket.recv(16)
            except BlockingIOError:
                return

    def ring(self) -> None:
        """Wake who waits for it, from another thread."""
        with contextlib.suppress(BlockingIOError):  # rung often enough already
            self._socket.sendto(b"!", str(self._path))

    def close(self) -> None:
        """Take it down."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class Ringer:
    """Rings other processes' bells."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._workers: list[str] = []
        self._looked = 0.0

    def ring(self, name: str) -> None:
        """Ring one bell. Where nobody listens any more, nothing happens."""
        try:
            self._socket.sendto(b"!", str(self._place / f"{name}.bell"))
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return  # gone, or rung often enough already; who waits looks by itself too

    def ring_workers(self) -> None:
        """Ring the bells of all workers."""
        now = monotonic()
        if now - self._looked > 1.0 or not self._workers:
            self._workers = [one.stem for one in self._place.glob("worker-*.bell")]
            self._looked = now
        for name in self._workers:
            self.ring(name)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()


def _put(connection: sqlite3.Connection, envelopes: Sequence[Envelope]) -> None:
    """Write tasks into the file, within a transaction; what is there already counts once."""
    now = time()
    connection.executemany(
        "INSERT OR IGNORE INTO tasks (id, name, queue, rank, state, due, reply, frame) VALUES (?,?,?,?,?,?,?,?)",
        [
            (one.id, one.name, one.queue, 9 - one.priority, int(one.due is not None and one.due > now), one.due,
             one.reply, one.frame)
            for one in envelopes
        ],
    )  # fmt: skip


class SqliteProducer:
    """Puts tasks into the file."""

    def __init__(self, path: str) -> None:
        self._database = Database(path)
        self._connection: sqlite3.Connection | None = None

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The file is opened at the first batch, by the thread that sends."""
        del emit

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Write a batch in one transaction, and wake the workers."""
        if self._connection is None:
            connection = self._database.connect()
            self._ringer = Ringer(self._database.place)
            self._connection = connection
        with self._database.writing(self._connection) as connection:
            _put(connection, envelopes)
        self._ringer.ring_workers()

    def close(self) -> None:
        """Close the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._ringer.close()


class SqliteWorker:
    """Consumer and Reporter: claims tasks, and settles them together with their reports."""

    def __init__(self, path: str, lease_seconds: float) -> None:
        self._database = Database(path)
        self._lease = lease_seconds
        self.ledger = sqlite_ledger.SqliteLedger(self._database, lease_seconds, self.tend)
        self._connection: sqlite3.Connection | None = None
        self._tend_lock = threading.Lock()

    def open(self, emit: Callable[..., None]) -> None:
        """Open the file and say that this worker lives. Raises BrokerUnavailable, BadConfig."""
        if self._connection is not None:
            return
        self._emit = emit
        self.owner = f"worker-{os.getpid()}-{os.urandom(4).hex()}"
        connection = self._database.connect()
        # What is lost of these by a power cut is who had claimed what, and then nobody is left to whom it matters.
        self._claims = self._database.connect(durable=False)
        self._keeper = self._database.connect(durable=False)
        self.ledger.owner = self.owner
        with self._database.errors():
            self._lock_file = (self._database.place / f"{self.owner}.lock").open("w")
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._bell = Bell(self._database.place, self.owner)
            self._ringer = Ringer(self._database.place)
        self._woken = False
        self._reaped = self._swept = monotonic()
        self._renewed: float | None = None
        self._beats: dict[str, tuple[float, float]] = {}
        self._connection = connection
        self.tend()

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the best of the first queue first."""
        assert self._connection is not None
        until = monotonic() + wait
        while True:
            self._reap()
            claimed = self._claim_now(queues, room) if room > 0 else []
            left = until - monotonic()
            if claimed or left <= 0 or self._woken:
                self._woken = False
                return claimed
            self._bell.wait(min(LOOK, left, self._until_due()))

    def _until_due(self) -> float:
        assert self._connection is not None
        with self._database.errors():
            (due,) = self._connection.execute("SELECT min(due) FROM tasks WHERE state = 1").fetchone()
        return LOOK if due is None else max(0.001, due - time())

    def _claim_now(self, queues: Sequence[str], room: int) -> list[Delivery]:
        now = time()
        with self._database.errors():
            if not self._anything(queues, now):
                return []
        claimed: list[Delivery] = []
        with self._database.writing(self._claims) as connection:
            connection.execute("UPDATE tasks SET state = 0 WHERE state = 1 AND due <= ?", (now,))
            for queue in queues:
                if len(claimed) >= room:
                    break
                rows = connection.execute(
                    "UPDATE tasks SET state = 2, owner = ?, fence = fence + 1 WHERE seq IN "
                    "(SELECT seq FROM tasks WHERE state = 0 AND queue = ? ORDER BY rank, seq LIMIT ?) "
                    "RETURNING seq, fence, id, name, queue, rank, reply, frame, suspect, starts",
                    (self.owner, queue, room - len(claimed)),
                ).fetchall()
                rows.sort(key=lambda row: (row[5], row[0]))
                for seq, fence, id, name, of, rank, reply, frame, suspect, starts in rows:
                    if not (type(frame) is bytes and type(id) is type(name) is type(reply) is str):
                        id, name, reply, frame = str(id), str(name), "", b""  # noqa: PLW2901 - another program's
                    envelope = Envelope(of, id, name, frame, 9 - rank, None, reply)
                    claimed.append(Delivery(envelope, (seq, fence), bool(suspect), starts))
        return claimed

    def _anything(self, queues: Sequence[str], now: float) -> bool:
        """Look without a lock, so that idle workers hold up nobody."""
        look = self._claims.execute
        if look("SELECT 1 FROM tasks WHERE state = 1 AND due <= ? LIMIT 1", (now,)).fetchone():
            return True
        return any(
            look("SELECT 1 FROM tasks WHERE state = 0 AND queue = ? LIMIT 1", (queue,)).fetchone() for queue in queues
        )

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts and publish their reports, in one transaction; return the stale ones."""
        assert self._connection is not None
        stale: list[Settlement] = []
        reports: list[ReportEnvelope] = []
        with self._database.writing(self._connection) as connection:
            plain: list[Settlement] = []
            rest: list[Settlement] = []
            for one in settlements:
                (plain if one.verdict is Verdict.ACK and one.frees is None and not one.sends else rest).append(one)
            if self._forget_all(connection, plain):
                reports += [report for one in plain for report in one.reports]
            else:
                rest = list(settlements)
            for one in rest:
                if self._settle(connection, one):
                    reports += one.reports
                else:
                    stale.append(one)
            self._insert(connection, reports)
        self._ring(reports)
        if any(one.verdict is Verdict.RETURN or one.sends for one in settlements):
            self._ringer.ring_workers()
        return stale

    def _forget_all(self, connection: sqlite3.Connection, ended: list[Settlement]) -> bool:
        """Delete what has ended, all at once. False, and nothing is changed, where some of it is stale."""
        connection.execute("SAVEPOINT ended")
        deleted = connection.executemany(
            "DELETE FROM tasks WHERE seq = ? AND fence = ?", [one.delivery.token for one in ended]
        ).rowcount
        if deleted != len(ended):
            connection.execute("ROLLBACK TO ended")
        connection.execute("RELEASE ended")
        return deleted == len(ended)

    def _settle(self, connection: sqlite3.Connection, one: Settlement) -> bool:
        if one.verdict is Verdict.ACK:
            done = connection.execute("DELETE FROM tasks WHERE seq = ? AND fence = ?", one.delivery.token)
            if one.sends and done.rowcount == 1:
                _put(connection, one.sends)
            if one.frees is not None and done.rowcount == 1:
                sqlite_ledger.free(connection, one.delivery.envelope.name, one.frees, one.delivery.envelope.id)
        elif one.frame is not None:
            return self._try_again(connection, one)
        else:
            later = one.verdict is Verdict.LATER  # it was not started: a suspect stays one
            done = connection.execute(
                "UPDATE tasks SET state = ?, due = ?, owner = NULL, suspect = suspect AND ? "
                "WHERE seq = ? AND fence = ? AND state = 2",
                (int(later), one.due if later else None, int(later), *one.delivery.token),
            )
        return done.rowcount == 1

    def _try_again(self, connection: sqlite3.Connection, one: Settlement) -> bool:
        """Put a retry behind what waits: else many that fail again and again would keep all others from running."""
        connection.execute("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'tasks'")
        done = connection.execute(
            "UPDATE tasks SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), state = 1, due = ?, "
            "owner = NULL, suspect = 0, frame = ? WHERE seq = ? AND fence = ? AND state = 2",
            (one.due or 0.0, one.frame, *one.delivery.token),
        )
        return done.rowcount == 1

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on, or of all where the tasks go another way: then nobody claims here."""
        assert self._connection is not None
        self._sweep()
        with self._database.writing(self._connection) as connection:
            self._insert(connection, reports)
        self._ring(reports)

    def _insert(self, connection: sqlite3.Connection, reports: Sequence[ReportEnvelope]) -> None:
        now = time()
        connection.executemany(
            "INSERT OR IGNORE INTO reports (reply, id, name, final, until, frame) VALUES (?,?,?,?,?,?)",
            [(one.reply, one.id, one.name, int(one.final), now + one.keep, one.frame) for one in reports],
        )

    def _ring(self, reports: Sequence[ReportEnvelope]) -> None:
        for reply in {one.reply for one in reports if one.reply}:
            self._ringer.ring(reply)

    def starting(self, delivery: Delivery) -> int:
        """Record the start of a suspect."""
        self.starting_all([delivery])
        return delivery.starts + 1

    def starting_all(self, deliveries: Sequence[Delivery]) -> None:
        """Record the starts of several in one transaction."""
        assert self._connection is not None
        with self._database.writing(self._connection) as connection:
            connection.executemany(
                "UPDATE tasks SET starts = starts + 1, suspect = 1 WHERE seq = ? AND fence = ?",
                [delivery.token for delivery in deliveries],
            )

    def tend(self) -> list[Any]:
        """Renew the heartbeat when it is a third of the lease old; return what is to be stopped."""
        with self._tend_lock:
            if self._connection is None:
                return []
            if self._renewed is None or monotonic() - self._renewed > self._lease / 3:
                self._renew()
            with self._database.errors():
                rows = self._keeper.execute(
                    "SELECT name, id FROM tasks WHERE state = 2 AND owner = ? AND cancel = 1", (self.owner,)
                )
                return rows.fetchall()

    def _renew(self) -> None:
        with self._database.writing(self._keeper) as connection:
            connection.execute("INSERT OR REPLACE INTO owners VALUES (?, ?)", (self.owner, time()))
        now = monotonic()
        if self._renewed is not None and now - self._renewed > self._lease / 3 + LATE:
            self._beats.clear()  # nobody else could renew theirs meanwhile, or this process was asleep
        self._renewed = now

    def wake(self) -> None:
        """Make a waiting `claim` return."""
        self._woken = True
        self._ringer.ring(self.owner)

    # -- the dead ----------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Give what dead workers had to the living, and throw out what was kept long enough."""
        assert self._connection is not None
        now = monotonic()
        if now - self._reaped < REAP_EVERY:
            return
        self._reaped = now
        with self._database.errors():
            owners = self._connection.execute(
                "SELECT owner, beat FROM owners WHERE owner != ?", (self.owner,)
            ).fetchall()
        for owner, beat in owners:
            if self._is_dead(owner, beat):
                self._bury(owner)
        self._sweep()

    def _sweep(self) -> None:
        """Throw out what was kept long enough. It is looked for without a lock, and without an index to keep up."""
        if monotonic() - self._swept <= SWEEP_EVERY:
            return
        self._swept = monotonic()
        with self._database.errors():
            old = self._claims.execute(
                "SELECT seq FROM reports WHERE until < ? LIMIT 10000", (time() - MAIL_SECONDS,)
            ).fetchall()
        if old:
            with self._database.writing(self._claims) as connection:
                connection.executemany("DELETE FROM reports WHERE seq = ?", old)

    def _is_dead(self, owner: str, beat: float) -> bool:
        return self._is_silent(owner, beat) or self._has_let_go(owner)

    def _is_silent(self, owner: str, beat: float) -> bool:
        """Whether its heartbeat has stood still for a lease. Who cannot renew its own does not judge others."""
        now = monotonic()
        seen, since = self._beats.get(owner, (None, now))
        if seen != beat:
            self._beats[owner] = (beat, now)
            return False
        return now - since > self._lease and self._renewed is not None and now - self._renewed < self._lease / 3 + LATE

    def _has_let_go(self, owner: str) -> bool:
        """Whether the system has freed its lock."""
        try:
            with (self._database.place / f"{owner}.lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False  # another user's: its heartbeat alone counts
        except BlockingIOError:
            return False
        return True

    def _bury(self, owner: str) -> None:
        assert self._connection is not None
        with self._database.writing(self._connection) as connection:
            taken = connection.execute(
                "UPDATE tasks SET state = 0, owner = NULL, suspect = 1 WHERE state = 2 AND owner = ?", (owner,)
            ).rowcount
            connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))
        self._beats.pop(owner, None)
        with contextlib.suppress(FileNotFoundError):
            (self._database.place / f"{owner}.lock").unlink()
        self._emit(
            30, "worker.lost", f"{owner} is dead: {taken} tasks it had wait again", {"owner": owner, "tasks": taken}
        )

    def close(self) -> None:
        """Give back what is claimed and close the file."""
        with self._tend_lock:
            connection, self._connection = self._connection, None
            if connection is None:
                return
            with contextlib.suppress(BrokerUnavailable), self._database.writing(connection):
                connection.execute(
                    "UPDATE tasks SET state = 0, owner = NULL WHERE state = 2 AND owner = ?", (self.owner,)
                )
                connection.execute("DELETE FROM owners WHERE owner = ?", (self.owner,))
            connection.close()
            self._claims.close()
            self._keeper.close()
            self.ledger.close()
        self._ringer.ring_workers()
        self._bell.close()
        self._ringer.close()
        self._lock_file.close()
        with contextlib.suppress(FileNotFoundError):
            (self._database.place / f"{self.owner}.lock").unlink()


class SqliteStore:
    """Gets reports out of the file, and looks at what is in it."""

    def __init__(self, path: str) -> None:
        self._database = Database(path)
        self._connection: sqlite3.Connection | None = None
        self._side: sqlite3.Connection | None = None
        self._side_lock = threading.Lock()
        self._bell: Bell | None = None
        self.ledger = sqlite_ledger.SqliteLedger(self._database)
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
        """Return what is known of a call."""
        with self._asking() as connection:
            row = connection.execute(
                "SELECT name, frame FROM reports WHERE final = 1 AND id = ? AND (? IS NULL OR name = ?) AND until > ?",
                (id, name, name, time()),
            ).fetchone()
            if row is not None:
                return StoredCall(id, row[0], "ended", row[1])
            row = connection.execute(
                f"SELECT {_CALL} FROM tasks WHERE id = ? AND (? IS NULL OR name = ?)",  # noqa: S608 - a constant
                (id, name, name),
            ).fetchone()
        return None if row is None else _stored(row)

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call."""
        with self._asking() as connection, self._database.writing(connection):
            deleted = connection.execute(
                "DELETE FROM reports WHERE id = ? AND (? IS NULL OR name = ?)", (id, name, name)
            )
        return deleted.rowcount > 0

    def cancel(self, id: str, name: str) -> bool | None:
        """Withdraw a call that waits: True; ask its worker to stop it: None; it has ended: False."""
        with self._asking() as connection, self._database.writing(connection):
            gone = connection.execute("DELETE FROM tasks WHERE id = ? AND name = ? AND state != 2", (id, name)).rowcount
            if gone:
                return True
            asked = connection.execute("UPDATE tasks SET cancel = 1 WHERE id = ? AND name = ?", (id, name)).rowcount
        return None if asked else False

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
