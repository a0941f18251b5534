"""Results in MongoDB (PyMongo). Who waits for reports looks for them: that needs no replica set.

    dingo_reports   mailboxes: packs of reports for an address, in the order of `seq`, deleted once they are handed out
    dingo_results   the final report of each call; its `_id` is made of id and name, so the first one stays
    dingo_meta      the version of all this, and the number of packs so far

The server itself deletes what is past its time (`until`), by its own clock, about once a minute.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
from time import time
from typing import TYPE_CHECKING, Any

import pymongo
from bson.binary import Binary
from pymongo.errors import BulkWriteError, ConfigurationError, InvalidURI, PyMongoError
from pymongo.uri_parser import parse_uri

from dingo.contracts import StoredCall
from dingo.errors import BadConfig, BrokerUnavailable
from dingo.masking import mask_url
from dingo.store.apart import Apart
from dingo.store.lookout import Lookout
from dingo.store.mail import MAIL_SECONDS, PACK_BYTES, key_of, packs, raw, text_of, to_keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.contracts import ReportEnvelope

SCHEMA_VERSION = 1
# An answer takes less than this, or the connection is dead (milliseconds).
ANSWER_MS = 15000
# What a document needs beside its report (bytes).
_ROOM = 16 * 1024
# How many packs are handed out at once.
COLLECT_MOST = 100
_DUPLICATE = 11000


def reporter(url: str, connect_seconds: float) -> MongodbReporter:
    """Make the Reporter for a URL. Raises BadConfig."""
    return MongodbReporter(Database(url, connect_seconds))


def store(url: str, connect_seconds: float) -> MongodbStore:
    """Make the Store for a URL. Raises BadConfig."""
    return MongodbStore(Database(url, connect_seconds))


class Database:
    """A way to one database. Opening it again in the child of a fork makes a client of its own."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self.shown = mask_url(url)
        self._url = url
        self._opened_by = 0
        if url.startswith("mongodb+srv://"):
            return  # what it means is asked of the name service, which is done when it is opened
        with self._url_errors():
            parse_uri(url)

    @contextlib.contextmanager
    def _url_errors(self) -> Iterator[None]:
        try:
            yield
        except (ConfigurationError, InvalidURI, ValueError):
            raise BadConfig(f"{self.shown!r} is no URL of MongoDB: mongodb://user:password@host/database") from None

    def open(self) -> bool:
        """Connect, and make the indexes. Whether it was not open yet in this process.

        Raises BrokerUnavailable, BadConfig.
        """
        if self._opened_by == os.getpid():
            return False
        connect = math.ceil(self._connect_seconds * 1000)
        with self.errors(), self._url_errors():
            self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
                self._url, tz_aware=True, appname="dingo", serverSelectionTimeoutMS=connect, connectTimeoutMS=connect,
                socketTimeoutMS=ANSWER_MS,
            )  # fmt: skip
        try:
            self._prepare()
        except BaseException:
            self._client.close()
            raise
        self._opened_by = os.getpid()
        return True

    def _prepare(self) -> None:
        database = self._client.get_default_database("dingo")
        self.meta, self.results, self.mail = (
            database[name] for name in ("dingo_meta", "dingo_results", "dingo_reports")
        )
        with self.errors():
            self.largest = int(self._client.admin.command("hello")["maxBsonObjectSize"]) - _ROOM
            version = self.change("version", {"$setOnInsert": {"value": SCHEMA_VERSION}})
            if version > SCHEMA_VERSION:
                raise BadConfig(f"{self.shown} was made by a newer dingo (schema {version}): upgrade this one")
            for each in (self.results, self.mail):
                each.create_index("until", expireAfterSeconds=0)
            self.mail.create_index([("reply", pymongo.ASCENDING), ("seq", pymongo.ASCENDING)])
            self.results.create_index([("id_key", pymongo.ASCENDING), ("seq", pymongo.ASCENDING)])

    def change(self, what: str, update: dict[str, Any]) -> int:
        """Change a number in `dingo_meta`, making it if it is not there; return what it is then."""
        after = pymongo.ReturnDocument.AFTER
        found: Any = self.meta.find_one_and_update({"_id": what}, update, upsert=True, return_document=after)
        return int(found["value"])

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the client raises into our own."""
        try:
            yield
        except PyMongoError as error:
            raise BrokerUnavailable(f"{self.shown}: {' '.join(str(error).split())[:500]}") from None

    def close(self) -> None:
        """Close what this process has opened."""
        if self._opened_by == os.getpid():
            self._opened_by = 0
            self._client.close()


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time() + seconds, datetime.UTC)


class MongodbReporter:
    """Puts reports into MongoDB."""

    max_message_bytes: int | None = None

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, and make the indexes. Raises BrokerUnavailable, BadConfig."""
        del emit
        if self._database.open():
            self.max_message_bytes = self._database.largest

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Write a batch: first what is to be kept, then the packs."""
        kept, letters = to_keep(reports), packs(reports, PACK_BYTES)
        if not kept and not letters:
            return
        with self._database.errors():
            seq = self._numbers(len(kept) + len(letters))
            if kept:
                self._keep(kept, seq)
            if letters:
                until = _moment(max(MAIL_SECONDS, *(one.keep for one in reports)))
                self._database.mail.insert_many(
                    [
                        {"reply": Binary(key_of(reply)), "seq": seq + len(kept) + at, "until": until, "pack": pack}
                        for at, (reply, pack) in enumerate(letters)
                    ]
                )

    def _numbers(self, count: int) -> int:
        """Take so many numbers in a row; return the first."""
        return self._database.change("reports", {"$inc": {"value": count}}) - count

    def _keep(self, kept: list[ReportEnvelope], seq: int) -> None:
        """Keep results; where there is one already that is still kept, the attempt to make another fails."""
        now = _moment(0.0)
        writes = [
            pymongo.UpdateOne(
                {"_id": _id_of(one.id, one.name), "until": {"$lt": now}},
                {"$set": {
                    "id_key": Binary(key_of(one.id)), "id": raw(one.id), "name": raw(one.name), "seq": seq + at,
                    "until": _moment(one.keep), "frame": one.frame,
                }},
                upsert=True,
            )
            for at, one in enumerate(kept)
        ]  # fmt: skip
        try:
            self._database.results.bulk_write(writes, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            wrong = [one for one in details.get("writeErrors", ()) if one.get("code") != _DUPLICATE]
            if wrong or details.get("writeConcernErrors"):
                raise

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


class MongodbStore(Apart):
    """Gets reports out of MongoDB, and looks at what is kept in it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lookout = Lookout()
        self._handed: list[Any] = []

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, and make the indexes. Raises BrokerUnavailable, BadConfig."""
        del emit
        if self._database.open():
            self._handed = []

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address. Raises BrokerUnavailable."""
        key = Binary(key_of(reply))
        with self._database.errors():
            return self._lookout.watch(lambda: self._take(key), wait)

    def _take(self, key: Binary) -> list[bytes]:
        """Delete what was handed out before, and return what there is now."""
        self._drop_handed()
        found = list(self._database.mail.find({"reply": key}).sort("seq", pymongo.ASCENDING).limit(COLLECT_MOST))
        self._handed = [one["_id"] for one in found]
        return [bytes(one["pack"]) for one in found]

    def _drop_handed(self) -> None:
        if self._handed:
            self._database.mail.delete_many({"_id": {"$in": self._handed}})
            self._handed = []

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return a call that has ended and is kept. Raises BrokerUnavailable."""
        wanted = {**_of(id, name), "until": {"$gt": _moment(0.0)}}
        with self._database.errors():
            found = self._database.results.find_one(wanted, sort=[("seq", pymongo.ASCENDING)])
        return None if found is None else _stored(found)

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call; whether there was something. Raises BrokerUnavailable."""
        with self._database.errors():
            return self._database.results.delete_many(_of(id, name)).deleted_count > 0

    def _ended(self) -> list[StoredCall]:
        with self._database.errors():
            found = self._database.results.find({"until": {"$gt": _moment(0.0)}}).sort("seq", pymongo.ASCENDING)
            return [_stored(one) for one in found]

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        self._lookout.wake()

    def expect(self) -> None:
        """Look often from now on: reports are to be expected."""
        self._lookout.expect()

    def close(self) -> None:
        """Delete what was handed out, and close the connections."""
        if self._handed:
            with contextlib.suppress(BrokerUnavailable), self._database.errors():
                self._drop_handed()  # else it goes when its time is over
        self._database.close()


def _id_of(id: str, name: str) -> Binary:
    return Binary(key_of(id) + key_of(name))


def _of(id: str, name: str | None) -> dict[str, Any]:
    return {"id_key": Binary(key_of(id))} if name is None else {"_id": _id_of(id, name)}


def _stored(found: dict[str, Any]) -> StoredCall:
    return StoredCall(text_of(found["id"]), text_of(found["name"]), "ended", bytes(found["frame"]))
