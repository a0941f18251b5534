"""What dingo withstands, in small: the scenarios of `make chaos` with few jobs and few faults."""

import pytest
import scenarios
from ground import BROKERS, Ground
from servers import need

from dingo.kombu import amqp, redis

SERVERS = ("redis", "amqp")


@pytest.fixture
def make_ground(request, tmp_path):
    """Make a ground; it is closed with the test."""
    grounds = []

    def make(kind, *options):
        if kind == "redis":
            need("redis-server")
        server = request.getfixturevalue("rabbit_node") if kind == "amqp" else None
        grounds.append(Ground(kind, tmp_path, server=server, options=options))
        return grounds[-1]

    yield make
    for one in grounds:
        one.close()


@pytest.fixture(params=BROKERS)
def ground(request, make_ground):
    return make_ground(request.param)


@pytest.fixture(params=SERVERS)
def server_ground(request, make_ground):
    return make_ground(request.param)


def withstood(outcome):
    assert outcome.good, outcome
    return outcome


# -- processes -----------------------------------------------------------------------------------------------------


def test_killed_workers_lose_nothing_and_nothing_runs_twice_that_they_had_not(ground):
    withstood(scenarios.kill_workers(ground, 2000, 3))


def test_a_killed_callers_calls_are_done(ground):
    withstood(scenarios.kill_caller(ground, 100))


def test_a_frozen_workers_late_reports_change_nothing(ground):
    withstood(scenarios.freeze_worker(ground))


def test_a_worker_takes_only_what_it_knows_and_leaves_the_rest_without_a_hot_loop(make_ground):
    withstood(scenarios.two_versions(make_ground("sqlite"), 5, 1.0))


# -- servers and networks ------------------------------------------------------------------------------------------


def test_a_killed_server_comes_back_and_all_is_done(server_ground):
    withstood(scenarios.restart_broker(server_ground, 1000, 1))


@pytest.mark.parametrize("who", ["worker", "caller"])
def test_a_black_hole_is_noticed_and_all_goes_on_when_it_opens(server_ground, who, monkeypatch):
    for module, name in ((redis, "BLOCK"), (redis, "GRACE"), (redis, "ANSWER_SECONDS"), (amqp, "PATIENCE")):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(amqp.AmqpStore, "_heartbeat", 1)
    withstood(scenarios.black_hole(server_ground, worker=who == "worker", patience=20.0))


def test_lost_connections_leave_nothing_behind(server_ground):
    withstood(scenarios.drop_connections(server_ground, 20))


def test_calls_that_a_redis_has_lost_with_its_memory_are_sent_again(make_ground):
    outcome = withstood(scenarios.empty_broker(make_ground("redis", "--appendonly", "no"), 300))
    assert outcome.twice == 0


def test_a_full_redis_lets_calls_wait_and_workers_go_on(make_ground):
    withstood(scenarios.full_memory(make_ground("redis", "--appendonly", "no"), 200))
