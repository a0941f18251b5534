"""What dingo withstands, in small: the scenarios of `make chaos` with few jobs and few faults."""

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
import scenarios
from ground import BROKERS, Ground
from servers import need

from dingo.errors import BrokerUnavailable
from dingo.kombu import amqp, sqlite
from dingo.kombu.redis import line, server, store, worker
from dingo.kombu.sqlite import database as sqlite_database
from dingo.kombu.sqlite import worker as sqlite_worker

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
    withstood(scenarios.kill_workers(ground, 6000, 3))


def test_a_killed_callers_calls_are_done(ground):
    withstood(scenarios.kill_caller(ground, 100))


def test_a_frozen_workers_late_reports_change_nothing(ground):
    withstood(scenarios.freeze_worker(ground))


def test_a_worker_takes_only_what_it_knows_and_leaves_the_rest_without_a_hot_loop(make_ground):
    withstood(scenarios.two_versions(make_ground("sqlite"), 3, 0.5))


# -- servers and networks ------------------------------------------------------------------------------------------


def test_a_killed_server_comes_back_and_all_is_done(server_ground):
    withstood(scenarios.restart_broker(server_ground, 1000, 1))


@pytest.mark.parametrize("who", ["worker", "caller"])
def test_a_black_hole_is_noticed_and_all_goes_on_when_it_opens(server_ground, who, monkeypatch):
    for module, names in (
        (line, ("BLOCK", "GRACE")), (store, ("BLOCK", "GRACE")), (worker, ("BLOCK",)), (server, ("ANSWER_SECONDS",)),
        *((module, ("PATIENCE",)) for module in (amqp.connection, amqp.wire, amqp.link, amqp.worker)),
    ):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(amqp.AmqpStore, "_heartbeat", 1)
    withstood(scenarios.black_hole(server_ground, worker=who == "worker", patience=20.0))


def test_lost_connections_leave_nothing_behind(server_ground):
    withstood(scenarios.drop_connections(server_ground, 24))


def test_calls_that_a_redis_has_lost_with_its_memory_are_sent_again(make_ground):
    outcome = withstood(scenarios.empty_broker(make_ground("redis", "--appendonly", "no"), 300))
    assert outcome.twice == 0


def test_a_full_redis_lets_calls_wait_and_workers_go_on(make_ground):
    withstood(scenarios.full_memory(make_ground("redis", "--appendonly", "no"), 200))


# -- SQLite --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite_ground(make_ground):
    return make_ground("sqlite")


def possible(scenario, *arguments):
    try:
        return withstood(scenario(*arguments))
    except scenarios.NotPossibleError as error:
        pytest.skip(str(error))


def test_a_full_disk_is_told_and_all_goes_on_when_there_is_room(sqlite_ground):
    possible(scenarios.full_disk, sqlite_ground, 40)


def test_a_directory_where_nobody_may_write_is_told_at_once(sqlite_ground):
    possible(scenarios.read_only, sqlite_ground)


def test_a_worker_killed_between_two_writes_loses_nothing(sqlite_ground):
    possible(scenarios.killed_writers, sqlite_ground, (7, 16))


def test_a_file_locked_by_another_program_is_waited_for(sqlite_ground, monkeypatch):
    monkeypatch.setattr(sqlite_database, "BUSY_SECONDS", 0.2)
    withstood(scenarios.locked_file(sqlite_ground, 20, 2.0))


def test_a_commit_that_fails_leaves_no_transaction_behind(tmp_path):
    database = sqlite.Database(f"{tmp_path}/jobs.db")
    connection = database.connect()
    reader = sqlite3.connect(tmp_path / "jobs.db")
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA busy_timeout = 50")
    reader.execute("BEGIN").execute("SELECT * FROM meta").fetchall()
    with pytest.raises(BrokerUnavailable, match="locked"), database.writing(connection):
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    assert not connection.in_transaction
    reader.close()
    with database.writing(connection):
        connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    connection.close()


@pytest.fixture
def two_workers(tmp_path):
    """Two workers of one file, with a short lease, that look for the dead whenever they claim."""
    workers = [sqlite.SqliteWorker(f"{tmp_path}/jobs.db", 0.5) for _ in range(2)]
    for one in workers:
        one.open(lambda *_event: None)
        one._reaped = float("-inf")
    yield workers
    for one in workers:
        one.close()


def silent(one, other):
    """Whether one takes the other for dead by its heartbeat."""
    (beat,) = one._connection.execute("SELECT beat FROM owners WHERE owner = ?", (other.owner,)).fetchone()
    return one._is_silent(other.owner, beat)


def wait_until(fact):
    until = time.monotonic() + 10.0
    while not fact() and time.monotonic() < until:
        time.sleep(0.01)
    return fact()


def test_a_stepped_clock_makes_nobody_dead(two_workers, monkeypatch):
    one, other = two_workers
    assert not silent(one, other)
    monkeypatch.setattr(sqlite_worker, "time", lambda: time.time() + 3600)
    assert not silent(one, other)
    other._renewed = None
    other.tend()
    monkeypatch.setattr(sqlite_worker, "time", lambda: time.time() - 3600)
    assert not silent(one, other)


def test_a_heartbeat_that_stands_still_for_a_lease_makes_dead(two_workers):
    one, other = two_workers
    assert not silent(one, other)
    assert wait_until(lambda: (one.tend(), silent(one, other))[1])


def test_who_could_not_renew_its_own_heartbeat_begins_to_watch_anew(two_workers):
    one, other = two_workers
    assert not silent(one, other)
    one._renewed -= 10.0  # something held up all
    time.sleep(0.6)  # longer than the lease
    assert not silent(one, other)
    one.tend()
    assert not silent(one, other)


# -- callers -------------------------------------------------------------------------------------------------------

WAITING = """
import sys
import dingo

with dingo.App(config=dingo.Config(queue=sys.argv[1])) as app:
    app.register("double", lambda number: None)
    result = app.call("double", 1)
    print("waiting", flush=True)
    result.result()
"""


@pytest.mark.parametrize("gone", [False, True])
def test_ctrl_c_twice_ends_a_caller_that_waits_even_if_its_server_is_gone(make_ground, gone):
    ground = make_ground("redis")
    caller = subprocess.Popen(
        [sys.executable, "-c", WAITING, ground.queue], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "DINGO_BROKER": ground.url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    try:
        assert caller.stdout.readline() == b"waiting\n"
        if gone:
            ground.server.kill()
        for _ in range(2):
            caller.send_signal(signal.SIGINT)
            time.sleep(0.5)  # as fingers do
        assert caller.wait(20) != 0
    finally:
        caller.kill()
        caller.communicate()


FORKING = """
import os, sys
import dingo

app = dingo.App(config=dingo.Config(queue=sys.argv[1]))
app.register("double", lambda number: None)
before = [app.call("double", n) for n in range(100)]
app.flush()
child = os.fork()
if not child:
    mine = [app.call("double", n) for n in range(100, 150)]
    good = [one.result(20) for one in mine] == [2 * n for n in range(100, 150)]
    app.close(5)
    os._exit(0 if good else 1)
after = [app.call("double", n) for n in range(150, 250)]
_, status = os.waitpid(child, 0)
assert status == 0, "the child"
assert [one.result(20) for one in before] == [2 * n for n in range(100)]
assert [one.result(20) for one in after] == [2 * n for n in range(150, 250)]
app.close(5)
"""


def test_a_caller_that_forks_and_its_child_get_what_each_has_called(ground):
    ground.start_worker()
    done = subprocess.run(
        [sys.executable, "-c", FORKING, ground.queue], capture_output=True, text=True, timeout=60,
        env={**os.environ, "DINGO_BROKER": ground.url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(len(pids) == 1 for pids in ground.runs().values())
