"""Results in MySQL or MariaDB (PyMySQL). Nothing there tells of new rows, so who waits for reports looks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymysql
import sqlalchemy
from sqlalchemy import func, select
from sqlalchemy.dialects.mysql import insert

from dingo.errors import BadConfig
from dingo.store.lookout import Lookout
from dingo.store.mail import MAIL_SECONDS, key_of, packs, raw, to_keep
from dingo.store.sql import Database, Kind, SqlReporter, SqlStore, mail, results

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dingo.contracts import ReportEnvelope

# An answer takes less than this, or the connection is dead (seconds).
ANSWER_SECONDS = 15
_NOW = sqlalchemy.text("(timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) / 1000000e0)")
_DIALECT = "mysql+pymysql"
# What a statement needs beside its values (bytes). Of a value, each byte may take two.
_ROOM = 4096


_KIND = Kind(
    _DIALECT,
    {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS},
    "READ COMMITTED",
    _NOW,
    "SELECT get_lock('dingo', 30)",
    "SELECT release_lock('dingo')",
)


def _keep() -> Any:
    new = insert(results)
    old = results.c.until < _NOW  # what is no longer kept is not there
    return new.on_duplicate_key_update(
        [
            ("frame", func.if_(old, new.inserted.frame, results.c.frame)),
            ("until", func.if_(old, new.inserted.until, results.c.until)),
        ]
    )


_KEEP = _keep()


def reporter(url: str, connect_seconds: float) -> MysqlReporter:
    """Make the Reporter for a URL. Raises BadConfig."""
    return MysqlReporter(_database(url, connect_seconds), alone=False)


def store(url: str, connect_seconds: float) -> MysqlStore:
    """Make the Store for a URL. Raises BadConfig."""
    return MysqlStore(_database(url, connect_seconds))


def _database(url: str, connect_seconds: float) -> Database:
    assert pymysql
    database = Database(_KIND, url, connect_seconds)
    if not database.name:
        raise BadConfig(f"{database.shown!r} does not say which database: mysql://user:password@host/database")
    return database


class MysqlReporter(SqlReporter):
    """Puts reports into MySQL."""

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, and make the tables if they are not there. Raises BrokerUnavailable, BadConfig."""
        super().open(emit)
        with self._database.asking() as connection:
            most = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
        self.max_message_bytes = int(most) // 2 - _ROOM

    def _write(self, connection: sqlalchemy.Connection, reports: Sequence[ReportEnvelope]) -> None:
        now = connection.execute(select(_NOW)).scalar_one()
        kept = [
            {"id_key": key_of(one.id), "name_key": key_of(one.name), "id": raw(one.id), "name": raw(one.name),
             "until": now + one.keep, "frame": one.frame}
            for one in to_keep(reports)
        ]  # fmt: skip
        if kept:
            connection.execute(_KEEP, kept)
        until = now + max(MAIL_SECONDS, *(one.keep for one in reports))
        letters = [{"reply_key": key_of(reply), "until": until, "pack": pack} for reply, pack in packs(reports)]
        if letters:
            connection.execute(sqlalchemy.insert(mail), letters)


class MysqlStore(SqlStore):
    """Gets reports out of MySQL."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._lookout = Lookout()

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address. Raises BrokerUnavailable."""
        key = key_of(reply)
        with self._line.use() as connection:
            return self._lookout.watch(lambda: self._take(connection, key), wait)

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        self._lookout.wake()

    def expect(self) -> None:
        """Look often from now on: reports are to be expected."""
        self._lookout.expect()
