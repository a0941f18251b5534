"""Every backend keeps the contract, whichever way the tasks go."""

import itertools

import pytest
import redis
from by_url import ByURL

from dingo.testing.suites import BackendSuite

_numbers = itertools.count()


class TestMemory(BackendSuite):
    @pytest.fixture
    def backend(self):
        return ByURL(f"memory://backend-{next(_numbers)}")


class TestSqlite(BackendSuite):
    @pytest.fixture
    def backend(self, tmp_path):
        return ByURL(f"sqlite:///{tmp_path}/results.db")


class TestRedis(BackendSuite):
    @pytest.fixture
    def backend(self, redis_server):
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        return ByURL(redis_server.url)


class TestPostgresql(BackendSuite):
    @pytest.fixture
    def backend(self, postgresql):
        postgresql.empty()
        return ByURL(postgresql.url)


class TestMysql(BackendSuite):
    @pytest.fixture
    def backend(self, mysql):
        mysql.empty()
        return ByURL(mysql.url)


class TestMemcache(BackendSuite):
    lists = False

    @pytest.fixture
    def backend(self, memcached):
        memcached.empty()
        return ByURL(memcached.url)


class TestMongodb(BackendSuite):
    @pytest.fixture
    def backend(self, mongodb):
        mongodb.empty()
        return ByURL(mongodb.url)
