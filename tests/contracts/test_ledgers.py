"""Every backend that counts for a fleet keeps the ledger's contract."""

import itertools

import pytest
from by_url import ByURL

from dingo.kombu.redis import RedisWorker
from dingo.kombu.redis import worker as redis_worker
from dingo.kombu.sqlite import SqliteWorker
from dingo.kombu.sqlite import worker as sqlite_worker
from dingo.testing.suites import LedgerSuite

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def looked_for_often(monkeypatch):
    """Workers look for dead ones often: the lease is short here too."""
    for module in (sqlite_worker, redis_worker):
        monkeypatch.setattr(module, "REAP_EVERY", 0.05)


class TestMemory(LedgerSuite):
    LEASE = 0.1

    @pytest.fixture
    def broker(self):
        return ByURL(f"memory://ledger-{next(_numbers)}")

    def fall_silent(self, worker):
        """In one process nobody falls silent but who is closed."""
        worker.close(died=True)


class Sqlite(ByURL):
    def worker(self):
        return SqliteWorker(self.url.removeprefix("sqlite:///"), LedgerSuite.LEASE)


class TestSqlite(LedgerSuite):
    @pytest.fixture
    def broker(self, tmp_path):
        return Sqlite(f"sqlite:///{tmp_path}/jobs.db")


class TestRedis(LedgerSuite):
    @pytest.fixture
    def broker(self, redis_server):
        redis_server.flush()
        return Redis(redis_server.url)


class Redis(ByURL):
    def worker(self):
        return RedisWorker(self.url, LedgerSuite.LEASE)
