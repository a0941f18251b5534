"""Every Herald passes the suite."""

import itertools

import pytest

from dingo import kombu
from dingo.kombu.heralds import amqp as heralds_amqp
from dingo.testing.suites import HeraldSuite

_numbers = itertools.count()


class TestHeralds(HeraldSuite):
    @pytest.fixture(params=["memory", "sqlite", "redis", "amqp"])
    def heralds(self, request, tmp_path, monkeypatch):
        monkeypatch.setattr(heralds_amqp, "ROLL_SECONDS", 0.5)
        if request.param == "redis":
            server = request.getfixturevalue("redis_server")
            server.flush()
            url = server.url
        elif request.param == "amqp":
            url = request.getfixturevalue("amqp_node").url
        else:
            url = f"memory://herald-{next(_numbers)}" if request.param == "memory" else f"sqlite:///{tmp_path}/jobs.db"
        made = []

        def make():
            made.append(kombu.herald(url))
            made[-1].open(lambda *args: None)
            return made[-1]

        yield make
        for one in made:
            one.close()
