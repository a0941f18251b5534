"""Redis keeps the contract."""

import pytest
import redis
from by_url import ByURL

from dingo.testing.suites import BrokerSuite


class TestRedis(BrokerSuite):
    @pytest.fixture
    def broker(self, redis_server):
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        return ByURL(redis_server.url)
