"""The `dingo` command: what it understands, what it prints and what it exits with."""

import datetime
import json
import math
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import dingo
from dingo.cli.values import printed, typed

PATIENCE = 30.0

TASKS = """
import os
import dingo

app = dingo.App(include=("more",), config=dingo.Config(lease_seconds=float(os.environ.get("LEASE", "30"))))


@app.task
def where() -> int:
    return os.getpid()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "shop.py").write_text(TASKS)
    (tmp_path / "more.py").write_text("import shop\nshop.app.register('late', len)\n")
    (tmp_path / "broken.py").write_text("import dingo\napp = dingo.App(\n")
    monkeypatch.setenv("DINGO_BROKER", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.delenv("DINGO_BACKEND", raising=False)
    return tmp_path


def run_cli(place, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "dingo", *arguments], cwd=place, capture_output=True, text=True, timeout=PATIENCE
    )


def test_asking_for_nothing_is_wrong_usage(place):
    done = run_cli(place)
    assert done.returncode == 2
    assert "worker" in done.stderr


def test_a_module_with_a_syntax_error_exits_with_2_and_says_where(place):
    done = run_cli(place, "worker", "broken:app")
    assert done.returncode == 2
    assert "broken.py" in done.stderr
    assert "dingo: module 'broken' cannot be imported: SyntaxError" in done.stderr


def test_the_banner_says_what_this_worker_is_and_ready_its_name_and_queues(place):
    done = run_cli(place, "worker", "shop:app", "--broker", f"sqlite:///{place}/jobs.db", "--burst",
                   "--name", "w1", "-Q", "a, b", "--pool", "process", "-c", "2")  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == "ready w1 a,b\n"
    assert "concurrency  2 processes" in done.stderr
    assert "queues       a, b" in done.stderr
    assert "tasks        where, late" in done.stderr


def test_plain_functions_run_in_processes_where_the_worker_is_told_so(place):
    worker = subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "shop:app", "--pool", "process", "-c", "1"],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert worker.stdout.readline().startswith("ready ")
        done = run_cli(place, "call", "shop:app", "where", "--timeout", "30")
        assert done.returncode == 0
        assert json.loads(done.stdout) != worker.pid
    finally:
        worker.terminate()
        worker.communicate(timeout=PATIENCE)


def test_what_is_listed_is_json_on_demand(place):
    run_cli(place, "purge", "shop:app")
    done = run_cli(place, "purge", "shop:app", "--json")
    assert json.loads(done.stdout) == {"queue": "default", "cancelled": 0}


def test_what_the_command_line_says_of_the_broker_goes_before_what_the_module_says(place):
    (place / "fixed.py").write_text("import dingo\napp = dingo.App('memory://own')\n")
    done = run_cli(place, "worker", "fixed:app", "--broker", f"sqlite:///{place}/other.db", "--burst")
    assert done.returncode == 0
    assert f"broker       sqlite:///{place}/other.db" in done.stderr
    assert (place / "other.db").exists()
    assert run_cli(place, "worker", "fixed:app", "--broker", "local").returncode == 2


def test_an_app_that_its_module_has_used_and_closed_is_served(place):
    (place / "used.py").write_text("from shop import app\nwith app: app.pending()\n")
    assert run_cli(place, "worker", "used:app", "--burst").stdout.startswith("ready ")
    other = run_cli(place, "worker", "used:app", "--broker", f"sqlite:///{place}/other.db", "--burst")
    assert other.stdout.startswith("ready ")


def test_a_wrong_broker_is_told_in_one_line(place):
    done = run_cli(place, "pending", "shop:app", "--broker", "nosuch://user:hunter2@host")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("dingo: module 'shop' cannot be imported: no broker is known for 'nosuch://user:***@host'")


def test_a_call_to_a_broker_that_is_away_exits_with_3(place, monkeypatch):
    monkeypatch.setenv("DINGO_BROKER", "amqp://user:hunter2@127.0.0.1:1/")
    done = run_cli(place, "call", "shop:app", "where")
    assert done.returncode == 3
    assert "dingo: the broker cannot be reached: " in done.stderr
    assert not any(said in done.stderr for said in ("hunter2", "Traceback"))


@pytest.mark.parametrize(("argument", "value"), [
    ("3", 3), ('"3"', "3"), ("[1, null]", [1, None]), ("three", "three"), ("NaN", "NaN"), ("-1", -1), ("", ""),
    ('{"a": {"b": 2.5}}', {"a": {"b": 2.5}}),
])  # fmt: skip
def test_an_argument_is_json_if_it_parses_and_else_text(argument, value):
    assert typed(argument) == value


def test_what_a_call_returns_is_printed_as_json_whatever_it_is():
    @dataclass
    class Order:
        item: str
        due: datetime.date

    order = Order("book", datetime.date(2030, 5, 1))
    value = {1: (order, {2.5}), (1, 2): b"ab", "nan": math.nan, "kind": dingo.Level.INFO, "other": Path("a")}
    assert json.loads(printed(value)) == {
        "1": [{"item": "book", "due": "2030-05-01"}, [2.5]], "[1, 2]": "YWI=", "nan": "nan", "kind": 20, "other": "a",
    }  # fmt: skip


def test_the_version_is_printed(place):
    assert run_cli(place, "--version").stdout == f"dingo {dingo.__version__}\n"


def test_a_worker_without_a_broker_is_wrong_usage(place):
    done = run_cli(place, "worker", "shop:app", "--broker", "local")
    assert done.returncode == 2
    assert "a worker needs a broker" in done.stderr


@pytest.fixture
def start(place):
    """Start `dingo` processes; all are ended with the test."""
    started = []

    def start(*arguments):
        started.append(subprocess.Popen(
            [sys.executable, "-m", "dingo", *arguments], cwd=place, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ))  # fmt: skip
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_whether_a_worker_lives_is_told_by_the_exit_code(place, start):
    assert run_cli(place, "worker", "shop:app", "--check").returncode == 1
    worker = start("worker", "shop:app", "--name", "w1")
    assert worker.stdout.readline() == "ready w1 default\n"
    assert run_cli(place, "worker", "shop:app", "--check", "--name", "w1").returncode == 0
    other = run_cli(place, "worker", "shop:app", "--check", "--name", "w2")
    assert (other.returncode, other.stderr) == (1, "dingo: no worker called 'w2' lives\n")
    (listed,) = [json.loads(line) for line in run_cli(place, "workers", "shop:app", "--json").stdout.splitlines()]
    assert (listed["name"], listed["pid"], listed["queues"]) == ("w1", worker.pid, ["default"])
    assert run_cli(place, "workers", "shop:app").stdout.startswith("w1  ")
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    assert run_cli(place, "worker", "shop:app", "--check", "--name", "w1").returncode == 1


def test_a_killed_worker_is_not_seen_after_its_lease(place, start, monkeypatch):
    monkeypatch.setenv("LEASE", "3")
    worker = start("worker", "shop:app")
    assert worker.stdout.readline().startswith("ready")
    worker.kill()
    until = time.monotonic() + PATIENCE
    while run_cli(place, "worker", "shop:app", "--check").returncode == 0:
        assert time.monotonic() < until


def test_the_events_of_the_workers_are_printed(place, start):
    worker = start("worker", "shop:app", "--name", "w1")
    worker.stdout.readline()
    events = start("events", "shop:app", "--json", "--level", "DEBUG", "--origin", "worker")
    assert events.stderr.readline() == "listening to 1 workers: w1\n"
    lines = queue.SimpleQueue()
    threading.Thread(target=lambda: [lines.put(json.loads(line)) for line in events.stdout], daemon=True).start()
    with dingo.App(f"sqlite:///{place}/jobs.db") as app:
        app.register("where", lambda: 0)
        until = time.monotonic() + PATIENCE
        while lines.empty():  # a worker needs a moment to know that somebody listens
            assert time.monotonic() < until
            app.call("where").result(PATIENCE)
    event = lines.get()
    while not event["code"].startswith("call."):  # it may also hear that the pool starts
        event = lines.get(timeout=PATIENCE)
    assert event["worker"] == "w1"
    assert event["origin"] == "worker"
    events.send_signal(signal.SIGINT)
    assert events.wait(PATIENCE) == 0


def test_wrong_origins_and_local_apps_are_told(place):
    done = run_cli(place, "events", "shop:app", "--origin", "wrker")
    assert done.returncode == 2
    assert "no origin is called 'wrker'" in done.stderr
    assert run_cli(place, "workers", "shop:app", "--broker", "local").returncode == 2


def test_pausing_and_resuming_a_queue_says_what_is_paused(place):
    assert run_cli(place, "pause", "shop:app").stdout == "paused: default\n"
    assert run_cli(place, "pause", "shop:app", "other").stdout == "paused: default, other\n"
    assert run_cli(place, "resume", "shop:app").stdout == "paused: other\n"
    assert run_cli(place, "resume", "shop:app", "other").stdout == "paused: nothing\n"
    with dingo.App() as app:
        assert app.paused() == []


def test_a_wrong_weight_of_a_queue_exits_with_2(place):
    done = run_cli(place, "worker", "shop:app", "-Q", "a=3,b=much")
    assert done.returncode == 2
    assert "a weight must be a number over 0" in done.stderr
