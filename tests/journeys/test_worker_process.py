"""Real worker processes over an SQLite file: killed, frozen, stopped; nothing gets lost."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest
from workers import worker_processes

import dingo

PATIENCE = 30.0

TASKS = """
import os, time
import dingo

app = dingo.App(config=dingo.Config(lease_seconds=3.0, grace_seconds=5.0))
_runs = os.open("runs.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(text):
    os.write(_runs, f"{text}\\n".encode())


@app.task
def double(number: int) -> int:
    note(number)
    time.sleep(0.0005)
    return number * 2


@app.task
def gate(name: str) -> str:
    note(f"{name} {os.getpid()}")
    while not os.path.exists(name):
        time.sleep(0.01)
    return name


@app.task
def poison() -> None:
    note("poison")
    os.kill(os.getpid(), 9)


@app.task(redeliver=False)
def once() -> None:
    note("once")
    os.kill(os.getpid(), 9)


@app.task
def fail() -> None:
    raise ValueError("no")
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(TASKS)
    (tmp_path / "runs.txt").write_text("")
    monkeypatch.setenv("DINGO_BROKER", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


@pytest.fixture
def start(place):
    """Start worker processes; all are ended with the test."""
    with worker_processes(place, stderr=subprocess.PIPE) as start:
        yield start


@pytest.fixture
def caller(place):
    """An app that calls the tasks by name; it knows no more of them than their signatures."""
    with dingo.App(config=dingo.Config(lease_seconds=3.0)) as app:
        for name in ("poison", "once", "fail"):
            app.register(name, lambda: None)
        app.register("double", lambda number: None)
        app.register("gate", lambda name: None)
        yield app


def runs(place):
    return Counter((place / "runs.txt").read_text().split("\n")[:-1])


def run_cli(place, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "dingo", *arguments], cwd=place, capture_output=True, text=True, timeout=PATIENCE
    )


def test_a_task_that_kills_its_worker_again_and_again_ends_poisoned(place, start, caller):
    result = caller.call("poison")
    for _ in range(6):
        worker = start(ready=False)
        waiting = threading.Thread(target=worker.wait, daemon=True)
        waiting.start()
        while waiting.is_alive() and not result.done():
            waiting.join(0.1)
        if result.done():
            break
    with pytest.raises(dingo.TaskFailed) as caught:
        result.result(PATIENCE)
    assert caught.value.failure.code == "POISONED"
    assert runs(place)["poison"] == 3


def test_a_task_not_to_be_redelivered_runs_once_and_ends_worker_lost(place, start, caller):
    caller.set_option("once", redeliver=False)
    result = caller.call("once")
    start(ready=False).wait(PATIENCE)
    start()
    with pytest.raises(dingo.TaskFailed) as caught:
        result.result(PATIENCE)
    assert caught.value.failure.code == "WORKER_LOST"
    assert runs(place)["once"] == 1


def test_a_long_task_of_a_live_worker_is_not_run_twice(place, start, caller):
    start()
    start()
    result = caller.call("gate", "late")
    assert not result.wait(4.0)  # longer than the lease
    (place / "late").write_text("")
    assert result.result(PATIENCE) == "late"
    assert sum(runs(place).values()) == 1


def test_sigterm_lets_what_runs_end_and_exits_with_0(place, start, caller):
    worker = start()
    result = caller.call("gate", "open")
    while not runs(place):
        assert not result.wait(0.05)
    worker.send_signal(signal.SIGTERM)
    (place / "open").write_text("")
    assert result.result(PATIENCE) == "open"
    assert worker.wait(PATIENCE) == 0


def test_a_second_signal_ends_the_worker_at_once_and_its_task_is_done_by_another(place, start, caller):
    worker = start()
    result = caller.call("gate", "open")
    while not runs(place):
        assert not result.wait(0.05)
    worker.send_signal(signal.SIGTERM)
    assert not result.wait(0.3)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE) == 1
    (place / "open").write_text("")
    start()
    assert result.result(PATIENCE) == "open"


def test_dingo_call_prints_the_value_as_json(place, start):
    start()
    done = run_cli(place, "call", "shop:app", "double", "21")
    assert (done.returncode, json.loads(done.stdout)) == (0, 42)


def test_dingo_call_of_a_failing_task_exits_with_1(place, start):
    start()
    done = run_cli(place, "call", "shop:app", "fail")
    assert done.returncode == 1
    assert "ValueError: no" in done.stderr


def test_dingo_pending_and_purge(place, caller):
    purged = caller.call("double", 1)
    assert caller.flush(PATIENCE)
    listed = run_cli(place, "pending", "shop:app", "--json")
    assert json.loads(listed.stdout)["name"] == "double"
    assert run_cli(place, "purge", "shop:app").stdout == "1 calls cancelled\n"
    assert run_cli(place, "pending", "shop:app").stdout == ""
    assert purged.wait(PATIENCE)
    assert purged.cancelled()


@pytest.mark.parametrize("module", ["nosuch:app", "shop:nosuch", "shop"])
def test_a_wrong_module_exits_with_2_or_serves_app(place, module):
    done = run_cli(place, "pending", module)
    assert done.returncode == (0 if module == "shop" else 2)


def test_an_unreachable_broker_exits_with_3(place):
    os.environ["DINGO_BROKER"] = "sqlite:////nosuch/folder/jobs.db"
    assert run_cli(place, "worker", "shop:app").returncode == 3
