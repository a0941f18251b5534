"""Every broker keeps the contract."""

import itertools

import pytest
from by_url import ByURL

from dingo.bridge.memory import MemoryNamedWorker, MemoryProducer, MemoryStore, wire
from dingo.testing.suites import BrokerSuite

_numbers = itertools.count()


class TestMemory(BrokerSuite):
    @pytest.fixture
    def broker(self):
        return ByURL(f"memory://contract-{next(_numbers)}")


class TestSqlite(BrokerSuite):
    @pytest.fixture
    def broker(self, tmp_path):
        return ByURL(f"sqlite:///{tmp_path}/jobs.db")


class NamedMemory(ByURL):
    """A queue is whatever a task's envelope says; that a worker asks for one queue per name is the bridge's part."""

    def worker(self):
        return MemoryNamedWorker(wire(self.url))

    def producer(self):
        return MemoryProducer(wire(self.url))

    def store(self):
        return MemoryStore(wire(self.url))


class TestNamedMemory(BrokerSuite):
    @pytest.fixture
    def broker(self):
        return NamedMemory(f"named-{next(_numbers)}")
