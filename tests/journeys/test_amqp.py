"""Callers and workers over RabbitMQ: real processes, a node of our own, and what dies in between."""

import itertools
import os
import subprocess
import sys
import threading
import time

import pytest

import dingo
from dingo.bridge import suspects
from dingo.contracts import Settlement
from dingo.kombu import amqp
from dingo.testing.suites import envelope

PATIENCE = 60.0
RECONNECT = "fixed,base=0.2"
_numbers = itertools.count()

TASKS = """
import os, time
import dingo

app = dingo.App()


@app.task
def double(i: int) -> int:
    time.sleep(0.001)
    return 2 * i


@app.task
def die(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")
    os.kill(os.getpid(), 9)


@app.task(redeliver=False)
def die_once(path: str) -> None:
    os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def node(amqp_node):
    return amqp_node


class Fleet:
    """Worker processes."""

    def __init__(self, place, url, queue):
        self.place, self.queue = place, queue
        self.environment = {
            **os.environ,
            "DINGO_BROKER": url,
            "DINGO_RECONNECT": RECONNECT,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self.processes = []
        (place / "amqp_tasks.py").write_text(TASKS)

    def start(self):
        command = [
            sys.executable,
            "-m",
            "dingo",
            "worker",
            "amqp_tasks:app",
            "-c",
            "4",
            "-l",
            "ERROR",
            "-Q",
            self.queue,
        ]
        process = subprocess.Popen(
            command, cwd=self.place, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        ready = process.stdout.readline()
        assert "ready" in ready or process.wait(PATIENCE) == -9  # it may die of its first task before it says so
        self.processes.append(process)

    def revive(self):
        """Start another for each that died by itself; how many those were."""
        dead = [one for one in self.processes if one.poll() is not None]
        for one in dead:
            self.processes.remove(one)
            one.stdout.close()
            self.start()
        return len(dead)

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(PATIENCE)
            process.stdout.close()


@pytest.fixture
def fleet(node, tmp_path):
    fleet = Fleet(tmp_path, node.url, f"journey{next(_numbers)}")
    yield fleet
    fleet.end()


@pytest.fixture
def app(node, fleet):
    config = dingo.Config(
        workers=4, queue=fleet.queue, send_timeout_seconds=PATIENCE, reconnect=dingo.config.Reconnect.of(RECONNECT)
    )
    app = dingo.App(node.url, config=config)

    @app.task
    def double(i: int) -> int:
        return 2 * i

    @app.task
    def die(path: str) -> None: ...

    @app.task(redeliver=False)
    def die_once(path: str) -> None: ...

    yield app
    app.close(5)


def test_a_task_that_kills_its_workers_is_stopped_and_harms_no_other(app, fleet, tmp_path):
    fleet.start()
    poison = app.call("die", str(tmp_path / "deaths"))
    others = [app.call("double", i) for i in range(50)]
    until = time.monotonic() + PATIENCE
    while not poison.done() and time.monotonic() < until:
        fleet.revive()
        time.sleep(0.05)
    assert [result.result(PATIENCE) for result in others] == [2 * i for i in range(50)]
    with pytest.raises(dingo.TaskFailed) as caught:
        poison.result(1)
    assert caught.value.failure.code == "POISONED"


def test_what_must_not_run_twice_is_reported_as_lost(app, fleet, tmp_path):
    fleet.start()
    result = app.call("die_once", str(tmp_path / "deaths"))
    until = time.monotonic() + PATIENCE
    while not result.done() and time.monotonic() < until:
        fleet.revive()
        time.sleep(0.05)
    with pytest.raises(dingo.TaskFailed) as caught:
        result.result(1)
    assert caught.value.failure.code == "WORKER_LOST"


def test_retries_delays_and_refusals_in_one_process(app):
    @app.task(retry=dingo.Retry(max=2, base=0.01))
    def flaky(context: dingo.Context) -> int:
        if context.attempt < 3:
            raise OSError("again")
        return context.attempt

    app.start_worker()
    due = time.time() + 0.3
    later = app.options(delay=0.3).call("double", 4)
    far = app.options(delay=3600).call("double", 4)
    assert app.call("flaky").result(PATIENCE) == 3
    assert later.result(PATIENCE) == 8
    assert time.time() >= due
    assert far.cancel()
    assert far.cancelled()
    with pytest.raises(dingo.NotAttached, match="backend"):
        app.pending()


@pytest.fixture
def counted(node, redis_server):
    """Make apps with RabbitMQ for the tasks and Redis for the rest; all are closed with the test."""
    redis_server.flush()
    apps, queue = [], f"counted-{next(_numbers)}"

    def make():
        apps.append(dingo.App(node.url, backend=redis_server.url, config=dingo.Config(workers=4, queue=queue)))
        return apps[-1]

    yield make
    for app in apps:
        app.close(10, drain=False)


def test_limits_and_unique_calls_are_counted_by_another_backend(counted):
    most, now, lock, starts, gate = [0], [0], threading.Lock(), [], threading.Event()

    def alone(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.001)
        with lock:
            now[0] -= 1
        return number

    def only(number: int) -> int:
        gate.wait(PATIENCE)
        return number

    apps = [counted(), counted()]
    for app in apps:
        app.register("alone", alone, max_concurrency=1)
        app.register("paced", lambda: starts.append(time.time()), rate_limit="20/s")
        app.register("only", only, unique=True)
        app.start_worker()
    caller = apps[0]
    first, again, elsewhere = caller.call("only", 1), caller.call("only", 1), apps[1].call("only", 1)
    assert again is first
    assert elsewhere.id == first.id
    results = [caller.call("alone", number) for number in range(20)]
    paced = [caller.call("paced") for _ in range(20)]
    assert [result.result(PATIENCE) for result in results] == list(range(20))
    assert most == [1]
    for result in paced:
        result.result(PATIENCE)
    assert starts[-1] - starts[0] >= (19 - 1) / 20 - 0.1
    gate.set()
    assert [first.result(PATIENCE), elsewhere.result(PATIENCE)] == [1, 1]
    assert caller.call("only", 1).id != first.id


def test_a_suspect_that_waits_for_its_turn_keeps_no_place_from_others_and_waits_for_none_that_runs_long(
    counted, node, monkeypatch
):
    monkeypatch.setattr(suspects, "ALONE_FOR", 0.1)
    gate, app = threading.Event(), counted()
    app.register("long", lambda: gate.wait(PATIENCE))
    app.register("alone", lambda number: number, max_concurrency=1)
    calls = [app.call("long"), app.call("alone", 0)]
    for call in calls:
        assert call.wait(PATIENCE, until=dingo.Status.SENT)
    dead = amqp.AmqpWorker(node.url, 30.0)
    dead.open(lambda *_event: None)
    taken = []
    while len(taken) < 2:
        taken += dead.claim((app.config.queue,), 2, PATIENCE)
    dead._drop()
    dead.close()
    app.start_worker()
    assert [app.call("alone", number).result(PATIENCE) for number in (1, 2)] == [1, 2]
    assert calls[1].result(PATIENCE) == 0
    assert not calls[0].done()
    gate.set()
    assert calls[0].result(PATIENCE) is True


def test_a_queue_of_rabbitmq_is_paused_through_another_backend(counted):
    app = counted()
    app.register("add", lambda a, b: a + b)
    app.start_worker()
    assert app.call("add", 1, 2).result(PATIENCE) == 3
    app.pause(app.config.queue)
    until = time.monotonic() + PATIENCE
    while not app._session.here._paused:
        assert time.monotonic() < until
    result = app.call("add", 3, 4)
    assert not result.wait(1.0)
    app.resume(app.config.queue)
    assert result.result(PATIENCE) == 7


@pytest.mark.parametrize("option", [{"unique": True}, {"rate_limit": "1/s"}, {"max_concurrency": 1}])
def test_what_rabbitmq_alone_cannot_count_is_refused(node, option):
    with dingo.App(node.url) as app:
        app.register("job", lambda: None, **option)
        with pytest.raises(dingo.NotAttached, match="backend=") as caught:
            app.call("job")
        assert str([*option][0]) in str(caught.value)
        with pytest.raises(dingo.NotAttached, match="backend="):
            app.pause("default")
        if "unique" not in option:
            with pytest.raises(dingo.NotAttached, match="backend="):
                app.start_worker()


@pytest.fixture(scope="module")
def strict(node):
    """A node that lets nobody keep a message for longer than two seconds."""
    node.set(consumer_timeout=2000, channel_tick_interval=300)
    yield node
    node.set(consumer_timeout=1_800_000, channel_tick_interval=60_000)


@pytest.fixture
def slow_app(strict):
    app = dingo.App(strict.url, config=dingo.Config(workers=2, queue=f"strict{next(_numbers)}"))
    app.runs = []

    @app.task
    def slow(number: int) -> int:
        app.runs.append(number)
        time.sleep(2.6)
        return number

    yield app
    app.close(5)


@pytest.mark.parametrize("known", [True, False])
def test_tasks_longer_than_the_server_lets_anybody_keep_them_run_once(slow_app, monkeypatch, known):
    """A probe finds out in time; where even that comes too late, the worker gets back what it runs."""
    monkeypatch.setattr(amqp.probe, "RENEW_FIRST", 0.5 if known else 60.0)
    monkeypatch.setattr(amqp.worker, "HOLD_SETTLES", 0.0)  # it is longer than the patience of this server
    events = slow_app.listen(level=dingo.Level.WARNING)
    slow_app.start_worker()
    results = slow_app.call_many("slow", [(number,) for number in range(3)])
    assert [result.result(PATIENCE) for result in results] == [0, 1, 2]
    slow_app.close(5)
    assert sorted(slow_app.runs) == [0, 1, 2]
    assert [event.code for event in events] == ([] if known else ["connection.lost"])


def test_the_probe_learns_what_the_server_allows(strict, monkeypatch):
    monkeypatch.setattr(amqp.probe, "RENEW_FIRST", 0.5)
    producer, worker = amqp.AmqpProducer(strict.url), amqp.AmqpWorker(strict.url, 30.0)
    for part in (producer, worker):
        part.open(lambda *_event: None)
    producer.send([envelope(queue="probed")])
    (delivery,) = worker.claim(("probed",), 1, PATIENCE)
    assert worker._link.probe.safe() == 0.5
    until = time.monotonic() + PATIENCE
    while worker._link.probe.allowed is None and time.monotonic() < until:
        worker.claim((), 0, 0.1)
    assert (worker._link.probe.allowed, worker._link.probe.safe()) == (2.0, 2.0 / 3)
    assert worker.settle([Settlement(delivery)]) == []
    for part in (producer, worker):
        part.close()
