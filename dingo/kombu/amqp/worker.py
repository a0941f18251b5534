"""Tasks from RabbitMQ, and reports to it."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from dingo.contracts import Delivery, Settlement, Verdict
from dingo.errors import BrokerUnavailable
from dingo.kombu.amqp.connection import CONNECT_SECONDS, PATIENCE
from dingo.kombu.amqp.errors import LostError
from dingo.kombu.amqp.messages import Claim, count_in, delivery_of, key_of, report_messages, task_message
from dingo.kombu.amqp.part import Part
from dingo.kombu.amqp.properties import DUE, SERIAL, STARTS, SUSPECT, write_properties
from dingo.kombu.amqp.queues import PRIORITIES, task_queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dingo.contracts import ReportEnvelope
    from dingo.kombu.amqp.frames import Message
    from dingo.kombu.amqp.link import Link, Outgoing

# RabbitMQ 3.10 writes down some seconds late that a queue was made: killed before, it forgets the queue and what is in
# it. A server that has just come back may go again, so nothing is moved to a new queue so soon (seconds).
HOLD_SETTLES = 3.0
# For how long after an outage tasks come that went back with a connection, whether their worker lives or not (seconds).
FORGIVES = 30.0
# What was fetched in vain for so long goes back (seconds).
SURPLUS_AFTER = 2.0
PREFETCH_MOST = 1000
# After how long another caller's call of an id that this worker holds comes again (seconds).
NAMESAKES_AFTER = 0.5
# How long the first claim waits for what the server said is there (seconds).
BACKLOG_WAIT = 1.0


class AmqpWorker(Part):
    """Consumer and Reporter."""

    def __init__(self, url: str, lease_seconds: float, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, connect_seconds)
        self._heartbeat = max(1, int(lease_seconds / 2))
        self._held: dict[tuple[str, str], Claim] = {}
        self._allowed: float | None = None
        self._astray: set[str] = set()
        self._connected_before = False
        self._hold_from = self._forgives_until = 0.0
        self._settled: set[str] = set()  # the consumers that have had something new since the connection was made
        self._forget()

    def _forget(self) -> None:
        """Know nothing of a connection, but what was claimed over an earlier one."""
        self._name = os.urandom(8).hex()  # what the last one held goes back to its queue, and comes from there
        self._numbers = 0
        self._consumers: dict[str, tuple[str, int]] = {}
        self._tags: dict[str, list[str]] = {}
        self._prefetch: dict[str, int] = {}
        self._holds: dict[str, str] = {}
        self._returned: dict[int, int] = {}
        self._waiting: dict[str, list[deque[Delivery]]] = {}
        self._expected = 0
        self._taken = False
        self._enough = self._renewed = monotonic()

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, so that a wrong URL is told at once. Raises BrokerUnavailable."""
        super().open(emit)
        with self._talking():
            pass

    def _connect(self) -> Link:
        self._forget()
        self._hold_from = monotonic() + HOLD_SETTLES if self._connected_before else 0.0
        self._forgives_until = monotonic() + FORGIVES if self._connected_before else 0.0
        self._settled.clear()
        link = super()._connect()
        self._connected_before = True
        link.probe.allowed = self._allowed
        self._astray = {one.envelope.queue for one in self._held.values()}
        return link

    def _drop(self) -> None:
        if self._link is not None:  # what the server allows it will allow over the next connection too
            self._allowed = self._link.probe.allowed
        super()._drop()

    # -- claiming ---------------------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the best of the first queue first."""
        until = monotonic() + wait
        with self._talking_surely() as link:
            self._keep_up(link, queues, room)
            self._await_backlog(link)
            while True:
                link.ack_confirmed()
                self._sort(link)
                claimed = self._take(link, queues, room)
                left = until - monotonic()
                if claimed or link.woken or left <= 0:
                    link.woken = False
                    return claimed
                link.pump(left)

    def _await_backlog(self, link: Link) -> None:
        """Wait for what the server said was there: else the best could come after what happened to come first."""
        until = monotonic() + BACKLOG_WAIT
        while len(link.inbox) < self._expected and monotonic() < until:
            link.pump(until - monotonic())
        self._expected = 0

    def _sort(self, link: Link) -> None:
        """Put what has come in line; put off what is early."""
        early: list[tuple[Delivery, float]] = []
        now = time()
        while link.inbox:
            message = link.inbox.popleft()
            place = self._consumers.get(message.consumer)
            if place is None:
                self._returned[count_in(message, SERIAL)] = message.tag
                continue
            delivery = delivery_of(link, message, *place, forgiven=self._forgives(message))
            if not self._is_new(link, delivery, early):
                continue
            due = count_in(message, DUE) / 1000
            if due > now:
                early.append((delivery, due))
            else:
                self._waiting[place[0]][9 - place[1]].append(delivery)
        self._put_off(link, early)

    @staticmethod
    def _put_off(link: Link, early: list[tuple[Delivery, float]]) -> None:
        """Have tasks come again at a time of their own."""
        if early:
            link.publish(
                [
                    task_message(link, one.envelope, due=due, starts=one.starts, suspect=one.suspect)
                    for one, due in early
                ]
            )
            link.ack([one.token.tag for one, _ in early])

    def _forgives(self, message: Message) -> bool:
        """Whether that a task was delivered before is no sign that a worker died: after an outage it says nothing.

        What went back to a queue with a connection comes first, so this ends with the first that is new.
        """
        if not message.redelivered:
            self._settled.add(message.consumer)
            return False
        return monotonic() < self._forgives_until and message.consumer not in self._settled

    def _is_new(self, link: Link, delivery: Delivery, early: list[tuple[Delivery, float]]) -> bool:
        """Whether this worker does not hold that task already: from a lost connection, or since it was sent twice.

        Another caller's call of the same id has to wait for the one that is held: it goes into `early`.
        """
        held = self._held.get(key_of(delivery.envelope))
        if held is None or not delivery.envelope.id:
            return True
        if held.envelope.reply != delivery.envelope.reply:
            early.append((delivery, time() + NAMESAKES_AFTER))
        elif held.link is link:
            link.ack([delivery.token.tag])
        else:
            held.link, held.tag, held.since = link, delivery.token.tag, delivery.token.since
        return False

    def _take(self, link: Link, queues: Sequence[str], room: int) -> list[Delivery]:
        claimed: list[Delivery] = []
        early: list[tuple[Delivery, float]] = []
        for queue in queues:
            for line in self._waiting.get(queue, ()):
                while line and len(claimed) < room:
                    delivery = line.popleft()
                    if self._is_new(link, delivery, early):
                        self._held[key_of(delivery.envelope)] = delivery.token
                        claimed.append(delivery)
        self._put_off(link, early)
        self._taken = self._taken or bool(claimed)
        return claimed

    def _keep_up(self, link: Link, queues: Iterable[str], room: int) -> None:
        """Subscribe to as much as can be run, renew what was held long, give back what was fetched in vain."""
        now = monotonic()
        want = min(PREFETCH_MOST, max(1, room + len(self._held) + link.unconfirmed))
        if room > 0 or self._astray:
            # What still runs here went back to its queue with the last connection: it may come to this worker again.
            queues, self._astray = {*queues, *self._astray} if self._astray else queues, set()
            for queue in queues:
                if queue not in self._prefetch:
                    self._subscribe(link, queue, want)
                elif want > self._prefetch[queue]:
                    self._subscribe(link, queue, min(PREFETCH_MOST, 2 * want))
        self._renew(link, now)
        self._share(link, want, now)

    def _renew(self, link: Link, now: float) -> None:
        """Have what was kept long delivered anew, before the server takes offence."""
        safe = link.probe.safe()
        if now - self._renewed < safe / 10:
            return
        self._renewed = now
        held = [one for one in self._held.values() if self._is_ours(one) and now - one.since > safe]
        if held:
            link.begin_probe()
            self._move(held)
        lines = [line for lines in self._waiting.values() for line in lines]
        waiting: list[Claim] = []
        for line in lines:
            while line and now - line[0].token.since > safe:
                waiting.append(line.popleft().token)
        self._put_back(link, waiting)

    def _share(self, link: Link, want: int, now: float) -> None:
        """Put back what was fetched and cannot be run soon; fetch no more until there is room. Others may have it."""
        waiting = sum(len(line) for lines in self._waiting.values() for line in lines)
        if waiting == 0 or (self._taken and waiting <= want):
            self._enough, self._taken = now, False
        elif now - self._enough > SURPLUS_AFTER:
            self._enough = now
            self._unsubscribe(link)
            self._put_back(link, self._unstarted())

    def _subscribe(self, link: Link, queue: str, prefetch: int) -> None:
        """Consume from the queues of all priorities, the best first; the prefetch of a consumer cannot be changed."""
        self._prefetch[queue] = prefetch
        old = self._tags.get(queue, [])
        new = self._tags[queue] = []
        self._waiting.setdefault(queue, [deque() for _ in PRIORITIES])
        link.prefetch(prefetch)
        for priority in PRIORITIES:
            name, ready = link.queues.tasks(queue, priority)
            self._numbers += 1
            tag = f"t{self._numbers}"
            self._consumers[tag] = (queue, priority)
            self._expected += min(ready, prefetch)
            new.append(tag)
            link.consume(name, tag)
        for tag in old:
            link.cancel(tag, wait=False)

    def _unsubscribe(self, link: Link) -> None:
        """Get no more tasks, until the next claim that has room."""
        for tags in self._tags.values():
            for tag in tags:
                link.cancel(tag)
        self._tags.clear()
        self._prefetch.clear()
        self._sort(link)
        self._consumers.clear()  # what was on its way to them has come
        self._settled.clear()

    def _unstarted(self) -> list[Claim]:
        """Take out all that was fetched and not claimed."""
        lines = [line for lines in self._waiting.values() for line in lines]
        claims = [one.token for line in lines for one in line]
        for line in lines:
            line.clear()
        return claims

    @staticmethod
    def _put_back(link: Link, claims: list[Claim]) -> None:
        """Publish copies, which are suspects only if they were: what is rejected looks like what a dead worker had."""
        claims.sort(key=lambda claim: claim.tag)
        link.publish(
            [task_message(link, one.envelope, due=None, starts=one.starts, suspect=one.suspect) for one in claims]
        )
        link.ack([one.tag for one in claims])

    # -- settling ---------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Publish reports and what is to come again; when that is confirmed, acknowledge. Return the stale ones.

        It does not wait for the confirms of reports: if they do not come, the server gives the tasks to another.
        """
        if not settlements:
            return []
        good = [one for one in settlements if self._is_ours(one.delivery.token)]
        if good:
            with self._talking_surely() as link:
                if any(one.verdict is Verdict.RETURN for one in good):  # who returns tasks does not want them again
                    self._unsubscribe(link)
                    self._put_back(link, self._unstarted())
                messages = report_messages(link, [report for one in good for report in one.reports])
                again = [self._again(link, one) for one in good if one.verdict is not Verdict.ACK]
                again += [task_message(link, task, due=task.due) for one in good for task in one.sends]
                link.publish_then_ack(messages + again, [one.delivery.token.tag for one in good])
                if again:
                    link.wait_for_confirms()
        for one in settlements:
            claim: Claim = one.delivery.token
            claim.tag = 0
            if self._held.get(key_of(claim.envelope)) is claim:
                del self._held[key_of(claim.envelope)]
        if len(good) == len(settlements):
            return []
        kept = {id(one) for one in good}
        return [one for one in settlements if id(one) not in kept]

    def _is_ours(self, claim: Claim) -> bool:
        return claim.tag != 0 and claim.link is self._link

    @staticmethod
    def _again(link: Link, one: Settlement) -> Outgoing:
        """Make a copy of a task that is to come again."""
        envelope = one.delivery.envelope
        if one.frame is not None:
            envelope.frame = one.frame
        due = one.due if one.verdict is Verdict.LATER else None
        # A task with a new frame has run to its end here; any other is what it was when it came.
        suspect = one.delivery.suspect and one.frame is None
        return task_message(link, envelope, due=due, starts=one.delivery.starts, suspect=suspect)

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on."""
        if not reports:
            return
        with self._talking_surely() as link:
            link.publish(report_messages(link, reports))

    # -- suspects ---------------------------------------------------------------------------------------------

    def starting(self, delivery: Delivery) -> int:
        """Record a start: the task moves to a queue of this worker's, and from there back if the worker dies."""
        self.starting_all([delivery])
        return delivery.starts

    def starting_all(self, deliveries: Sequence[Delivery]) -> None:
        """Record the starts of several: they move together."""
        claims: list[Claim] = [delivery.token for delivery in deliveries]
        if not all(map(self._is_ours, claims)):
            raise BrokerUnavailable(f"{self._address.url}: claims went with a connection, and others get the tasks")
        self._move(claims, starting=1)
        for delivery, claim in zip(deliveries, claims, strict=True):
            delivery.starts = claim.starts

    def _move(self, claims: Sequence[Claim], starting: int = 0) -> None:
        """Exchange claims for claims on copies in queues that are this worker's alone, with so many starts more."""
        with self._talking_surely() as link:
            messages: list[Outgoing] = []
            serials: dict[int, Claim] = {}
            for claim in claims:
                self._numbers += 1
                serials[self._numbers] = claim
                messages.append(self._held_copy(link, claim, claim.starts + starting, self._numbers))
            while (left := self._hold_from - monotonic()) > 0:
                link.pump(left)
            link.publish(messages)
            until = monotonic() + PATIENCE
            self._sort(link)
            while not all(serial in self._returned for serial in serials):
                if monotonic() > until:
                    raise LostError("the server did not deliver what it took")
                link.pump(1.0)
                self._sort(link)
            # What comes of it may end this process at once; then nobody may find the task unstarted in its queue.
            link.ack_surely([claim.tag for claim in claims])
            for serial, claim in serials.items():
                claim.tag = self._returned.pop(serial)
                claim.since = monotonic()
                claim.starts += starting

    def _held_copy(self, link: Link, claim: Claim, starts: int, serial: int) -> Outgoing:
        envelope = claim.envelope
        target = task_queue(envelope.queue, envelope.priority)
        name = self._holds.get(target)
        if name is None:
            name = self._holds[target] = link.queues.hold(self._name, target)
            link.prefetch(0)
            link.consume(name, f"h{len(self._holds)}")
        headers = {STARTS: starts, SUSPECT: True, SERIAL: serial}
        return name, write_properties(envelope.id, envelope.name, envelope.reply, headers=headers), envelope.frame

    # -- the end ----------------------------------------------------------------------------------------------

    def tend(self) -> list[Any]:
        """Return nothing: the connection says whether this worker lives, and nobody can ask for calls to be stopped."""
        return []

    def close(self) -> None:
        """Put back what was claimed or fetched, and close the connection."""
        self.wake()
        with self._busy:
            if self._link is not None:
                # What cannot be put back goes back with the connection.
                with contextlib.suppress(BrokerUnavailable), self._talking_surely() as link:
                    link.wait_for_confirms()
                    self._unsubscribe(link)
                    self._put_back(link, [*filter(self._is_ours, self._held.values()), *self._unstarted()])
            self._held.clear()
            self._forget()
        super().close()


class AmqpReporter(AmqpWorker):
    """Reporter alone, where the tasks go another way: nothing is lost with its connection, so it needs no heartbeat."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        super().__init__(url, 0.0, connect_seconds)
        self._heartbeat = 0
