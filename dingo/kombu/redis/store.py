"""A caller's side of Redis: collects reports, and looks at the calls that are there."""

from __future__ import annotations

import contextlib
import struct
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.contracts import StoredCall
from dingo.errors import BrokerUnavailable
from dingo.kombu.redis.keys import number_of, parse, prefix_of, queue_of, records
from dingo.kombu.redis.ledger import RedisLedger
from dingo.kombu.redis.line import BLOCK, GRACE, WOKEN, Line
from dingo.kombu.redis.scripts import CANCEL, FETCH, FORGET, UNKNOWN
from dingo.kombu.redis.server import CONNECT_SECONDS, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# How many packs of reports are taken at once, and how many that were taken may still lie in the server.
_COLLECT = 500
_TRIM_AT = 200
# How many calls are looked at with one question.
_PAGE = 1000


class RedisStore:
    """Gets reports out of Redis, and looks at what is in it."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._server = Server(url, connect_seconds)
        self.ledger = RedisLedger(self._server)
        self._line: Line | None = None
        self._seen: dict[str, bytes] = {}
        self._untrimmed = 0

    def open(self, emit: Callable[..., None]) -> None:
        """Look whether the server is there. Raises BrokerUnavailable, BadConfig."""
        self._server.open(emit)
        self._line = self._line or Line(self._server)

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address.

        They stay in the server until they are here: a connection that is lost on the way loses nothing.
        """
        assert self._line is not None
        until = monotonic() + wait
        if self._untrimmed >= _TRIM_AT:  # before anything is read: what was read must get to the one who asked
            self._trim(reply)
        while True:
            answer = self._read(reply, until - monotonic())
            if answer is WOKEN:
                return []
            if answer:
                ((_, entries),) = answer
                self._seen[reply] = entries[-1][0]
                self._untrimmed += len(entries)
                return [fields[1] for _, fields in entries]
            if until - monotonic() <= 0:
                self._trim(reply)
                return []

    def _read(self, reply: str, wait: float) -> Any:
        assert self._line is not None
        streams = ("STREAMS", f"dingo:reply:{reply}", self._seen.get(reply, b"0"))
        if wait <= 0:  # one who does not wait still wants the server's answer
            return self._line.wait(("XREAD", "COUNT", _COLLECT, *streams), GRACE)
        return self._line.wait(("XREAD", "COUNT", _COLLECT, "BLOCK", BLOCK * 1000, *streams), wait)

    def _trim(self, reply: str) -> None:
        """Let the server forget what has come."""
        if self._untrimmed:
            milliseconds, number = number_of(self._seen[reply])
            self._server.do("XTRIM", f"dingo:reply:{reply}", "MINID", b"%d-%d" % (milliseconds, number + 1))
            self._untrimmed = 0

    def wake(self) -> None:
        """Make a waiting `collect` return."""
        line = self._line
        if line is not None:
            line.wake()

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call."""
        found = self._server.run(FETCH, [id, name or ""])
        if found is None:
            return None
        of, state, prefix, due, frame = found
        queue = queue_of(prefix) if prefix else ""
        ended = state == b"ended"
        return StoredCall(id, of.decode(), state.decode(), frame if ended else None, queue, float(due) if due else None)

    def unknown(self, calls: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of the calls (id and name) that a server which was started anew does not know any more."""
        if not self._server.was_started_anew():
            return []
        gone: list[tuple[str, str]] = []
        try:
            for at in range(0, len(calls), _PAGE):
                part = calls[at : at + _PAGE]
                gone += (part[index] for index in self._server.run(UNKNOWN, [text for call in part for text in call]))
            self._rewind()
        except BrokerUnavailable:
            self._server.started = None
            raise
        return gone

    def _rewind(self) -> None:
        """Collect from the beginning of a stream that was made anew by a clock behind the last one's."""
        for reply in self._seen:
            newest = self._server.do("XREVRANGE", f"dingo:reply:{reply}", "+", "-", "COUNT", 1)
            if not newest or number_of(newest[0][0]) < number_of(self._seen[reply]):
                self._seen[reply] = b"0-0"
                self._untrimmed = 0

    def forget(self, id: str, name: str | None) -> bool:
        """Delete what is kept of a call."""
        return bool(self._server.run(FORGET, [id, name or ""]))

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Withdraw a call that waits: True; ask its worker to stop it: None; it has ended: False."""
        return (False, True, None)[self._server.run(CANCEL, [id, name, frame, int(keep * 1000)])]

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls in a state, in the order they would run."""
        with self._server.errors():
            if state == "ended":
                return list(self._ended())
            prefixes = [prefix_of(queue).encode()] if queue else sorted(self._server.client.smembers("dingo:queues"))
            if state == "delayed":
                return [call for prefix in prefixes for call in self._delayed(prefix)]
            return [call for prefix in prefixes for call in self._here(prefix, state)]

    def _ended(self) -> Iterator[StoredCall]:
        client, page = self._server.client, []
        for key in client.scan_iter(match="dingo:call:*", count=_PAGE):
            page.append(key)
            if len(page) == _PAGE:
                yield from self._ended_of(page)
                page = []
        yield from self._ended_of(page)

    def _ended_of(self, keys: list[bytes]) -> Iterator[StoredCall]:
        for key, text in zip(keys, self._server.client.mget(keys) if keys else (), strict=True):
            for name, value in records(text or b""):
                if value.startswith(b"e"):
                    yield StoredCall(key[11:].decode(), name.decode(), "ended", value[1:])

    def _delayed(self, prefix: bytes) -> Iterator[StoredCall]:
        for one, due in self._server.client.zrange(prefix + b"later", 0, -1, withscores=True):
            length, _, rest = one.partition(b":")
            at = int(length)
            yield StoredCall(rest[:at].decode(), rest[at:].decode(), "delayed", None, queue_of(prefix), due)

    def _here(self, prefix: bytes, state: str) -> Iterator[StoredCall]:
        """List what has been claimed ("running"), or what has not ("waiting")."""
        client = self._server.client
        streams = client.smembers(prefix + b"streams")
        for stream in sorted(streams, key=lambda one: (-int(one[-1:]), b":tasks:" in one)):
            groups = client.xinfo_groups(stream) if client.exists(stream) else []
            read = groups[0]["last-delivered-id"] if groups else b"0-0"
            at, end = (b"(" + read, b"+") if state == "waiting" else (b"-", read)
            while entries := client.xrange(stream, at, end, count=_PAGE):
                at = b"(" + entries[-1][0]
                for _, fields in entries:
                    with contextlib.suppress(KeyError, ValueError, struct.error):  # what a worker would refuse
                        yield StoredCall(*parse(fields[b"d"])[:2], state, None, queue_of(prefix))

    def close(self) -> None:
        """Close the connections."""
        line, self._line = self._line, None
        if line is not None:
            line.close()
        self._server.close()
