"""Redis keeps the contract."""

import pytest
import redis
from by_url import ByURL
from servers import redis_server  # noqa: F401 - a fixture

from dingo.testing.suites import BrokerSuite


class TestRedis(BrokerSuite):
    @pytest.fixture
    def broker(self, redis_server):  # noqa: F811
        with redis.Redis.from_url(redis_server.url) as client:
            client.flushall()
        return ByURL(redis_server.url)
