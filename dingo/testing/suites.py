"""The contract suites: what every implementation of a role must do, as tests to inherit.

    from dingo.testing.suites import BrokerSuite

    class TestMine(BrokerSuite):
        def broker(self, tmp_path): return MyBroker(...)     # with producer(), worker() and store()

Each test states one promise of `dingo.contracts`. They wait for facts; none depends on how fast a machine is.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from dingo.bridge.ledger import BURST
from dingo.contracts import Delivery, Envelope, Place, ReportEnvelope, Settlement, UniqueCall, Verdict
from dingo.errors import BadArguments, BadMessage, NotAttached
from dingo.message.frame import unpack
from dingo.message.report import Code, Failure, Progress, Report, Status
from dingo.message.task import Header, TaskMessage

if TYPE_CHECKING:
    from collections.abc import Iterator

# Long enough for the slowest broker, short enough that a broken one is noticed (seconds).
PATIENCE = 20.0


class Broker(Protocol):
    """What a suite needs of an implementation: fresh components of one broker, opened by the suite."""

    def producer(self) -> Any:
        """Make a Producer."""

    def worker(self) -> Any:
        """Make what is Consumer and Reporter in one."""

    def store(self) -> Any:
        """Make a Store."""


class Backend(Protocol):
    """The same of a backend that may be no broker."""

    def reporter(self) -> Any:
        """Make a Reporter."""

    def store(self) -> Any:
        """Make a Store."""


def envelope(id: str = "1", *, name: str = "add", queue: str = "default", **fields: Any) -> Envelope:
    """Make a task to send."""
    return Envelope(queue, id, name, f"frame of {id}".encode(), **fields)


def report(id: str = "1", *, reply: str = "me", final: bool = True, frame: bytes | None = None) -> ReportEnvelope:
    """Make a report to send."""
    return ReportEnvelope(reply, id, "add", frame or f"report of {id}".encode(), final, 60.0)


def _opened(broker: Any) -> Iterator[Any]:
    """Yield what makes and opens a component of a kind; close all of them in the end."""
    opened: list[Any] = []

    def make(kind: str) -> Any:
        part = getattr(broker, kind)()
        part.open(lambda *_args: None)
        opened.append(part)
        return part

    yield make
    for part in opened:
        part.close()


class _Suite:
    """What the suites of brokers and backends share."""

    @pytest.fixture
    def made(self) -> Any:
        """Return what makes the components under test."""
        raise NotImplementedError

    @pytest.fixture
    def parts(self, made: Any) -> Any:
        """Open components of a kind, and close them after the test."""
        yield from _opened(made)

    def collect(self, store: Any, count: int, reply: str = "me") -> list[bytes]:
        """Collect until so many reports have come."""
        frames: list[bytes] = []
        until = time.monotonic() + PATIENCE
        while len(frames) < count and time.monotonic() < until:
            for pack in store.collect(reply, 1.0):
                frames += unpack(pack)
        return frames


class BackendSuite(_Suite):
    """Reporter and Store of one backend, whichever way the tasks go."""

    lists = True
    """Whether it can list what it keeps."""

    @pytest.fixture
    def backend(self) -> Backend:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    @pytest.fixture
    def made(self, backend: Backend) -> Any:
        """Return what makes the components under test."""
        return backend

    def apart(self, store: Any) -> bool:
        """Whether it knows only calls that have ended."""
        return bool(getattr(store, "apart", False))

    # -- on their way ------------------------------------------------------------------------------

    def test_reports_come_to_their_address_once_and_in_order(self, parts: Any) -> None:
        """Intermediate and final ones, of one batch and of several."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([report(final=False, frame=b"one"), report(final=False, frame=b"two")])
        reporter.report([report(frame=b"three")])
        assert self.collect(store, 3) == [b"one", b"two", b"three"]
        assert store.collect("me", 0.0) == []

    def test_reports_of_several_reporters_all_come(self, parts: Any) -> None:
        """At the same moment, while somebody collects."""
        store = parts("store")
        reporters = [parts("reporter") for _ in range(3)]

        def tell(number: int) -> None:
            for count in range(20):
                reporters[number].report([report(f"{number}-{count}")])

        threads = [threading.Thread(target=tell, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        frames = self.collect(store, 60)
        for thread in threads:
            thread.join()
        wanted = [f"report of {number}-{count}".encode() for number in range(3) for count in range(20)]
        assert sorted(frames) == sorted(wanted)
        assert [one for one in frames if one.startswith(b"report of 1-")] == wanted[20:40]

    def test_an_address_gets_only_its_own_reports(self, parts: Any) -> None:
        """Two callers do not hear each other."""
        reporter = parts("reporter")
        reporter.report([report("1", reply="you"), report("2", reply="me")])
        assert self.collect(parts("store"), 1) == [b"report of 2"]
        assert self.collect(parts("store"), 1, "you") == [b"report of 1"]

    def test_a_report_that_nobody_waits_for_is_only_kept(self, parts: Any) -> None:
        """It has no address."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([report(reply="")])
        assert store.fetch("1", "add").frame == b"report of 1"

    def test_an_empty_batch_changes_nothing(self, parts: Any) -> None:
        """Reporting nothing is fine."""
        parts("reporter").report([])
        assert parts("store").collect("me", 0.0) == []

    def test_a_waiting_collect_gets_what_is_reported_meanwhile(self, parts: Any) -> None:
        """It does not wait to the end of its time."""
        reporter, store = parts("reporter"), parts("store")
        found: list[bytes] = []
        waiting = threading.Thread(target=lambda: found.extend(store.collect("me", PATIENCE * 3)), daemon=True)
        waiting.start()
        reporter.report([report()])
        waiting.join(PATIENCE)
        assert [frame for pack in found for frame in unpack(pack)] == [b"report of 1"]

    def test_a_waiting_collect_returns_when_it_is_woken(self, parts: Any) -> None:
        """`wake` ends the wait of the receiver thread."""
        store = parts("store")
        waiting = threading.Thread(target=store.collect, args=("me", PATIENCE * 3), daemon=True)
        waiting.start()
        until = time.monotonic() + PATIENCE
        while waiting.is_alive() and time.monotonic() < until:
            store.wake()
            waiting.join(0.05)
        assert not waiting.is_alive()

    def test_large_reports_and_many_of_them_come_as_they_were(self, parts: Any) -> None:
        """Any bytes, up to what the backend says it takes."""
        reporter, store = parts("reporter"), parts("store")
        most = min(getattr(reporter, "max_message_bytes", None) or 1 << 21, 1 << 21)
        frames = [b"%d" % number for number in range(2000)]
        frames[1000] = (bytes(range(256)) * (most // 256 + 1))[:most]
        reporter.report([report(str(number), frame=frame) for number, frame in enumerate(frames)])
        assert self.collect(store, 2000) == frames
        assert store.fetch("1000", "add").frame == frames[1000]

    # -- kept --------------------------------------------------------------------------------------

    def test_the_first_final_report_of_a_call_stays(self, parts: Any) -> None:
        """A second one changes nothing of what is kept, in the same batch or a later one, by whomever."""
        store = parts("store")
        parts("reporter").report([report(final=False, frame=b"none"), report(frame=b"first"), report(frame=b"second")])
        parts("reporter").report([report(frame=b"third")])
        stored = store.fetch("1", "add")
        assert stored is not None
        assert (stored.id, stored.name, stored.state, stored.frame) == ("1", "add", "ended", b"first")

    def test_an_intermediate_report_is_not_kept(self, parts: Any) -> None:
        """Nor is a final one that is to be kept for no time."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([report("1", final=False), replace(report("2"), keep=0.0)])
        assert [store.fetch(id, "add") for id in ("1", "2")] == [None, None]

    def test_a_result_is_gone_when_its_time_is_over(self, parts: Any) -> None:
        """And its id is free again."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([replace(report(frame=b"short"), keep=1.0), replace(report("2"), keep=3600.0)])
        until = time.monotonic() + PATIENCE
        while store.fetch("1", "add") is not None and time.monotonic() < until:
            time.sleep(0.05)
        assert store.fetch("1", "add") is None
        assert store.fetch("2", "add") is not None

    def test_a_result_is_found_by_its_id_alone_or_with_the_name(self, parts: Any) -> None:
        """The call is the pair; names and ids are any text."""
        reporter, store = parts("reporter"), parts("store")
        for name in ("zählen", "数える"):
            reporter.report([replace(report("ключ-🗝"), name=name, frame=name.encode())])
        assert store.fetch("ключ-🗝", "数える").frame == "数える".encode()
        assert store.fetch("ключ-🗝", None).name in ("zählen", "数える")
        assert store.fetch("ключ-🗝", "count") is None
        assert store.fetch("КЛЮЧ-🗝", None) is None

    def test_a_forgotten_result_is_gone(self, parts: Any) -> None:
        """`forget` deletes what is kept, of one name or of all."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([report(), replace(report(), name="sub"), report("2")])
        assert store.forget("1", "add") is True
        assert store.fetch("1", "add") is None
        assert store.fetch("1", None).name == "sub"
        assert store.forget("2", None) is True
        assert (store.fetch("2", None), store.forget("2", None)) == (None, False)

    def test_an_unknown_call_is_not_found(self, parts: Any) -> None:
        """Neither to look at nor to forget."""
        store = parts("store")
        assert store.fetch("none", None) is None
        assert store.forget("none", None) is False
        assert store.forget("none", "add") is False

    def test_what_has_ended_is_listed(self, parts: Any) -> None:
        """Where it can be."""
        reporter, store = parts("reporter"), parts("store")
        for id in ("b", "a", "c"):
            reporter.report([report(id)])
        if self.lists:
            assert {(one.id, one.name, one.state, one.frame) for one in store.calls("ended", None)} == {
                (id, "add", "ended", f"report of {id}".encode()) for id in "abc"
            }
        else:
            with pytest.raises(NotAttached, match="list"):
                store.calls("ended", None)

    def test_calls_that_have_not_ended_are_not_its_business_where_it_is_apart(self, parts: Any) -> None:
        """It says so instead of knowing of none."""
        store = parts("store")
        if not self.apart(store):
            assert (store.calls("waiting", None), store.cancel("none", "add")) == ([], False)
            return
        with pytest.raises(NotAttached):
            store.cancel("1", "add")
        for state, queue in (("waiting", None), ("delayed", "default")):
            with pytest.raises(NotAttached, match=state):
                store.calls(state, queue)

    def test_many_threads_may_ask_at_once(self, parts: Any) -> None:
        """While another collects."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([report(str(number), reply="") for number in range(20)])
        waiting = threading.Thread(target=store.collect, args=("me", PATIENCE), daemon=True)
        waiting.start()
        with ThreadPoolExecutor(10) as pool:
            stored = list(pool.map(lambda number: store.fetch(str(number), None), range(20)))
        assert [one.frame for one in stored] == [f"report of {number}".encode() for number in range(20)]
        store.wake()
        waiting.join(PATIENCE)

    def test_closing_twice_is_fine_and_it_opens_again(self, backend: Backend) -> None:
        """What was reported before is there after."""
        reporter, store = backend.reporter(), backend.store()
        for _ in range(2):
            for part in (reporter, store):
                part.open(lambda *_args: None)
            reporter.report([report()])
            assert store.fetch("1", "add") is not None
            for part in (reporter, store, reporter, store):
                part.close()


class BrokerSuite(_Suite):
    """Producer, Consumer, Reporter and Store of one broker. What it cannot do, an implementation declares here."""

    looks_up = True
    """Whether its Store can be asked about single calls. One that cannot raises NotAttached, and says what can."""
    orders = True
    """Whether tasks of one priority come in the order they were sent."""
    ranks = True
    """Whether the highest priority comes first."""

    @pytest.fixture
    def broker(self) -> Broker:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    @pytest.fixture
    def made(self, broker: Broker) -> Any:
        """Return what makes the components under test."""
        return broker

    def claim(self, worker: Any, room: int = 10, queues: tuple[str, ...] = ("default",)) -> list[Delivery]:
        """Claim until something comes."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            deliveries: list[Delivery] = worker.claim(queues, room, 1.0)
            if deliveries:
                return deliveries
        raise AssertionError("nothing came to be claimed")

    def answers(self, store: Any) -> bool:
        """Whether a Store can be asked about single calls; one that cannot says so, whatever it is asked."""
        if not self.looks_up:
            asked: list[tuple[Any, tuple[Any, ...]]] = [
                (store.calls, (state, None)) for state in ("waiting", "delayed", "ended")
            ]
            asked += [(store.fetch, ("1", "add")), (store.forget, ("1", None)), (store.cancel, ("1", "add"))]
            for ask, given in asked:
                with pytest.raises(NotAttached, match="backend"):
                    ask(*given)
        return self.looks_up

    # -- tasks -------------------------------------------------------------------------------------

    def test_what_is_sent_is_claimed_as_it_was(self, parts: Any) -> None:
        """Every field that a worker needs arrives."""
        parts("producer").send([envelope("1", priority=7, reply="me")])
        (delivery,) = self.claim(parts("worker"))
        got = delivery.envelope
        assert (got.id, got.name, got.queue, got.frame, got.priority, got.reply) == (
            "1", "add", "default", b"frame of 1", 7, "me",
        )  # fmt: skip
        assert not delivery.suspect

    def test_tasks_of_one_priority_come_in_the_order_they_were_sent(self, parts: Any) -> None:
        """First in, first out; or at least all of them."""
        parts("producer").send([envelope(str(number)) for number in range(20)])
        worker = parts("worker")
        ids = [one.envelope.id for one in self.claim(worker, 20)]
        while not self.orders and len(ids) < 20:
            ids += [one.envelope.id for one in self.claim(worker, 20)]
        assert (ids if self.orders else sorted(ids, key=int)) == [str(number) for number in range(20)]

    def test_the_highest_priority_comes_first(self, parts: Any) -> None:
        """9 before 4 before 0; what a worker is told is right in any case."""
        parts("producer").send([envelope(str(priority), priority=priority) for priority in (4, 0, 9)])
        worker = parts("worker")
        claimed = self.claim(worker)
        while not self.ranks and len(claimed) < 3:
            claimed += self.claim(worker)
        ids = [one.envelope.id for one in claimed]
        assert (ids if self.ranks else sorted(ids, reverse=True)) == ["9", "4", "0"]
        assert all(str(one.envelope.priority) == one.envelope.id for one in claimed)

    def test_no_more_is_claimed_than_there_is_room_for(self, parts: Any) -> None:
        """`room` is a limit."""
        parts("producer").send([envelope(str(number)) for number in range(5)])
        assert len(self.claim(parts("worker"), 2)) == 2

    def test_a_queue_holds_only_its_own(self, parts: Any) -> None:
        """What was sent to another queue is not claimed here."""
        parts("producer").send([envelope("1", queue="other"), envelope("2")])
        worker = parts("worker")
        assert [one.envelope.id for one in self.claim(worker)] == ["2"]
        assert [one.envelope.id for one in self.claim(worker, queues=("other",))] == ["1"]

    def test_a_task_is_claimed_by_one_worker_only(self, parts: Any) -> None:
        """Two workers share the tasks between them."""
        parts("producer").send([envelope(str(number)) for number in range(10)])
        first, second = parts("worker"), parts("worker")
        ids = [one.envelope.id for one in (*self.claim(first, 5), *self.claim(second, 10))]
        assert sorted(ids) == sorted({*ids})
        assert len(ids) == 10

    def test_a_task_sent_again_under_its_id_counts_once(self, parts: Any) -> None:
        """A producer that does not know whether it was heard may repeat itself."""
        producer = parts("producer")
        producer.send([envelope("1"), envelope("2")])
        producer.send([envelope("1"), envelope("3")])
        assert sorted(one.envelope.id for one in self.claim(parts("worker"))) == ["1", "2", "3"]

    def test_a_task_is_not_claimed_before_it_is_due(self, parts: Any) -> None:
        """Never early."""
        due = time.time() + 0.5
        parts("producer").send([envelope("1", due=due)])
        self.claim(parts("worker"))
        assert time.time() >= due

    def test_an_empty_batch_changes_nothing(self, parts: Any) -> None:
        """Sending, settling and reporting nothing is fine."""
        worker = parts("worker")
        parts("producer").send([])
        assert worker.settle([]) == []
        worker.report([])
        assert worker.claim(("default",), 10, 0.0) == []

    def test_a_waiting_claim_returns_when_it_is_woken(self, parts: Any) -> None:
        """`wake` ends the wait of the I/O thread."""
        worker = parts("worker")
        waiting = threading.Thread(target=worker.claim, args=(("default",), 1, PATIENCE * 3), daemon=True)
        waiting.start()
        until = time.monotonic() + PATIENCE
        while waiting.is_alive() and time.monotonic() < until:
            worker.wake()
            waiting.join(0.05)
        assert not waiting.is_alive()

    # -- settling ----------------------------------------------------------------------------------

    def test_what_is_acknowledged_is_gone(self, parts: Any) -> None:
        """Another worker does not get it."""
        parts("producer").send([envelope()])
        worker = parts("worker")
        assert worker.settle([Settlement(self.claim(worker)[0])]) == []
        assert parts("worker").claim(("default",), 10, 0.0) == []

    def test_what_is_returned_can_be_claimed_at_once_by_another(self, parts: Any) -> None:
        """And is no suspect."""
        parts("producer").send([envelope()])
        worker = parts("worker")
        worker.settle([Settlement(self.claim(worker)[0], Verdict.RETURN)])
        (delivery,) = self.claim(parts("worker"))
        assert not delivery.suspect

    def test_what_is_put_off_comes_again_when_it_is_due_with_its_new_frame(self, parts: Any) -> None:
        """A retry."""
        parts("producer").send([envelope()])
        worker = parts("worker")
        due = time.time() + 0.3
        worker.settle([Settlement(self.claim(worker)[0], Verdict.LATER, due=due, frame=b"second try")])
        (delivery,) = self.claim(worker)
        assert time.time() >= due
        assert delivery.envelope.frame == b"second try"

    def test_what_takes_the_place_of_an_acknowledged_task_is_sent(self, parts: Any) -> None:
        """A pack of calls that is divided."""
        parts("producer").send([envelope()])
        worker = parts("worker")
        later = envelope("3")
        later.due = time.time() + 0.3
        assert worker.settle([Settlement(self.claim(worker)[0], sends=[envelope("2"), later])]) == []
        (now,) = self.claim(worker)
        (then,) = self.claim(worker)
        assert [now.envelope.id, then.envelope.id] == ["2", "3"]
        assert time.time() >= later.due

    def test_of_a_stale_settlement_nothing_happens(self, parts: Any) -> None:
        """Its claim was given to another worker: its reports are not published."""
        parts("producer").send([envelope()])
        first, second = parts("worker"), parts("worker")
        (old,) = self.claim(first)
        first.settle([Settlement(old, Verdict.RETURN)])
        (new,) = self.claim(second)
        late = Settlement(old, Verdict.ACK, [report(frame=b"late")])
        assert first.settle([late]) == [late]
        second.settle([Settlement(new, Verdict.ACK, [report(frame=b"right")])])
        assert self.collect(parts("store"), 1) == [b"right"]

    def test_what_a_closed_worker_held_waits_again(self, parts: Any, broker: Broker) -> None:
        """Closing lets go of every claim."""
        parts("producer").send([envelope()])
        worker = broker.worker()
        worker.open(lambda *_args: None)
        self.claim(worker)
        worker.close()
        worker.close()
        assert self.claim(parts("worker"))[0].envelope.id == "1"

    def test_the_recorded_starts_are_counted(self, parts: Any) -> None:
        """Each start of a suspect is remembered with the task."""
        parts("producer").send([envelope()])
        worker = parts("worker")
        (delivery,) = self.claim(worker)
        assert worker.starting(delivery) == 1

    # -- reports -----------------------------------------------------------------------------------

    def test_reports_come_to_their_address_once_and_in_order(self, parts: Any) -> None:
        """Intermediate and final ones."""
        worker, store = parts("worker"), parts("store")
        worker.report([report(final=False, frame=b"one"), report(final=False, frame=b"two")])
        worker.report([report(frame=b"three")])
        assert self.collect(store, 3) == [b"one", b"two", b"three"]
        assert store.collect("me", 0.0) == []

    def test_an_address_gets_only_its_own_reports(self, parts: Any) -> None:
        """Two callers do not hear each other."""
        worker = parts("worker")
        worker.report([report("1", reply="you"), report("2", reply="me")])
        assert self.collect(parts("store"), 1) == [b"report of 2"]

    def test_reports_that_came_before_anybody_collected_are_not_lost(self, parts: Any) -> None:
        """A fast worker may be ahead of its caller."""
        parts("producer").send([envelope(reply="me")])
        worker = parts("worker")
        worker.settle([Settlement(self.claim(worker)[0], Verdict.ACK, [report()])])
        assert self.collect(parts("store"), 1) == [b"report of 1"]

    def test_the_first_final_report_of_a_call_stays(self, parts: Any) -> None:
        """A second one changes nothing of what is kept."""
        worker, store = parts("worker"), parts("store")
        if not self.answers(store):
            return
        worker.report([report(frame=b"first")])
        worker.report([report(frame=b"second")])
        stored = store.fetch("1", "add")
        assert stored is not None
        assert (stored.state, stored.frame) == ("ended", b"first")

    def test_a_waiting_collect_returns_when_it_is_woken(self, parts: Any) -> None:
        """`wake` ends the wait of the receiver thread."""
        store = parts("store")
        waiting = threading.Thread(target=store.collect, args=("me", PATIENCE * 3), daemon=True)
        waiting.start()
        until = time.monotonic() + PATIENCE
        while waiting.is_alive() and time.monotonic() < until:
            store.wake()
            waiting.join(0.05)
        assert not waiting.is_alive()

    # -- questions about calls ---------------------------------------------------------------------

    def test_a_call_is_known_while_it_waits_is_delayed_and_runs(self, parts: Any) -> None:
        """`fetch` tells where it stands."""
        store, worker = parts("store"), parts("worker")
        if not self.answers(store):
            return
        parts("producer").send([envelope("1"), envelope("2", due=time.time() + 3600)])
        assert [store.fetch(id, None).state for id in ("1", "2")] == ["waiting", "delayed"]
        self.claim(worker)
        assert store.fetch("1", "add").state == "running"

    def test_an_unknown_call_is_not_found(self, parts: Any) -> None:
        """Neither to look at, nor to forget, nor to cancel."""
        store = parts("store")
        if not self.answers(store):
            return
        assert store.fetch("none", None) is None
        assert store.forget("none", None) is False
        assert store.cancel("none", "add") is False

    def test_a_forgotten_result_is_gone(self, parts: Any) -> None:
        """`forget` deletes what is kept."""
        worker, store = parts("worker"), parts("store")
        if not self.answers(store):
            return
        worker.report([report()])
        assert store.forget("1", "add") is True
        assert store.fetch("1", "add") is None

    def test_a_waiting_call_is_withdrawn(self, parts: Any) -> None:
        """No worker gets it any more; also one that is delayed."""
        store = parts("store")
        if not self.answers(store):
            return
        parts("producer").send([envelope("1"), envelope("2", due=time.time() + 3600)])
        assert [store.cancel(id, "add") for id in ("1", "2")] == [True, True]
        assert parts("worker").claim(("default",), 10, 0.0) == []
        assert store.calls("delayed", None) == []

    def test_the_worker_of_a_cancelled_running_call_is_told(self, parts: Any) -> None:
        """`tend` returns the name and id of what is to be stopped."""
        store, worker = parts("store"), parts("worker")
        if not self.answers(store):
            assert worker.tend() == []
            return
        parts("producer").send([envelope("1")])
        self.claim(worker)
        assert store.cancel("1", "add") is None
        assert [tuple(one) for one in worker.tend()] == [("add", "1")]

    def test_waiting_and_delayed_calls_are_listed(self, parts: Any) -> None:
        """In one queue or in all."""
        store = parts("store")
        if not self.answers(store):
            return
        parts("producer").send([envelope("1"), envelope("2", queue="other"), envelope("3", due=time.time() + 3600)])
        assert {one.id for one in store.calls("waiting", None)} == {"1", "2"}
        assert [one.id for one in store.calls("waiting", "other")] == ["2"]
        assert [one.id for one in store.calls("delayed", "default")] == ["3"]


class LedgerSuite:
    """The Ledger of a broker's Reporter and Store: places, unique calls, paused queues.

    `broker.worker()` has to be made with a lease of `LEASE` seconds.
    """

    LEASE = 1.5

    @pytest.fixture
    def broker(self) -> Broker:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    @pytest.fixture
    def parts(self, broker: Broker) -> Any:
        """Open components, and close them after the test."""
        yield from _opened(broker)

    @staticmethod
    def place(number: int = 1, *, most: int | None = 1, rate: float | None = None, priority: int = 4) -> Place:
        """Make the place of one call."""
        return Place("add", str(number), str(number), priority, most, rate)

    def granted(self, worker: Any, *wanted: Place) -> list[bool]:
        """Ask for places; whether each was given."""
        return [answer is None for answer in worker.ledger.exchange((), (), wanted)]

    # -- places ------------------------------------------------------------------------------------

    def test_no_more_places_are_given_than_there_are_over_all_workers(self, parts: Any) -> None:
        """Two of three, by two workers."""
        first, second = parts("worker"), parts("worker")
        assert self.granted(first, self.place(1, most=2)) == [True]
        assert self.granted(second, self.place(2, most=2), self.place(3, most=2)) == [True, False]

    def test_a_place_given_back_is_given_to_another(self, parts: Any) -> None:
        """In the same step too."""
        first, second = parts("worker"), parts("worker")
        assert self.granted(first, self.place(1)) == [True]
        assert first.ledger.exchange([self.place(1)], (), [self.place(2)]) == [None]
        assert self.granted(second, self.place(1)) == [False]
        assert first.ledger.exchange([self.place(2)], (), ()) == []
        assert self.granted(second, self.place(1)) == [True]

    def test_a_place_asked_for_again_counts_once(self, parts: Any) -> None:
        """A worker that does not know whether it was heard may repeat itself."""
        worker = parts("worker")
        assert self.granted(worker, self.place(1, most=2)) == [True]
        assert self.granted(worker, self.place(1, most=2), self.place(2, most=2)) == [True, True]

    def test_limits_of_different_names_do_not_touch_each_other(self, parts: Any) -> None:
        """Each name has its own places."""
        worker, other = parts("worker"), Place("other", "1", "9", 4, 1, None)
        assert self.granted(worker, self.place(1), other) == [True, True]

    def test_who_is_refused_is_told_when_to_ask_again(self, parts: Any) -> None:
        """Soon, and the more wait the later."""
        worker = parts("worker")
        waits = worker.ledger.exchange((), (), [self.place(number) for number in range(100)])[1:]
        assert all(wait.seconds > 0 and not wait.exact for wait in waits)
        assert waits[-1].seconds > waits[0].seconds

    def test_a_worker_that_gives_no_sign_of_life_loses_its_places(self, parts: Any, broker: Broker) -> None:
        """After its lease; one that is closed at once."""
        closed = broker.worker()
        closed.open(lambda *_args: None)
        assert self.granted(closed, self.place(1)) == [True]
        closed.close()
        silent, other = parts("worker"), parts("worker")
        assert self.granted(silent, self.place(1)) == [True]
        self.fall_silent(silent)
        until = time.monotonic() + self.LEASE + PATIENCE
        while not self.granted(other, self.place(2))[0]:
            assert time.monotonic() < until
            other.ledger.tend()
            time.sleep(0.1)  # between two looks: nothing tells when a lease is over

    def fall_silent(self, worker: Any) -> None:
        """Nothing is to be done: the suite renews no lease. Where there are none, override it."""

    def test_a_worker_that_says_it_lives_keeps_its_places(self, parts: Any) -> None:
        """Well beyond its lease."""
        keeper, other = parts("worker"), parts("worker")
        assert self.granted(keeper, self.place(1)) == [True]
        until = time.monotonic() + self.LEASE * 1.2
        while time.monotonic() < until:
            keeper.ledger.tend()
            other.ledger.tend()
            assert self.granted(other, self.place(2)) == [False]
            time.sleep(0.1)  # the time of a lease has to pass

    # -- rates -------------------------------------------------------------------------------------

    def test_no_more_starts_are_given_than_the_rate_allows(self, parts: Any) -> None:
        """Over two workers, however often they ask."""
        workers, rate, given = [parts("worker"), parts("worker")], 50.0, 0
        begun = time.monotonic()
        number = 0
        while time.monotonic() < begun + 1.0:
            for worker in workers:
                number += 1
                given += sum(self.granted(worker, self.place(number, most=None, rate=rate)))
        taken = time.monotonic() - begun
        assert 5 <= given <= (taken + BURST) * rate + 1

    def test_who_is_too_early_is_told_a_turn_and_has_it_then(self, parts: Any) -> None:
        """Turns are one interval apart."""
        worker = parts("worker")
        wanted = [self.place(number, most=None, rate=2.0) for number in range(3)]
        first, second, third = worker.ledger.exchange((), (), wanted)
        assert first is None
        assert second.exact
        assert 0 < second.seconds <= 0.5
        assert abs(third.seconds - second.seconds - 0.5) < 0.01
        until = time.monotonic() + PATIENCE
        while not self.granted(worker, wanted[1])[0]:
            assert time.monotonic() < until
            time.sleep(0.05)  # between two looks: a turn comes by itself

    # -- those who wait ----------------------------------------------------------------------------

    def put_off(self, parts: Any, worker: Any, count: int, **fields: Any) -> list[Delivery]:
        """Send tasks, claim them, and put them off for an hour, as one does who found no place for them."""
        parts("producer").send([envelope(str(number), **fields) for number in range(1, count + 1)])
        claimed: list[Delivery] = []
        while len(claimed) < count:
            claimed += worker.claim(("default",), count, 1.0)
        later = time.time() + 3600
        assert worker.settle([Settlement(one, Verdict.LATER, due=later) for one in claimed]) == []
        return claimed

    def test_a_place_given_back_fetches_one_that_waits_for_it(self, parts: Any) -> None:
        """The oldest, and it alone."""
        worker = parts("worker")
        assert self.granted(worker, self.place(9)) == [True]
        self.put_off(parts, worker, 3)
        worker.ledger.exchange((), [self.place(1), self.place(2), self.place(3)], ())
        assert worker.claim(("default",), 10, 0.0) == []
        worker.ledger.exchange([self.place(9)], (), ())
        assert [one.envelope.id for one in worker.claim(("default",), 10, PATIENCE)] == ["1"]
        assert worker.claim(("default",), 10, 0.0) == []

    def test_who_waits_while_a_place_is_free_comes_at_once(self, parts: Any) -> None:
        """The place may have become free before it was put off."""
        worker = parts("worker")
        self.put_off(parts, worker, 1)
        worker.ledger.exchange((), [self.place(1)], ())
        assert [one.envelope.id for one in worker.claim(("default",), 10, PATIENCE)] == ["1"]

    def test_the_best_of_those_that_wait_comes_first(self, parts: Any) -> None:
        """By priority."""
        worker = parts("worker")
        assert self.granted(worker, self.place(9)) == [True]
        self.put_off(parts, worker, 2)
        worker.ledger.exchange((), [self.place(1, priority=2), self.place(2, priority=8)], ())
        worker.ledger.exchange([self.place(9)], (), ())
        assert [one.envelope.id for one in worker.claim(("default",), 10, PATIENCE)] == ["2"]

    def test_who_was_cancelled_while_it_waited_stands_in_nobodys_way(self, parts: Any) -> None:
        """The next one comes."""
        worker = parts("worker")
        assert self.granted(worker, self.place(9)) == [True]
        self.put_off(parts, worker, 2)
        worker.ledger.exchange((), [self.place(1), self.place(2)], ())
        assert parts("store").cancel("1", "add") is True
        worker.ledger.exchange([self.place(9)], (), ())
        assert [one.envelope.id for one in worker.claim(("default",), 10, PATIENCE)] == ["2"]

    def test_one_that_is_fetched_comes_before_those_that_came_later(self, parts: Any) -> None:
        """It has waited longest."""
        worker = parts("worker")
        assert self.granted(worker, self.place(9)) == [True]
        self.put_off(parts, worker, 1)
        worker.ledger.exchange((), [self.place(1)], ())
        parts("producer").send([envelope("new")])
        worker.ledger.exchange([self.place(9)], (), ())
        assert [one.envelope.id for one in worker.claim(("default",), 10, PATIENCE)] == ["1", "new"]

    def test_a_suspect_that_is_put_off_stays_one(self, parts: Any) -> None:
        """It has not run: whether it kills workers is not known yet."""
        first, second = parts("worker"), parts("worker")
        parts("producer").send([envelope("1")])
        assert first.claim(("default",), 1, PATIENCE)
        self.fall_silent(first)
        for _ in range(2):
            claimed: list[Delivery] = []
            until = time.monotonic() + self.LEASE + PATIENCE
            while not claimed:
                assert time.monotonic() < until
                second.tend()
                claimed = second.claim(("default",), 1, 0.2)
            assert claimed[0].suspect
            second.settle([Settlement(claimed[0], Verdict.LATER, due=time.time() + 0.01)])

    # -- unique calls ------------------------------------------------------------------------------

    def test_the_first_call_with_a_key_has_it(self, parts: Any) -> None:
        """Others are told its id; another name or key is another matter."""
        first, second = parts("store").ledger, parts("store").ledger
        assert first.register(UniqueCall("add", "key", "1"), 60.0) == "1"
        assert second.register(UniqueCall("add", "key", "2"), 60.0) == "1"
        assert second.register(UniqueCall("other", "key", "3"), 60.0) == "3"
        assert second.register(UniqueCall("add", "other", "4"), 60.0) == "4"

    def test_a_key_is_free_again_when_its_call_is_freed(self, parts: Any) -> None:
        """By its own call only."""
        ledger = parts("store").ledger
        ledger.register(UniqueCall("add", "key", "1"), 60.0)
        ledger.free([UniqueCall("add", "key", "other")])
        assert ledger.register(UniqueCall("add", "key", "2"), 60.0) == "1"
        ledger.free([UniqueCall("add", "key", "1")])
        assert ledger.register(UniqueCall("add", "key", "2"), 60.0) == "2"

    def test_a_call_that_was_never_sent_keeps_its_key_for_a_while_only(self, parts: Any) -> None:
        """Its caller may have died."""
        ledger = parts("store").ledger
        ledger.register(UniqueCall("add", "key", "1"), 0.01)
        until = time.monotonic() + PATIENCE
        while ledger.register(UniqueCall("add", "key", "2"), 0.01) == "1":
            assert time.monotonic() < until

    def test_a_call_has_its_key_as_long_as_the_backend_has_the_call(self, parts: Any) -> None:
        """Waiting and running; when it is settled or cancelled the key is free."""
        ledger, worker = parts("store").ledger, parts("worker")
        for id, end in (("1", self.settled), ("2", self.cancelled)):
            assert ledger.register(UniqueCall("add", "key", id), 60.0) == id
            parts("producer").send([envelope(id)])
            ledger.confirm([UniqueCall("add", "key", id)], 0.0)
            assert ledger.register(UniqueCall("add", "key", "9"), 60.0) == id
            end(parts, worker, id)
        assert ledger.register(UniqueCall("add", "key", "9"), 60.0) == "9"

    def settled(self, _parts: Any, worker: Any, _id: str) -> None:
        """Run it."""
        (delivery,) = worker.claim(("default",), 1, PATIENCE)
        assert worker.settle([Settlement(delivery, frees="key")]) == []

    def cancelled(self, parts: Any, _worker: Any, id: str) -> None:
        """Cancel it."""
        assert parts("store").cancel(id, "add") is True

    def test_settling_a_call_frees_its_key_at_once(self, parts: Any) -> None:
        """Also when its caller has not confirmed that it was sent."""
        ledger, worker = parts("store").ledger, parts("worker")
        ledger.register(UniqueCall("add", "key", "1"), 60.0)
        parts("producer").send([envelope("1")])
        self.settled(parts, worker, "1")
        assert ledger.register(UniqueCall("add", "key", "2"), 60.0) == "2"

    # -- paused queues -----------------------------------------------------------------------------

    def test_a_queue_is_paused_until_it_is_resumed(self, parts: Any) -> None:
        """For all workers; pausing twice is as once."""
        ledger, worker = parts("store").ledger, parts("worker")
        assert worker.ledger.tend() == set()
        for queue in ("one", "two", "one"):
            ledger.pause(queue)
        assert worker.ledger.tend() == parts("store").ledger.paused() == {"one", "two"}
        ledger.resume("one")
        assert worker.ledger.tend() == {"two"}


class HeraldSuite:
    """A Herald: what is told reaches who listens, and what is shown is seen for its time and no longer."""

    @pytest.fixture
    def heralds(self) -> Any:
        """Return a maker of the implementation under test, all on one broker and closed at the end; override it."""
        raise NotImplementedError

    @staticmethod
    def soon(what: Any, expected: Any) -> None:
        """Wait until it is so."""
        until = time.monotonic() + PATIENCE
        while (now := what()) != expected:
            assert time.monotonic() < until, f"{now!r}, not {expected!r}"
            time.sleep(0.02)

    def test_a_card_is_seen_until_it_is_taken_away(self, heralds: Any) -> None:
        """Shown again, it is the new one."""
        worker, asker = heralds(), heralds()
        worker.appear("w", b"first", 60.0)
        self.soon(lambda: self.look(worker, asker), [b"first"])
        worker.appear("w", b"second", 60.0)
        self.soon(lambda: self.look(worker, asker), [b"second"])
        worker.appear("w", b"", 0)
        self.soon(lambda: self.look(worker, asker), [])

    def look(self, worker: Any, asker: Any) -> list[bytes]:
        """Return the cards, while the worker looks as workers do."""
        stop = threading.Event()

        def attend() -> None:
            while not stop.wait(0.05):
                worker.wishes()

        thread = threading.Thread(target=attend, daemon=True)
        thread.start()
        try:
            return list(asker.cards())
        finally:
            stop.set()
            thread.join(PATIENCE)

    def test_a_wish_is_known_until_its_time_is_over(self, heralds: Any) -> None:
        """Or until it is taken back."""
        worker, listener = heralds(), heralds()
        worker.appear("w", b"card", 60.0)
        assert worker.wishes() == []
        listener.wish("l", b"warnings", 60.0)
        self.soon(worker.wishes, [b"warnings"])
        listener.wish("l", b"all", 1.5)
        self.soon(worker.wishes, [b"all"])
        self.soon(worker.wishes, [])
        listener.wish("l", b"all", 60.0)
        self.soon(worker.wishes, [b"all"])
        listener.wish("l", b"", 0)
        self.soon(worker.wishes, [])

    def test_news_reach_all_who_listen_in_order_and_once(self, heralds: Any) -> None:
        """From every worker."""
        worker, first, second = heralds(), heralds(), heralds()
        worker.appear("w", b"card", 60.0)
        first.wish("1", b"a", 60.0)
        second.wish("2", b"b", 60.0)
        self.soon(lambda: sorted(worker.wishes()), [b"a", b"b"])
        news = [b"one", b"two", b"three"]
        for one in news:
            worker.tell(one)
        for listener, name in ((first, "1"), (second, "2")):
            heard: list[bytes] = []
            until = time.monotonic() + PATIENCE
            while len(heard) < len(news) and time.monotonic() < until:
                heard += listener.hear(name, 0.5)
            assert heard == news
            assert listener.hear(name, 0.0) == []

    def test_what_was_told_before_is_not_heard(self, heralds: Any) -> None:
        """And telling where nobody listens is fine."""
        worker, listener = heralds(), heralds()
        worker.appear("w", b"card", 60.0)
        worker.tell(b"early")
        listener.wish("l", b"a", 60.0)
        assert listener.hear("l", 0.0) == []

    def test_it_can_be_closed_twice(self, heralds: Any) -> None:
        """Also one that was never used."""
        herald = heralds()
        herald.close()
        herald.close()


class MarshallerSuite:
    """A Marshaller: what goes in comes out, and what cannot be carried is refused."""

    @pytest.fixture
    def marshaller(self) -> Any:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    @staticmethod
    def fn(number: int, text: str = "", *, flag: bool = False) -> list[int]:
        """Stand for a task."""
        return [number, len(text), flag]

    def carry(self, marshaller: Any, *args: Any, **kwargs: Any) -> TaskMessage:
        """Take a call there and back."""
        marshaller.prepare("fn", self.fn)
        header = Header("1", "fn")
        data = marshaller.encode_task(self.fn, TaskMessage(header, args, kwargs))
        carried: TaskMessage = marshaller.decode_task(self.fn, header, data)
        return carried

    def test_arguments_arrive_as_they_were_sent(self, marshaller: Any) -> None:
        """By position and by name, large integers too."""
        message = self.carry(marshaller, 2**70, "ü\n", flag=True)
        assert (tuple(message.args), message.kwargs) == ((2**70, "ü\n"), {"flag": True})

    def test_every_kind_of_report_arrives_as_it_was_sent(self, marshaller: Any) -> None:
        """A value, a failure, progress."""
        marshaller.prepare("fn", self.fn)
        for sent in (
            Report("1", "fn", Status.SUCCESS, [1, 2], attempt=1, time=1.5),
            Report("1", "fn", Status.FAILURE, failure=Failure(Code.EXCEPTION, "E", "m", "t"), attempt=2, time=2.5),
            Report("1", "fn", Status.PROGRESS, progress=Progress(1, 2, "x"), attempt=1, time=3.5),
        ):
            data = marshaller.encode_report(self.fn, sent)
            assert marshaller.decode_report(self.fn, Header("1", "fn"), data) == sent

    def test_bytes_that_are_no_message_are_refused(self, marshaller: Any) -> None:
        """With BadMessage (or BadArguments), never another error."""
        marshaller.prepare("fn", self.fn)
        for data in (b"", b"\xff\xfe", b"{", b"null"):
            with pytest.raises((BadMessage, BadArguments)):
                marshaller.decode_task(self.fn, Header("1", "fn"), data)


class IDMakerSuite:
    """An IDMaker: texts, never the same twice, from any thread."""

    @pytest.fixture
    def maker(self) -> Any:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    def test_ids_are_texts_and_differ_across_threads(self, maker: Any) -> None:
        """4 threads draw 500 each."""
        ids: list[str] = []
        threads = [threading.Thread(target=lambda: ids.extend([maker.new_id() for _ in range(500)])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(one, str) and one for one in ids)
        assert len(set(ids)) == 2000


class InvokerSuite:
    """An Invoker: runs the function with what it is given, and hands on what it returns."""

    @pytest.fixture
    def invoker(self) -> Any:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    def test_the_function_gets_its_arguments_and_its_value_comes_back(self, invoker: Any) -> None:
        """By position and by name."""
        assert invoker.invoke(lambda a, *, b: a - b, (5,), {"b": 2}) == 3

    def test_what_the_function_raises_is_raised(self, invoker: Any) -> None:
        """Not swallowed, not wrapped."""
        with pytest.raises(ZeroDivisionError):
            invoker.invoke(lambda: 1 / 0, (), {})
