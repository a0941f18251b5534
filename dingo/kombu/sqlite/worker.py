"""A worker's side of the file: claims, settles, reports, and takes over from the dead."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from random import getrandbits
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, Verdict
from dingo.errors import BrokerUnavailable
from dingo.kombu.sqlite.bells import LOOK, Bell, Ringer
from dingo.kombu.sqlite.database import Database
from dingo.kombu.sqlite.ledger import SqliteLedger, free
from dingo.kombu.sqlite.mail import post
from dingo.kombu.sqlite.producer import put
from dingo.kombu.sqlite.rows import write

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

# How often a waiting worker looks for dead ones, and how often what is kept too long is thrown out (seconds).
REAP_EVERY = 1.0
# A heartbeat that is renewed so much later than every third of a lease says that something holds up all (seconds).
LATE = 2.0
SWEEP_EVERY = 60.0
# How long a report waits for its caller when its result is not kept any more (seconds).
MAIL_SECONDS = 60.0

_CLAIM = (
    "UPDATE tasks SET state = 2, owner = ?, fence = ? WHERE seq IN "
    "(SELECT seq FROM tasks WHERE state = 0 AND queue = ? ORDER BY rank, seq LIMIT ?)"
)
_CLAIMED = (
    "SELECT seq, id, name, queue, rank, reply, frame, suspect, starts FROM tasks "
    "WHERE state = 2 AND owner = ? AND fence = ?"
)
# Each is looked up by its number: `IN` with pairs would read all tasks.
_FORGET = (
    "DELETE FROM tasks WHERE seq IN (SELECT seq FROM ({rows}) CROSS JOIN tasks ON seq = column1 AND fence = column2)"
)


class _SomeStaleError(Exception):
    """Some of what was to be forgotten had been given to others."""


class SqliteWorker:
    """Consumer and Reporter: claims tasks, and settles them together with their reports."""

    def __init__(self, path: str, lease_seconds: float) -> None:
        self._database = Database(path)
        self._lease = lease_seconds
        self.ledger = SqliteLedger(self._database, lease_seconds, self.tend)
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
        self._claim = 0  # the number of the claim that is being made: a fence that no other has
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
        """Mark what is claimed with the number of this claim, and read it when the file is not locked any more."""
        waiting = self._waiting(queues)
        if not waiting and not self._claim:
            return []
        self._claim = self._claim or getrandbits(62)  # what a claim has marked that failed then is read by the next one
        for queue in waiting:
            if room > 0:
                room -= self._database.write(self._claims, _CLAIM, (self.owner, self._claim, queue, room)).rowcount
        with self._database.errors():
            rows = self._claims.execute(_CLAIMED, (self.owner, self._claim)).fetchall()
        fence, self._claim = self._claim, 0
        turn = {queue: number for number, queue in enumerate(queues)}
        rows.sort(key=lambda row: (turn.get(row[3], 0), row[4], row[0]))
        return [self._delivery(row, fence) for row in rows]

    def _waiting(self, queues: Sequence[str]) -> list[str]:
        """Return the queues in which tasks wait. It is looked without a lock, so that idle workers hold up nobody."""
        now = time()
        look = self._claims.execute
        with self._database.errors():
            if look("SELECT 1 FROM tasks WHERE state = 1 AND due <= ? LIMIT 1", (now,)).fetchone():
                self._database.write(self._claims, "UPDATE tasks SET state = 0 WHERE state = 1 AND due <= ?", (now,))
            first = "SELECT 1 FROM tasks WHERE state = 0 AND queue = ? LIMIT 1"
            return [queue for queue in queues if look(first, (queue,)).fetchone()]

    @staticmethod
    def _delivery(row: tuple[Any, ...], fence: int) -> Delivery:
        seq, id, name, queue, rank, reply, frame, suspect, starts = row
        if not (type(frame) is bytes and type(id) is type(name) is type(reply) is str):
            id, name, reply, frame = str(id), str(name), "", b""  # another program's
        envelope = Envelope(queue, id, name, frame, 9 - rank, None, reply)
        return Delivery(envelope, (seq, fence), bool(suspect), starts)

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts and publish their reports, in one transaction; return the stale ones."""
        plain: list[Settlement] = []
        rest: list[Settlement] = []
        for one in settlements:
            (plain if one.verdict is Verdict.ACK and one.frees is None and not one.sends else rest).append(one)
        try:
            stale = self._settle_all(plain, rest)
        except _SomeStaleError:  # which of them it are is found one by one
            stale = self._settle_all([], settlements)
        if any(one.verdict is Verdict.RETURN or one.sends for one in settlements):
            self._ringer.ring_workers()
        return stale

    def _settle_all(self, plain: Sequence[Settlement], rest: Sequence[Settlement]) -> list[Settlement]:
        """Forget what is plainly over, and carry out the other verdicts; return the stale ones among those.

        Raises _SomeStaleError where there are any in `plain`; then nothing has happened.
        """
        assert self._connection is not None
        reports = [report for one in plain for report in one.reports]
        stale: list[Settlement] = []
        with self._database.writing(self._connection) as connection:
            if write(connection, _FORGET, [one.delivery.token for one in plain]) != len(plain):
                raise _SomeStaleError
            for one in rest:
                if self._settle(connection, one):
                    reports += one.reports
                else:
                    stale.append(one)
            post(connection, reports, newest=True)
        self._ring(reports)
        return stale

    def _settle(self, connection: sqlite3.Connection, one: Settlement) -> bool:
        if one.verdict is Verdict.ACK:
            done = connection.execute("DELETE FROM tasks WHERE seq = ? AND fence = ?", one.delivery.token)
            if one.sends and done.rowcount == 1:
                put(connection, one.sends)
            if one.frees is not None and done.rowcount == 1:
                free(connection, one.delivery.envelope.name, one.frees, one.delivery.envelope.id)
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
            post(connection, reports)
        self._ring(reports)

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
