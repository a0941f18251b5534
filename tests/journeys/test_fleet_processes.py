"""Limits over real worker processes: never exceeded, and a place outlives no worker."""

import itertools
import time

import pytest
from workers import worker_processes

import dingo
from dingo.bridge.ledger import BURST

PATIENCE = 30.0

TASKS = """
import fcntl, os, time
import dingo

app = dingo.App(config=dingo.Config(lease_seconds=3.0))
_starts = os.open("starts.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task(max_concurrency=1)
def alone(number: int) -> int:
    lock = os.open("alone.lock", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where another one runs
        time.sleep(0.003)
    finally:
        os.close(lock)
    return number


@app.task(rate_limit="30/s")
def paced() -> int:
    os.write(_starts, f"{time.time()}\\n".encode())
    return os.getpid()


@app.task(max_concurrency=1)
def hold(name: str) -> int:
    os.close(os.open(f"{name}.{os.getpid()}", os.O_WRONLY | os.O_CREAT))
    while not os.path.exists(name):
        time.sleep(0.01)
    return os.getpid()
"""


@pytest.fixture
def place(counting_url, tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(TASKS)
    monkeypatch.setenv("DINGO_BROKER", counting_url)
    monkeypatch.delenv("DINGO_BACKEND", raising=False)
    return tmp_path


@pytest.fixture
def start(place):
    """Start worker processes; all are ended with the test."""
    with worker_processes(place) as start:
        yield start


@pytest.fixture
def caller(place):
    with dingo.App() as app:
        app.register("alone", lambda number: number, max_concurrency=1)
        app.register("paced", lambda: 0, rate_limit="30/s")
        app.register("hold", lambda name: 0, max_concurrency=1)
        yield app


def test_two_processes_keep_to_the_limits(place, start, caller):
    start(), start()
    alone = [caller.call("alone", number) for number in range(50)]
    paced = [caller.call("paced") for _ in range(50)]
    assert [result.result(PATIENCE) for result in alone] == list(range(50))
    assert len({result.result(PATIENCE) for result in paced}) == 2  # both have worked
    starts = sorted(map(float, (place / "starts.txt").read_text().split()))
    assert len(starts) == 50
    late = 0.05  # a start that was allowed may come a little late, and the next one on time
    for first, last in itertools.combinations(range(50), 2):
        assert last - first <= (starts[last] - starts[first] + BURST + late) * 30 + 1


def test_the_place_of_a_killed_worker_is_given_to_another(place, start, caller):
    killed = start()
    first = caller.call("hold", "first")
    until = time.monotonic() + PATIENCE
    while not (place / f"first.{killed.pid}").exists():
        assert time.monotonic() < until
        time.sleep(0.01)  # between two looks
    second = caller.call("hold", "second")
    other = start()
    assert not second.wait(0.5)
    assert not (place / f"second.{other.pid}").exists()
    killed.kill()  # while it holds the only place
    killed.wait()
    for name in ("first", "second"):
        (place / name).write_text("")
    assert second.result(PATIENCE) == other.pid
    assert first.result(PATIENCE) == other.pid
