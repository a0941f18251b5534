"""Redis keeps the contract."""

import pytest
import redis
from servers import redis_server  # noqa: F401 - a fixture

from dingo import kombu
from dingo.testing.suites import BrokerSuite


class TestRedis(BrokerSuite):
    @pytest.fixture
    def broker(self, redis_server):  # noqa: F811
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        return ByURL(redis_server.url)


class ByURL:
    def __init__(self, url):
        self.url = url

    def producer(self):
        return kombu.producer(self.url)

    def worker(self):
        return kombu.worker(self.url)

    def store(self):
        return kombu.store(self.url)
