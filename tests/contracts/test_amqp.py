"""RabbitMQ keeps the contract, as far as a broker without a memory of single calls can."""

import time

import pytest

from dingo import kombu
from dingo.contracts import Settlement, Verdict
from dingo.errors import BadConfig, BrokerUnavailable, NotAttached
from dingo.testing.suites import BrokerSuite, envelope, report
import rabbit


@pytest.fixture(scope="module")
def node():
    with rabbit.running_node() as node:
        yield node


class ByURL:
    def __init__(self, url):
        self.url = url

    def producer(self):
        return kombu.producer(self.url)

    def worker(self):
        return kombu.worker(self.url)

    def store(self):
        return kombu.store(self.url)


class TestAmqp(BrokerSuite):
    @pytest.fixture
    def broker(self, node):
        tasks = [f"dingo.{queue}.{priority}" for queue in ("default", "other") for priority in range(10)]
        node.delete(*tasks, "dingo.reply.me", "dingo.reply.you")
        return ByURL(node.url)

    # -- what RabbitMQ does otherwise -----------------------------------------------------------------------------

    def test_a_task_sent_again_may_come_to_two_workers(self, parts):
        """Within one it counts once; for two there is the rule that the first final report wins."""
        producer, first, second = parts("producer"), parts("worker"), parts("worker")
        producer.send([envelope("1")])
        assert [one.envelope.id for one in self.claim(first, 1)] == ["1"]
        producer.send([envelope("1")])
        assert [one.envelope.id for one in self.claim(second)] == ["1"]

    def raises(self, parts, ask):
        store = parts("store")
        with pytest.raises(NotAttached, match="add a redis or sqlite backend"):
            ask(store)

    def test_the_first_final_report_of_a_call_stays(self, parts):
        self.raises(parts, lambda store: store.fetch("1", "add"))

    def test_a_call_is_known_while_it_waits_is_delayed_and_runs(self, parts):
        self.raises(parts, lambda store: store.fetch("1", None))

    def test_an_unknown_call_is_not_found(self, parts):
        self.raises(parts, lambda store: store.fetch("none", None))

    def test_a_forgotten_result_is_gone(self, parts):
        self.raises(parts, lambda store: store.forget("1", "add"))

    def test_a_waiting_call_is_withdrawn(self, parts):
        self.raises(parts, lambda store: store.cancel("1", "add"))

    def test_the_worker_of_a_cancelled_running_call_is_told(self, parts):
        self.raises(parts, lambda store: store.cancel("1", "add"))
        assert parts("worker").tend() == []

    def test_waiting_and_delayed_calls_are_listed(self, parts):
        for state in ("waiting", "delayed", "ended"):
            self.raises(parts, lambda store, state=state: store.calls(state, None))
