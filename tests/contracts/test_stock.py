"""kombu's own transports keep the contract, as far as they can; what they cannot is named."""

import pytest
from by_url import ByURL
from servers import sqs_server, sqs_url

from dingo.errors import NotAttached
from dingo.testing.suites import BrokerSuite, envelope

__all__ = ["sqs_server", "sqs_url"]


class StockSuite(BrokerSuite):
    """What holds on any transport that keeps a message until it is acknowledged."""

    def test_a_task_sent_again_under_its_id_counts_once(self, parts):
        """Within one worker."""
        producer, worker = parts("producer"), parts("worker")
        producer.send([envelope("1"), envelope("2")])
        producer.send([envelope("1"), envelope("3")])
        ids = []
        while len(ids) < 3:
            ids += [one.envelope.id for one in self.claim(worker)]
        assert sorted(ids) == ["1", "2", "3"]
        assert worker.claim(("default",), 10, 0.0) == []

    def refuses(self, parts, ask):
        store = parts("store")
        with pytest.raises(NotAttached, match="add a backend"):
            ask(store)

    def test_the_first_final_report_of_a_call_stays(self, parts):
        self.refuses(parts, lambda store: store.fetch("1", "add"))

    def test_a_call_is_known_while_it_waits_is_delayed_and_runs(self, parts):
        self.refuses(parts, lambda store: store.fetch("1", None))

    def test_an_unknown_call_is_not_found(self, parts):
        self.refuses(parts, lambda store: store.fetch("none", None))

    def test_a_forgotten_result_is_gone(self, parts):
        self.refuses(parts, lambda store: store.forget("1", "add"))

    def test_a_waiting_call_is_withdrawn(self, parts):
        self.refuses(parts, lambda store: store.cancel("1", "add"))

    def test_the_worker_of_a_cancelled_running_call_is_told(self, parts):
        self.refuses(parts, lambda store: store.cancel("1", "add"))
        assert parts("worker").tend() == []

    def test_waiting_and_delayed_calls_are_listed(self, parts):
        self.refuses(parts, lambda store: store.calls("waiting", None))


class TestFilesystem(StockSuite):
    @pytest.fixture
    def broker(self, tmp_path):
        return ByURL(f"filesystem://{tmp_path}/jobs")


class Essentials(StockSuite):
    """For the slower ones: what only the components do was shown above. They have no priorities."""

    def test_the_highest_priority_comes_first(self, parts):
        """What a worker is told is right in any case."""
        parts("producer").send([envelope(str(priority), priority=priority) for priority in (4, 0, 9)])
        worker, got = parts("worker"), []
        while len(got) < 3:
            got += self.claim(worker)
        assert {one.envelope.id: one.envelope.priority for one in got} == {"4": 4, "0": 0, "9": 9}


SHOWN = (
    "what_is_sent_is_claimed_as_it_was",
    "tasks_of_one_priority_come_in_the_order_they_were_sent",
    "the_highest_priority_comes_first",
    "a_task_is_not_claimed_before_it_is_due",
    "what_is_acknowledged_is_gone",
    "what_is_returned_can_be_claimed_at_once_by_another",
    "of_a_stale_settlement_nothing_happens",
    "what_a_closed_worker_held_waits_again",
    "reports_come_to_their_address_once_and_in_order",
)
for name in dir(Essentials):
    if name.startswith("test_") and name.removeprefix("test_") not in SHOWN:
        setattr(Essentials, name, None)


@pytest.mark.filterwarnings("ignore:.*noload")  # kombu's affair with SQLAlchemy 2.1
class TestSqlAlchemy(Essentials):
    """A transport of kombu's as it is."""

    @pytest.fixture
    def broker(self, tmp_path):
        return ByURL(f"sqla+sqlite:///{tmp_path}/stock.db")


class TestSqs(Essentials):
    @pytest.fixture
    def broker(self, sqs_url):
        return ByURL(sqs_url)

    def test_tasks_of_one_priority_come_in_the_order_they_were_sent(self, parts):
        """SQS promises no order, only that all come."""
        parts("producer").send([envelope(str(number)) for number in range(20)])
        worker, ids = parts("worker"), set()
        while len(ids) < 20:
            ids |= {one.envelope.id for one in self.claim(worker, 20)}
        assert ids == {str(number) for number in range(20)}
