"""Results in memcached, which may forget anything when its memory is full or when it is restarted.

    dingo.m.ADDRESS   a mailbox: references of 16 bytes, appended by reporters, cut off by compare-and-swap when read
    dingo.i.REFERENCE a pack of reports; it is there before its reference is
    dingo.r.ID        what is kept of the calls with an id: name, time, frame of each; `add`ed, so the first one stays

memcached has no lists and tells nobody of anything: who waits for reports looks for them. A value has a largest size
(1 MB, if the server was not started with another), so a report has one too. It keeps its own time for everything.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from time import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pymemcache.client.base import Client, PooledClient
from pymemcache.exceptions import MemcacheError

from dingo.contracts import StoredCall
from dingo.errors import BadConfig, BrokerUnavailable, NotAttached
from dingo.masking import mask_url
from dingo.message.frame import pack, unpack
from dingo.store.apart import Apart
from dingo.store.lookout import Lookout
from dingo.store.mail import MAIL_SECONDS, PACK_BYTES, key_of, packs, raw, text_of, to_keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.contracts import ReportEnvelope

ANSWER_SECONDS = 15.0
# What a value needs beside its reports: its key, names, times (bytes).
_ROOM = 8192
_REFERENCE = 16
# How many packs are handed out at once.
COLLECT_MOST = 100
# How often a mailbox may come and go while something is put into it. After that it is full.
_TRIES = 5
# Beyond this memcached takes a number of seconds for a date.
_MONTH = 30 * 24 * 3600
_TIME = struct.Struct("!d")


def reporter(url: str, connect_seconds: float) -> MemcacheReporter:
    """Make the Reporter for a URL. Raises BadConfig."""
    return MemcacheReporter(Server(url, connect_seconds))


def store(url: str, connect_seconds: float) -> MemcacheStore:
    """Make the Store for a URL. Raises BadConfig."""
    return MemcacheStore(Server(url, connect_seconds))


class Server:
    """A way to one server: a connection for the thread that reports or collects, and more for questions."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._shown = mask_url(url)
        self._address = _address(url)
        self._opened_by = 0

    def open(self) -> bool:
        """Look who is there. Whether it was not open yet in this process. Raises BrokerUnavailable, BadConfig."""
        if self._opened_by == os.getpid():
            return False
        options: dict[str, Any] = {
            "connect_timeout": self._connect_seconds, "timeout": ANSWER_SECONDS, "no_delay": True,
            "default_noreply": False,
        }  # fmt: skip
        self.client = Client(self._address, **options)
        self.asking = PooledClient(self._address, **options)
        with self.errors():
            settings = self.client.stats("settings")
        self.largest = int(settings.get(b"item_size_max", PACK_BYTES)) - _ROOM
        self._opened_by = os.getpid()
        return True

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the client raises into our own. Its connection is closed then; the next command makes another."""
        try:
            yield
        except (MemcacheError, OSError) as error:
            raise BrokerUnavailable(f"{self._shown}: {str(error) or type(error).__name__}") from None

    def close(self) -> None:
        """Close the connections."""
        if self._opened_by == os.getpid():
            self._opened_by = 0
            self.client.close()
            self.asking.close()


def _address(url: str) -> Any:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = None
    if parts is None or "," in parts.netloc or "@" in parts.netloc or not (host or parts.path.strip("/")):
        raise BadConfig(
            f"{mask_url(url)!r} is no URL of one memcached: memcache://host:11211, or memcache:///path/to/socket; "
            "several servers and passwords are not supported"
        )
    return (host, port or 11211) if host else unquote(parts.path)


def _key(kind: str, what: bytes) -> bytes:
    return f"dingo.{kind}.{what.hex()}".encode()


def _expiry(seconds: float) -> int:
    whole = max(1, math.ceil(seconds))
    return whole if whole <= _MONTH else int(time()) + whole


def _entry(report: ReportEnvelope) -> list[bytes]:
    return [raw(report.name), _TIME.pack(time() + report.keep), report.frame]


def _entries(value: bytes) -> dict[str, list[bytes]]:
    """Read what is kept under an id; the first of a name counts."""
    parts = list(unpack(value))
    found: dict[str, list[bytes]] = {}
    for at in range(0, len(parts), 3):
        found.setdefault(text_of(parts[at]), parts[at : at + 3])
    return found


def _packed(entries: dict[str, list[bytes]]) -> tuple[bytes, int]:
    """Put entries together again; return for how long they are to be kept too."""
    left = max(_TIME.unpack(one[1])[0] for one in entries.values()) - time()
    return pack([part for one in entries.values() for part in one]), _expiry(left)


class MemcacheReporter:
    """Puts reports into memcached."""

    max_message_bytes: int | None = None

    def __init__(self, server: Server) -> None:
        self._server = server

    def open(self, emit: Callable[..., None]) -> None:
        """Look whether the server is there. Raises BrokerUnavailable, BadConfig."""
        if self._server.open():
            self._emit = emit
            self.max_message_bytes = self._server.largest

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Write a batch in one go: what is to be kept, then the packs and their references."""
        kept = to_keep(reports)
        commands = [_command(b"add", _key("r", key_of(one.id)), pack(_entry(one)), _expiry(one.keep)) for one in kept]
        seconds = _expiry(max([MAIL_SECONDS, *(one.keep for one in reports)]))
        letters = [(_key("m", key_of(reply)), os.urandom(_REFERENCE), mail)
                   for reply, mail in packs(reports, min(PACK_BYTES, self._server.largest))]  # fmt: skip
        for mailbox, reference, mail in letters:
            commands.append(_command(b"set", _key("i", reference), mail, seconds))
            commands.append(_command(b"append", mailbox, reference, 0))
        if not commands:
            return
        with self._server.errors():
            answers = self._do(commands)
            for one, answer in zip(kept, answers, strict=False):
                if answer == b"NOT_STORED":
                    self._keep_beside(one)
            for (mailbox, reference, _), answer in zip(letters, answers[len(kept) + 1 :: 2], strict=True):
                if answer == b"NOT_STORED":
                    self._start(mailbox, reference)

    def _do(self, commands: list[bytes]) -> list[bytes]:
        """Send all commands at once; return their answers. What the server has no room for is an error."""
        # The client has no public way to do this: `raw_command` loses what comes in more than one piece.
        answers: list[bytes] = self._server.client._misc_cmd(commands, b"batch", False)
        return answers

    def _start(self, mailbox: bytes, reference: bytes) -> None:
        """Make a mailbox with its first reference, or add it if another has made it meanwhile."""
        client = self._server.client
        for _ in range(_TRIES):
            if client.add(mailbox, reference, _expiry(MAIL_SECONDS)) or client.append(mailbox, reference):
                return
        self._emit(30, "mailbox.full", "a caller does not collect its reports, and memcached takes no more for it")

    def _keep_beside(self, report: ReportEnvelope) -> None:
        """Keep a result whose id is there already, unless it is of the same name."""
        client, key = self._server.client, _key("r", key_of(report.id))
        while True:
            value, ticket = client.gets(key)
            entries = {} if value is None else _entries(value)
            if report.name in entries:
                return
            entries[report.name] = _entry(report)
            data, seconds = _packed(entries)
            if len(data) > self._server.largest:
                text = f"the result of {report.name} {report.id} is not kept: others under the same id leave no room"
                self._emit(30, "result.dropped", text, {"id": report.id, "name": report.name})
                return
            if client.add(key, data, seconds) if value is None else client.cas(key, data, ticket, seconds):
                return

    def close(self) -> None:
        """Close the connections."""
        self._server.close()


def _command(verb: bytes, key: bytes, data: bytes, seconds: int) -> bytes:
    return b"%b %b 0 %d %d\r\n%b\r\n" % (verb, key, seconds, len(data), data)


class MemcacheStore(Apart):
    """Gets reports out of memcached, and looks at what is kept in it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lookout = Lookout()
        self._handed: dict[bytes, list[bytes]] = {}

    def open(self, emit: Callable[..., None]) -> None:
        """Look whether the server is there. Raises BrokerUnavailable, BadConfig."""
        if self._server.open():
            self._emit = emit
            self._handed = {}

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address. Raises BrokerUnavailable."""
        mailbox = _key("m", key_of(reply))
        with self._server.errors():
            return self._lookout.watch(lambda: self._take(mailbox), wait)

    def _take(self, mailbox: bytes) -> list[bytes]:
        self._drop_handed(mailbox)
        handed = self._handed.get(mailbox, ())
        new = [one for one in _references(self._server.client.get(mailbox)) if one not in handed][:COLLECT_MOST]
        if not new:
            return []
        found = self._server.client.get_many([_key("i", one) for one in new])
        self._handed.setdefault(mailbox, []).extend(new)
        lost = len(new) - len(found)
        if lost:
            self._emit(30, "report.lost", f"memcached has thrown out {lost} packs of reports: give it more memory")
        return [found[key] for key in (_key("i", one) for one in new) if key in found]

    def _drop_handed(self, mailbox: bytes) -> None:
        """Cut off what was handed out before. Where others write at the same moment, that is for the next time."""
        handed = self._handed.get(mailbox)
        if not handed:
            return
        client = self._server.client
        value, ticket = client.gets(mailbox)
        left = [one for one in _references(value) if one not in handed]
        if value is None or client.cas(mailbox, b"".join(left), ticket, _expiry(MAIL_SECONDS)):
            client.delete_many([_key("i", one) for one in handed])
            del self._handed[mailbox]

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return a call that has ended and is kept. Raises BrokerUnavailable."""
        with self._server.errors():
            value = self._server.asking.get(_key("r", key_of(id)))
        entries = {} if value is None else _entries(value)
        for known, (_, _, frame) in entries.items():
            if name in (None, known):
                return StoredCall(id, known, "ended", frame)
        return None

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call; whether there was something. Raises BrokerUnavailable."""
        client, key = self._server.asking, _key("r", key_of(id))
        with self._server.errors():
            if name is None:
                return bool(client.delete(key))
            while True:
                value, ticket = client.gets(key)
                entries = {} if value is None else _entries(value)
                if name not in entries:
                    return False
                del entries[name]
                if not entries:
                    return bool(client.delete(key))
                data, seconds = _packed(entries)
                if client.cas(key, data, ticket, seconds):
                    return True

    def _ended(self) -> list[StoredCall]:
        raise NotAttached("memcached cannot list what it holds: ask for a call by its id, or use another backend")

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        self._lookout.wake()

    def expect(self) -> None:
        """Look often from now on: reports are to be expected."""
        self._lookout.expect()

    def close(self) -> None:
        """Delete what was handed out, and close the connections."""
        for mailbox in tuple(self._handed):
            with contextlib.suppress(BrokerUnavailable), self._server.errors():
                self._drop_handed(mailbox)  # else it goes when its time is over
        self._server.close()


def _references(value: bytes | None) -> list[bytes]:
    return [value[at : at + _REFERENCE] for at in range(0, len(value), _REFERENCE)] if value else []
