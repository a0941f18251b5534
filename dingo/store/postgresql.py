"""Results in PostgreSQL (psycopg 3). Who waits for reports LISTENs, so they come at once; it looks by itself too."""

from __future__ import annotations

import contextlib
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

import psycopg
import sqlalchemy

from dingo.errors import BrokerUnavailable
from dingo.store.mail import MAIL_SECONDS, key_of, packs, raw, to_keep
from dingo.store.sql import Database, Kind, SqlReporter, SqlStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingo.contracts import ReportEnvelope

# What is sent is acknowledged, and what is idle answers, within this time, or the connection is dead (seconds).
_SILENCE = 15
_NOW = sqlalchemy.text("extract(epoch FROM clock_timestamp())::double precision")


_KIND = Kind(
    "postgresql+psycopg",
    {
        "application_name": "dingo",
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": _SILENCE * 1000,
    },
    "READ COMMITTED",
    _NOW,
    "SELECT pg_advisory_xact_lock(hashtext('dingo'))",
)
# A whole batch in one statement, which is one transaction and one way there and back. The packs come after the
# results, so that of two reporters with the same call the one whose result is kept is heard first.
_WRITE = sqlalchemy.text("""
WITH kept AS (
  INSERT INTO dingo_results (id_key, name_key, id, name, until, frame)
  SELECT id_key, name_key, id, name, clock + keep, frame FROM unnest(
    CAST(:id_keys AS bytea[]), CAST(:name_keys AS bytea[]), CAST(:ids AS bytea[]), CAST(:names AS bytea[]),
    CAST(:keeps AS float8[]), CAST(:frames AS bytea[]))
    AS new (id_key, name_key, id, name, keep, frame), extract(epoch FROM clock_timestamp()) AS clock
  ON CONFLICT (id_key, name_key) DO UPDATE SET frame = excluded.frame, until = excluded.until
    WHERE dingo_results.until < extract(epoch FROM clock_timestamp())
  RETURNING 1
), mailed AS (
  INSERT INTO dingo_reports (reply_key, until, pack)
  SELECT reply_key, extract(epoch FROM clock_timestamp()) + :stay, pack
  FROM unnest(CAST(:reply_keys AS bytea[]), CAST(:packs AS bytea[])) WITH ORDINALITY AS new (reply_key, pack, place)
  WHERE (SELECT count(*) FROM kept) >= 0 ORDER BY place
)
SELECT pg_notify(channel, '') FROM unnest(CAST(:channels AS text[])) AS channel
""")


def reporter(url: str, connect_seconds: float) -> PostgresqlReporter:
    """Make the Reporter for a URL. Raises BadConfig."""
    return PostgresqlReporter(Database(_KIND, url, connect_seconds), alone=True)


def store(url: str, connect_seconds: float) -> PostgresqlStore:
    """Make the Store for a URL. Raises BadConfig."""
    return PostgresqlStore(Database(_KIND, url, connect_seconds))


def _channel(key: bytes) -> str:
    return f"dingo_{key.hex()}"


class PostgresqlReporter(SqlReporter):
    """Puts reports into PostgreSQL."""

    def _write(self, connection: sqlalchemy.Connection, reports: Sequence[ReportEnvelope]) -> None:
        kept, letters = to_keep(reports), packs(reports)
        replies = [key_of(reply) for reply, _ in letters]
        columns = {
            "id_keys": [key_of(one.id) for one in kept], "name_keys": [key_of(one.name) for one in kept],
            "ids": [raw(one.id) for one in kept], "names": [raw(one.name) for one in kept],
            "keeps": [float(one.keep) for one in kept], "frames": [one.frame for one in kept],
            "stay": float(max(MAIL_SECONDS, *(one.keep for one in reports))),
            "reply_keys": replies, "packs": [pack for _, pack in letters],
            "channels": [*map(_channel, {*replies})],
        }  # fmt: skip
        connection.execute(_WRITE, columns)


class PostgresqlStore(SqlStore):
    """Gets reports out of PostgreSQL."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._bells: tuple[socket.socket, socket.socket] | None = None
        self._listening: tuple[Any, bytes] | None = None
        self._rung = False

    def _connected(self) -> None:
        super()._connected()
        self._bells = socket.socketpair()
        for one in self._bells:
            one.setblocking(False)
        self._listening = None

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address. Raises BrokerUnavailable."""
        until = monotonic() + wait
        key = key_of(reply)
        with self._line.use() as connection, _driver_errors(self._database):
            raw = self._listen(connection, key)
            while True:
                self._rung = False
                found = self._take(connection, key)
                left = until - monotonic()
                if found or left <= 0:
                    return found
                # What was told while it looked may not have been there yet.
                if not self._rung and not self._rest(raw, left):
                    return []

    def _listen(self, connection: sqlalchemy.Connection, key: bytes) -> Any:
        """Have the server tell of reports for this address; return the driver's connection."""
        raw = connection.connection.dbapi_connection
        if self._listening != (raw, key):
            assert raw is not None
            if self._listening is None or self._listening[0] is not raw:
                raw.add_notify_handler(self._ring)
                # A deletion that a power cut takes back brings a report again, which changes nothing.
                connection.exec_driver_sql("SET synchronous_commit TO off")
            connection.exec_driver_sql("UNLISTEN *")
            connection.exec_driver_sql(f"LISTEN {_channel(key)}")
            self._listening = (raw, key)
        return raw

    def _ring(self, _notice: Any) -> None:
        self._rung = True

    def _rest(self, raw: Any, seconds: float) -> bool:
        """Wait until the server tells of something, or for so many seconds. False: it was woken."""
        assert self._bells is not None
        hears = self._bells[0]
        poll = select.poll()
        poll.register(hears, select.POLLIN)
        poll.register(raw.fileno(), select.POLLIN)
        ready = {one for one, _ in poll.poll(seconds * 1000)}
        if hears.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                while hears.recv(4096):
                    pass
            return False
        if ready:
            raw.pgconn.consume_input()
            while raw.pgconn.notifies():
                pass
        return True

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        bells = self._bells
        if bells is not None:
            with contextlib.suppress(OSError):  # full: rung often enough; closed: nobody waits
                bells[1].send(b"!")

    def close(self) -> None:
        """Delete what was handed out, and close the connections."""
        super().close()
        bells, self._bells = self._bells, None
        for one in bells or ():
            one.close()


@contextlib.contextmanager
def _driver_errors(database: Database) -> Any:
    """Turn what the driver itself raises, where SQLAlchemy is not between us, into our own."""
    try:
        yield
    except psycopg.Error as error:
        raise BrokerUnavailable(f"{database.shown}: {error}") from None
