"""The suite of a backend: a Reporter and a Store."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from dingo.errors import NotAttached
from dingo.message.frame import unpack
from dingo.testing.suites.making import PATIENCE, Backend, Suite, report


class BackendSuite(Suite):
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

    def test_a_final_report_under_an_id_that_was_used_before_comes_all_the_same(self, parts: Any) -> None:
        """Who reuses an id waits for it."""
        reporter, store = parts("reporter"), parts("store")
        reporter.report([report(frame=b"first", reply="you")])
        reporter.report([report(frame=b"second")])
        assert self.collect(store, 1) == [b"second"]

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
            assert (store.calls("waiting", None), store.cancel("none", "add", b"", 0.0)) == ([], False)
            return
        with pytest.raises(NotAttached):
            store.cancel("1", "add", b"", 0.0)
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
