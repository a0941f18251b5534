"""Results in an SQL database: what PostgreSQL and MySQL have in common.

    dingo_reports   mailboxes: packs of reports for an address, in the order of `seq`, deleted once they are handed out
    dingo_results   the final report of each call, until `until`
    dingo_meta      the version of this schema

Ids, names and addresses are found by 16 bytes made of them, so that neither collations nor limits on the length of an
index matter; their texts are kept as UTF-8 bytes. Times are seconds since the epoch by the server's clock.

One batch of reports is one transaction. Writers take rows in one order, so they do not wait for each other in circles.
"""

from __future__ import annotations

import contextlib
import math
import os
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    select,
)  # fmt: skip
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from dingo.contracts import StoredCall
from dingo.errors import BadConfig, BrokerUnavailable
from dingo.masking import mask_url
from dingo.store.apart import Apart
from dingo.store.mail import key_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.contracts import ReportEnvelope

SCHEMA_VERSION = 1
# How long it may take to get one of the connections for questions (seconds).
ASK_SECONDS = 30
# How many connections questions may have at once. Whoever collects and whoever reports has one more.
ASKERS = 4
# How many packs are handed out at once.
COLLECT_MOST = 100
# How often what was kept long enough is thrown out (seconds), and how much of it at once.
SWEEP_EVERY = 60.0
SWEEP_MOST = 1000

_LARGE = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_KEY = LargeBinary().with_variant(mysql.BINARY(16), "mysql", "mariadb")

_metadata = MetaData()
meta = Table("dingo_meta", _metadata, Column("name", String(64), primary_key=True), Column("value", String(64)))
results = Table(
    "dingo_results", _metadata,
    Column("seq", BigInteger, primary_key=True),
    Column("id_key", _KEY, nullable=False), Column("name_key", _KEY, nullable=False),
    Column("id", _LARGE, nullable=False), Column("name", _LARGE, nullable=False),
    Column("until", Double, nullable=False), Column("frame", _LARGE, nullable=False),
    UniqueConstraint("id_key", "name_key", name="dingo_results_call"), Index("dingo_results_until", "until"),
)  # fmt: skip
mail = Table(
    "dingo_reports", _metadata,
    Column("seq", BigInteger, primary_key=True), Column("reply_key", _KEY, nullable=False),
    Column("until", Double, nullable=False), Column("pack", _LARGE, nullable=False),
    Index("dingo_reports_for", "reply_key", "seq"), Index("dingo_reports_until", "until"),
)  # fmt: skip

_DROP = delete(mail).where(mail.c.seq.in_(sqlalchemy.bindparam("seqs", expanding=True)))
_READ = (
    select(mail.c.seq, mail.c.pack)
    .where(mail.c.reply_key == sqlalchemy.bindparam("key"))
    .order_by(mail.c.seq)
    .limit(COLLECT_MOST)
)


class Kind(NamedTuple):
    """What is different from one database to the other."""

    driver: str
    connect_args: dict[str, Any]
    isolation: str
    now: Any
    """The server's clock, as an expression."""
    lock: str
    """A statement that lets one process at a time make the tables, until its transaction ends or ..."""
    unlock: str = ""
    """... this one."""


class Database:
    """A way to one database. Opening it again in the child of a fork leaves the parent's connections alone."""

    def __init__(self, kind: Kind, url: str, connect_seconds: float) -> None:
        self.kind = kind
        self._connect_seconds = max(2, math.ceil(connect_seconds))  # less than 2 is not heeded by PostgreSQL
        self.shown = mask_url(url)
        try:
            self._url = sqlalchemy.make_url(url).set(drivername=kind.driver)
        except (SQLAlchemyError, ValueError):
            raise BadConfig(f"{self.shown!r} is no URL of a database: SCHEME://user:password@host/database") from None
        self._opened_by = 0

    @property
    def name(self) -> str | None:
        """The database's name in the URL."""
        return self._url.database

    def open(self) -> bool:
        """Connect, and make the tables if they are not there. Whether it was not open yet in this process.

        Raises BrokerUnavailable, BadConfig.
        """
        if self._opened_by == os.getpid():
            return False
        wanted = {"connect_timeout": self._connect_seconds, **self.kind.connect_args}
        given = {key: value for key, value in wanted.items() if key not in self._url.query}
        self._engine = sqlalchemy.create_engine(
            self._url, connect_args=given, isolation_level=self.kind.isolation, hide_parameters=True,
            pool_size=ASKERS, max_overflow=0, pool_timeout=ASK_SECONDS, pool_pre_ping=True,
        )  # fmt: skip
        self._asking = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            with self.errors():
                self._prepare()
        except BaseException:
            self._engine.dispose()
            raise
        self._opened_by = os.getpid()
        return True

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            version = self._version(connection)
        if version is None:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(self.kind.lock)
                try:
                    version = self._version(connection) or self._make_tables(connection)
                finally:
                    if self.kind.unlock:
                        connection.exec_driver_sql(self.kind.unlock)
        if version > SCHEMA_VERSION:
            raise BadConfig(f"{self.shown} was made by a newer dingo (schema {version}): upgrade this one")

    def _make_tables(self, connection: sqlalchemy.Connection) -> int:
        """Make what is missing. The version comes last: where it stands, everything is there."""
        _metadata.create_all(connection)
        connection.execute(insert(meta).values(name="version", value=str(SCHEMA_VERSION)))
        connection.commit()
        return SCHEMA_VERSION

    def _version(self, connection: sqlalchemy.Connection) -> int | None:
        if not sqlalchemy.inspect(connection).has_table(meta.name):
            return None
        found = connection.execute(select(meta.c.value).where(meta.c.name == "version")).scalar()
        return None if found is None else int(found)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the driver raises into our own, without secrets."""
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            text = str(error.orig if isinstance(error, DBAPIError) else error).strip()
            password = self._url.password
            if password:
                text = text.replace(str(password), "***")
            raise BrokerUnavailable(f"{self.shown}: {' '.join(text.split())}") from None

    def connect(self, *, alone: bool) -> sqlalchemy.Connection:
        """Return a connection that is not one of the pool's. `alone`: each statement is a transaction."""
        connection = (self._asking if alone else self._engine).connect()
        connection.detach()
        return connection

    @contextlib.contextmanager
    def asking(self) -> Iterator[sqlalchemy.Connection]:
        """Borrow a connection for a question. Any thread may."""
        with self.errors(), self._asking.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close what this process has opened."""
        if self._opened_by == os.getpid():
            self._opened_by = 0
            self._engine.dispose()


class Line:
    """A connection that one thread owns: made when it is needed, and again after it was lost."""

    def __init__(self, database: Database, *, alone: bool) -> None:
        self._database = database
        self._alone = alone
        self._connection: sqlalchemy.Connection | None = None

    @contextlib.contextmanager
    def use(self) -> Iterator[sqlalchemy.Connection]:
        """Have the connection. Raises BrokerUnavailable, and forgets the connection after any error."""
        with self._database.errors():
            if self._connection is None:
                self._connection = self._database.connect(alone=self._alone)
                self._driver: Any = self._connection.connection.dbapi_connection
            try:
                yield self._connection
            except BaseException:
                self.drop()
                raise

    def drop(self) -> None:
        """Close the connection, whatever state it is in."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for close in (connection.close, self._driver.close):
            with contextlib.suppress(Exception):  # it may be lost already, and there is nothing else to do with it
                close()


class SqlReporter:
    """Puts reports into the database. A kind adds how it writes a batch."""

    max_message_bytes: int | None = None

    def __init__(self, database: Database, *, alone: bool) -> None:
        self._database = database
        self._alone = alone

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, and make the tables if they are not there. Raises BrokerUnavailable, BadConfig."""
        if self._database.open():
            self._emit = emit
            self._line = Line(self._database, alone=self._alone)
            self._sweep_at = monotonic()

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Write a batch in one transaction, and tell those who wait. Raises BrokerUnavailable."""
        if not reports:
            return
        with self._line.use() as connection, connection.begin():
            self._write(connection, reports)
        if monotonic() >= self._sweep_at:
            self._sweep()

    def _write(self, connection: sqlalchemy.Connection, reports: Sequence[ReportEnvelope]) -> None:
        raise NotImplementedError

    def _sweep(self) -> None:
        """Throw out what was kept long enough: some of it with each batch while there is more, then once a minute."""
        try:
            with self._line.use() as connection, connection.begin():
                gone = max(self._throw_out(connection, table) for table in (results, mail))
        except BrokerUnavailable as error:  # the batch was written, and is not to come again
            self._emit(30, "sweep.failed", f"expired results stay for now: {error}", {"error": error})
            gone = 0
        if gone < SWEEP_MOST:
            self._sweep_at = monotonic() + SWEEP_EVERY

    def _throw_out(self, connection: sqlalchemy.Connection, table: Table) -> int:
        old = select(table.c.seq).where(table.c.until < self._database.kind.now).limit(SWEEP_MOST)
        seqs = connection.execute(old.with_for_update(skip_locked=True)).scalars().all()
        if seqs:
            connection.execute(delete(table).where(table.c.seq.in_(seqs)))
        return len(seqs)

    def close(self) -> None:
        """Close the connections."""
        if hasattr(self, "_line"):
            self._line.drop()
        self._database.close()


class SqlStore(Apart):
    """Gets reports out of the database, and looks at what is kept in it. A kind adds how it waits for reports."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._handed: list[int] = []

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, and make the tables if they are not there. Raises BrokerUnavailable, BadConfig."""
        del emit
        if self._database.open():
            self._connected()

    def _connected(self) -> None:
        """Begin anew, in this process."""
        self._line = Line(self._database, alone=True)
        self._handed = []

    def _take(self, connection: sqlalchemy.Connection, key: bytes) -> list[bytes]:
        """Delete what was handed out before, and return what there is now."""
        self._drop_handed(connection)
        rows = connection.execute(_READ, {"key": key}).all()
        self._handed = [seq for seq, _ in rows]
        return [bytes(pack) for _, pack in rows]

    def _drop_handed(self, connection: sqlalchemy.Connection) -> None:
        if self._handed:
            connection.execute(_DROP, {"seqs": self._handed})
            self._handed = []

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return a call that has ended and is kept. Raises BrokerUnavailable."""
        wanted = select(results.c.name, results.c.frame).where(
            *_of(id, name), results.c.until > self._database.kind.now
        )
        with self._database.asking() as connection:
            row = connection.execute(wanted.order_by(results.c.seq).limit(1)).first()
        return None if row is None else StoredCall(id, text_of(row[0]), "ended", bytes(row[1]))

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call; whether there was something. Raises BrokerUnavailable."""
        with self._database.asking() as connection:
            return connection.execute(delete(results).where(*_of(id, name))).rowcount > 0

    def _ended(self) -> list[StoredCall]:
        wanted = select(results.c.id, results.c.name, results.c.frame).where(results.c.until > self._database.kind.now)
        with self._database.asking() as connection:
            rows = connection.execute(wanted.order_by(results.c.seq)).all()
        return [StoredCall(text_of(id), text_of(name), "ended", bytes(frame)) for id, name, frame in rows]

    def close(self) -> None:
        """Delete what was handed out, and close the connections."""
        if not hasattr(self, "_line"):
            return
        if self._handed:
            with contextlib.suppress(BrokerUnavailable), self._line.use() as connection:
                self._drop_handed(connection)  # else it goes when its time is over
        self._line.drop()
        self._database.close()


def _of(id: str, name: str | None) -> tuple[Any, ...]:
    one = results.c.id_key == key_of(id)
    return (one,) if name is None else (one, results.c.name_key == key_of(name))
