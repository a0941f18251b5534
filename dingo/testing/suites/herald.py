"""The suite of a Herald."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from dingo.testing.suites.making import PATIENCE


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

    def test_a_worker_that_begins_knows_at_once_what_is_wished(self, heralds: Any) -> None:
        """While those who wish it listen."""
        listener, stop = heralds(), threading.Event()
        listener.wish("l", b"all", 60.0)

        def listen() -> None:
            while not stop.is_set():
                listener.hear("l", 0.05)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            worker = heralds()
            worker.appear("w", b"card", 60.0)
            assert worker.wishes() == [b"all"]
        finally:
            stop.set()
            thread.join(PATIENCE)

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
