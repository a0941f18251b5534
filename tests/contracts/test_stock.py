"""kombu's own transports keep the contract, as far as they can; what they cannot is named."""

import pytest
from by_url import ByURL

from dingo.testing.suites import BrokerSuite, envelope


class StockSuite(BrokerSuite):
    """What holds on any transport that keeps a message until it is acknowledged."""

    looks_up = False

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


class TestFilesystem(StockSuite):
    @pytest.fixture
    def broker(self, tmp_path):
        return ByURL(f"filesystem://{tmp_path}/jobs")


class Essentials(StockSuite):
    """For the slower ones: what only the components do was shown above."""

    ranks = False


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


@pytest.mark.filterwarnings("ignore:.*noload", "ignore:.*rowcount")  # kombu's affairs with SQLAlchemy 2.1, and 2.0.0
class TestSqlAlchemy(Essentials):
    """A transport of kombu's as it is."""

    @pytest.fixture
    def broker(self, tmp_path):
        return ByURL(f"sqla+sqlite:///{tmp_path}/stock.db")


class TestSqs(Essentials):
    orders = False

    @pytest.fixture
    def broker(self, sqs_url):
        return ByURL(sqs_url)
