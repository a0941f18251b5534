"""The suite of a Ledger."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dingo.bridge.ledger import BURST
from dingo.contracts import Delivery, Place, Settlement, UniqueCall, Verdict
from dingo.testing.suites.making import PATIENCE, Broker, envelope, opened


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
        yield from opened(broker)

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
        assert parts("store").cancel("1", "add", b"", 0.0) is True
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
        assert parts("store").cancel(id, "add", b"", 0.0) is True

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
