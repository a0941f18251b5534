"""The suite of a broker: a Producer, a Consumer that reports, and a Store."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from dingo.contracts import Delivery, Settlement, Verdict
from dingo.errors import NotAttached
from dingo.testing.suites.making import PATIENCE, Broker, Suite, envelope, report


class BrokerSuite(Suite):
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
            asked += [(store.fetch, ("1", "add")), (store.forget, ("1", None)), (store.cancel, ("1", "add", b"", 0.0))]
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

    def test_what_is_there_already_is_told_to_its_sender(self, parts: Any) -> None:
        """By those who can tell: whether it waits, is delayed or runs."""
        producer, worker = parts("producer"), parts("worker")
        producer.send([envelope("runs")])
        self.claim(worker)
        producer.send([envelope("waits"), envelope("later", due=time.time() + 3600)])
        again = [envelope(id) for id in ("runs", "new", "waits", "later")]
        known = producer.send(again)
        assert known is None or known == [again[0], again[2], again[3]]

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
        claimed: list[str] = []
        while "3" not in claimed:
            claimed += [one.envelope.id for one in self.claim(worker)]
        assert time.time() >= later.due
        assert sorted(claimed) == ["2", "3"]

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
        assert store.cancel("none", "add", b"", 0.0) is False

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
        assert [store.cancel(id, "add", b"", 0.0) for id in ("1", "2")] == [True, True]
        assert parts("worker").claim(("default",), 10, 0.0) == []
        assert store.calls("delayed", None) == []

    def test_the_report_of_a_withdrawn_call_goes_to_who_waits_for_it_and_is_kept(self, parts: Any) -> None:
        """Whoever withdraws it; also of one that is delayed. Nothing, and for no time, where that is wanted."""
        store = parts("store")
        if not self.answers(store):
            return
        soon, later = envelope("1", reply="me"), envelope("2", reply="me", due=time.time() + 3600)
        parts("producer").send([soon, later, envelope("3", reply="me"), envelope("4", reply="me"), envelope("5")])
        assert [store.cancel(id, "add", id.encode(), 60.0) for id in ("1", "2")] == [True, True]
        assert self.collect(store, 2) == [b"1", b"2"]
        assert [store.fetch(id, "add").frame for id in ("1", "2")] == [b"1", b"2"]
        assert store.cancel("1", "add", b"late", 60.0) is False
        assert store.cancel("3", "add", b"", 60.0) is True
        assert store.cancel("4", "add", b"4", 0.0) is True
        assert store.cancel("5", "add", b"5", 60.0) is True
        assert [store.fetch(id, "add") for id in ("3", "4")] == [None, None]
        assert store.fetch("5", None).frame == b"5"
        assert self.collect(store, 1) == [b"4"]
        assert store.collect("me", 0.0) == []

    def test_the_worker_of_a_cancelled_running_call_is_told(self, parts: Any) -> None:
        """`tend` returns the name and id of what is to be stopped."""
        store, worker = parts("store"), parts("worker")
        if not self.answers(store):
            assert worker.tend() == []
            return
        parts("producer").send([envelope("1")])
        self.claim(worker)
        assert store.cancel("1", "add", b"", 0.0) is None
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
