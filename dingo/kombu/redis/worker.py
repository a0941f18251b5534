"""A worker's side of Redis: claims tasks, settles them together with their reports, and takes over from the dead."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.contracts import Delivery, Envelope, Settlement, Verdict
from dingo.errors import BrokerUnavailable
from dingo.kombu.redis.keys import (
    data_of,
    kept_for,
    number_text,
    parse,
    place_of,
    prefix_of,
    queue_of,
    report_arguments,
)  # fmt: skip
from dingo.kombu.redis.ledger import RedisLedger
from dingo.kombu.redis.line import BLOCK, FORGOTTEN, WOKEN, Line
from dingo.kombu.redis.scripts import (
    CLAIM,
    FINISH,
    REAP,
    RELEASE,
    REPLY_SECONDS,
    REPORT,
    SETTLE,
    STARTING,
    TEND,
)
from dingo.kombu.redis.server import CONNECT_SECONDS, Server
from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dingo.contracts import ReportEnvelope

# A lease that was renewed so long ago is left alone (seconds).
FRESH_SECONDS = 2.0
# How long a worker trusts the bell: calls that are due ring none (seconds).
LOOK = 0.5
# How often a waiting worker looks for dead ones (seconds).
REAP_EVERY = 1.0
# Of how many callers it is remembered when the time of their reports was renewed.
_CALLERS = 1000

_VERDICTS = {Verdict.ACK: "a", Verdict.RETURN: "r", Verdict.LATER: "l"}


class RedisWorker:
    """Consumer and Reporter: claims tasks, and settles them together with their reports."""

    settles_aside = True
    """Its commands go over connections that nobody else uses meanwhile."""

    def __init__(self, url: str, lease_seconds: float, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._server = Server(url, connect_seconds)
        self._lease = lease_seconds
        self.ledger = RedisLedger(self._server, lease_seconds)
        self._line: Line | None = None
        self._tend_lock = threading.Lock()

    def open(self, emit: Callable[..., None]) -> None:
        """Say that this worker lives. Raises BrokerUnavailable, BadConfig."""
        if self._line is not None:
            return
        self._server.open(emit)
        self._emit = emit
        self.owner = self.ledger.owner = f"worker-{os.getpid()}-{os.urandom(6).hex()}"
        self._held: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._got: list[tuple[str, str]] = []  # what the claim of now has brought so far
        self._stops: set[tuple[bytes, bytes]] = set()
        self._let_go: set[bytes] = set()
        self._missed: set[bytes] = set()
        self._started: set[tuple[bytes, bytes]] = set()
        self._unsure: set[tuple[bytes, bytes]] = set()
        self._claims = 0  # how many were asked for, each with the next number
        self._lost_claim = False
        self._tended = -FRESH_SECONDS  # when the lease was renewed (time.monotonic)
        self._renewed: dict[str, float] = {}  # when the time of who collects reports was, by address
        self._dry: frozenset[str] | None = None  # the queues that were empty when they were last looked at
        self._look_at = 0.0  # when they are to be looked at again: something may be due then (time.monotonic)
        self._settled_in()
        self._line = Line(self._server)
        self.tend()

    def _settled_in(self) -> None:
        """Leave the dead alone for a while: after an outage all leases are over, and the living must renew theirs."""
        self._reap_at = monotonic() + self._lease / 3

    # -- claims -----------------------------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the best of the first queue first."""
        until = monotonic() + wait
        wanted = room > 0 and bool(queues)
        self._got.clear()
        try:
            while True:
                self._reap()
                claimed = self._claim_anything(queues, room) if wanted else []
                now = monotonic()
                if claimed or now >= until:
                    return claimed
                if wanted:
                    came = self._rest_and_claim(queues, room, min(until, self._look_at) - now)
                else:
                    came = self._rest(until - now)
                if came is not None:
                    return came
        except BrokerUnavailable:
            for call in self._got:  # by an earlier step of this claim: nobody here will know of it
                self._held.pop(call, None)
            self._dry = None
            self._lost_claim = True
            self._settled_in()
            raise

    def _claim_anything(self, queues: Sequence[str], room: int) -> list[Delivery]:
        """Claim what there is. What was empty is not looked at again until a bell rings, or for a while."""
        if self._dry == frozenset(queues) and monotonic() < self._look_at:
            return []
        if self._lost_claim:
            self._let_go_of_lost()
        answer = self._server.run(CLAIM, self._claim(queues, room, fresh=monotonic() - self._tended < FRESH_SECONDS))
        return self._claimed(answer, queues)

    def _claim(self, queues: Sequence[str], room: int, *, fresh: bool = False) -> list[Any]:
        """Return the arguments of a claim. `fresh`: the lease was renewed a moment ago."""
        self._claims += 1
        return [self.owner, self._claims, "" if fresh else self._lease, room, *map(prefix_of, queues)]

    def _claimed(self, answer: list[Any], queues: Sequence[str]) -> list[Delivery]:
        """Read what was claimed, and when to look again."""
        wait, streams = answer
        claimed: list[Delivery] = []
        for stream, entries in streams:
            queue, priority = queue_of(stream), int(stream[-1:])
            for entry, fields in entries:
                try:
                    claimed.append(self._delivery(queue, priority, (stream, entry), fields))
                except (ValueError, IndexError, struct.error):
                    self._refuse(queue, stream, entry)
        self._dry = frozenset(queues)
        self._look_at = monotonic() + (LOOK if wait < 0 else min(LOOK, wait / 1000))
        return claimed

    def _let_go_of_lost(self) -> None:
        """Give back what the server thinks that we have and we do not know, as the answer got lost, or is not wanted.

        A claim that the server has not carried out yet, it will not carry out any more.
        """
        self._claims += 1
        self._server.run(RELEASE, [self.owner, self._claims, 0, *map(place_of, list(self._held.values()))])
        self._lost_claim = False

    def _refuse(self, queue: str, stream: bytes, entry: bytes) -> None:
        """Delete what is no task of ours, so that it stands in nobody's way."""
        self._server.do("XACK", stream, "dingo", entry)
        self._server.do("XDEL", stream, entry)
        text = f"entry {entry.decode()} of queue {queue!r} was deleted: it is not dingo's"
        self._emit(40, "message.refused", text, {"queue": queue, "entry": entry.decode()})

    def _delivery(self, queue: str, priority: int, token: tuple[bytes, bytes], fields: list[bytes]) -> Delivery:
        call_id, name, reply, frame = parse(fields[1])
        self._held[name, call_id] = token
        self._got.append((name, call_id))
        envelope = Envelope(queue, call_id, name, frame, priority, None, reply)
        if len(fields) == 2:
            return Delivery(envelope, token)
        mark = fields[3].decode()
        if "x" in mark:
            self._stops.add(token)
        return Delivery(envelope, token, "u" in mark, int(mark.rstrip("ux")))

    def _rest(self, seconds: float) -> list[Delivery] | None:
        """Wait for so many seconds, or until it is woken. Returns None if it was not."""
        assert self._line is not None
        answer = self._line.wait(None, seconds)
        if answer is WOKEN:
            return []
        if answer is not None:  # a bell rang for a claim of a moment when there was room
            self._let_go_of_lost()
        return None

    def _rest_and_claim(self, queues: Sequence[str], room: int, seconds: float) -> list[Delivery] | None:
        """Wait until a bell rings, and claim. Returns None if none has rung within so many seconds.

        The claim is sent along with the wait for the bell: the server carries it out as soon as that rings. It is for
        one task, for nobody knows what this worker will be able to do then; the rest is claimed at once, or by others.
        """
        line = self._line
        assert line is not None
        bells = ("BLPOP", *sorted(prefix_of(queue) + "bell" for queue in queues), BLOCK)
        if line.asked == bells:
            answer = line.wait(None, seconds)
        else:
            if line.asked is not None:
                line.drop()
                self._let_go_of_lost()
            answer = line.wait(bells, seconds, ("EVALSHA", CLAIM.digest, 0, *self._claim(queues, 1)))
        if answer is WOKEN:
            return []
        if answer is None:
            return None
        if answer is FORGOTTEN:  # the next claim tells it the script
            self._dry = None
            return None
        claimed = self._claimed(answer, queues)
        if claimed and room > 1:
            claimed += self._claim_anything(queues, room - 1)
        return claimed or None

    # -- verdicts and reports ---------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Carry out verdicts and publish their reports, in one script; return the stale ones.

        What ended with one report or none, as most do, goes by a script of its own: where there is both, it is two.
        """
        plain: dict[tuple[Any, ...], list[Settlement]] = {}
        others: list[Settlement] = []
        for one in settlements:
            if self._is_plain(one):
                plain.setdefault(self._group_of(one), []).append(one)
            else:
                others.append(one)
        stale: list[Settlement] = []
        try:
            if plain:
                stale = self._finish(plain)
            if others:
                stale += self._settle_others(others)
        except BrokerUnavailable:
            self._unsure.update(one.delivery.token for one in settlements)
            raise
        self._settled(settlements)
        return self._surely(stale, settlements)

    def _is_plain(self, one: Settlement) -> bool:
        if one.verdict is not Verdict.ACK or len(one.reports) > 1 or one.frees is not None or one.sends:
            return False
        if one.reports and not one.reports[0].final:
            return False
        return not one.delivery.starts and one.delivery.token not in self._started

    def _group_of(self, one: Settlement) -> tuple[Any, ...]:
        """Return what a plain settlement has in common with others: stream, name, reply, keep."""
        if not one.reports:
            return one.delivery.token[0], one.delivery.envelope.name, "", ""
        report = one.reports[0]
        return one.delivery.token[0], report.name, report.reply, kept_for(report)

    def _finish(self, groups: dict[tuple[Any, ...], list[Settlement]]) -> list[Settlement]:
        arguments: list[Any] = []
        order: list[Settlement] = []
        for (stream, name, reply, keep), group in groups.items():
            frames = [one.reports[0].frame if one.reports else b"" for one in group]
            together, renews = (pack(frames), self._renews(reply)) if reply else (b"", "")
            arguments += (stream, name, reply, keep, together, renews, len(group))
            for one, frame in zip(group, frames, strict=True):
                arguments += (one.delivery.token[1], one.delivery.envelope.id, frame)
            order += group
        return [order[index] for index in self._server.run(FINISH, arguments)]

    def _renews(self, reply: str) -> str:
        """Return "1" where the time is to be renewed for which reports wait for who collects them."""
        now = monotonic()
        if now - self._renewed.get(reply, -REPLY_SECONDS) < REPLY_SECONDS / 6:
            return ""
        if len(self._renewed) > _CALLERS:
            self._renewed.clear()
        self._renewed[reply] = now
        return "1"

    def _settle_others(self, settlements: list[Settlement]) -> list[Settlement]:
        arguments: list[Any] = [self.owner]
        for one in settlements:
            self._add(arguments, one)
        return [settlements[index] for index in self._server.run(SETTLE, arguments)]

    def _settled(self, settlements: Sequence[Settlement]) -> None:
        """Hold the claims no more, but for one of the same call that was made anew meanwhile."""
        for one in settlements:
            key = (one.delivery.envelope.name, one.delivery.envelope.id)
            if self._held.get(key) == one.delivery.token:
                del self._held[key]

    def _surely(self, stale: list[Settlement], settlements: Sequence[Settlement]) -> list[Settlement]:
        """Leave out what was tried before without an answer: it may be stale because it was carried out then."""
        if stale:
            stale = [one for one in stale if one.delivery.token not in self._unsure]
        if self._unsure or self._started or self._stops:
            tokens = {one.delivery.token for one in settlements}
            for marked in (self._unsure, self._started, self._stops):
                marked.difference_update(tokens)
        return stale

    def _add(self, arguments: list[Any], one: Settlement) -> None:
        envelope = one.delivery.envelope
        token = one.delivery.token
        due: Any = ""
        data = b""
        if one.verdict is Verdict.LATER:
            due = number_text(one.due)
            data = b"" if one.frame is None else data_of(envelope, one.frame)
        started = "1" if one.delivery.starts or token in self._started or one.frees is not None else ""
        if one.frees is not None:
            started += one.frees
        arguments += (*token, _VERDICTS[one.verdict], envelope.id, envelope.name, started, due, data)
        arguments += (len(one.reports), len(one.sends))
        for report in one.reports:
            arguments += report_arguments(report)
        for task in one.sends:
            arguments += (prefix_of(task.queue), task.priority, number_text(task.due))
            arguments += (task.id, task.name, data_of(task, task.frame))

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on."""
        if reports:
            self._server.run(REPORT, [field for one in reports for field in report_arguments(one)])

    def starting(self, delivery: Delivery) -> int:
        """Record the start of a suspect."""
        self._started.add(delivery.token)
        starts: int = self._server.run(STARTING, [*delivery.token, delivery.starts])
        return starts

    def starting_all(self, deliveries: Sequence[Delivery]) -> None:
        """Record the starts of several."""
        for delivery in deliveries:
            self.starting(delivery)

    # -- signs of life ----------------------------------------------------------------------------------------------

    def tend(self) -> list[Any]:
        """Renew the lease; return what is to be stopped."""
        with self._tend_lock:
            if self._line is None:
                return []
            now = monotonic()
            asked = set(self._server.run(TEND, [self.owner, self._lease, *self._let_go]))
            self._tended = now
            stops = self._stops.copy()
            held = self._held.copy() if asked or stops else {}
            unknown = asked - {place_of(token) for token in held.values()}
            # What is not held the second time was settled. The first time it may be on its way from the server.
            self._let_go, self._missed = unknown & self._missed, unknown
            return [key for key, token in held.items() if token in stops or place_of(token) in asked]

    def wake(self) -> None:
        """Make a waiting `claim` return."""
        line = self._line
        if line is not None:
            line.wake()

    def _reap(self) -> None:
        """Give what dead workers had to the living."""
        if monotonic() < self._reap_at:
            return
        self._reap_at = monotonic() + REAP_EVERY
        for owner, taken in self._server.run(REAP, [self.owner]):
            payload = {"owner": owner.decode(), "tasks": taken}
            self._emit(30, "worker.lost", f"{payload['owner']} is dead: {taken} tasks it had wait again", payload)

    def close(self) -> None:
        """Give back what is claimed."""
        with self._tend_lock:
            line, self._line = self._line, None
            if line is None:
                return
            self.ledger.close()
            with contextlib.suppress(BrokerUnavailable):
                self._server.run(RELEASE, [self.owner, self._claims + 1, 1])
        line.close()
        self._server.close()
