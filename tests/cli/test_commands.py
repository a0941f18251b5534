"""The `dingo` command: what it understands, what it prints and what it exits with."""

import json
import subprocess
import sys

import pytest

PATIENCE = 30.0

TASKS = """
import os
import dingo

app = dingo.App(include=("more",))


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


def test_a_worker_without_a_broker_is_wrong_usage(place):
    done = run_cli(place, "worker", "shop:app", "--broker", "local")
    assert done.returncode == 2
    assert "a worker needs a broker" in done.stderr
