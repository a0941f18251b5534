"""`dingo doctor`: what is wrong is found, with what to do about it."""

import json
import subprocess
import sys

import pytest
from servers import free_port

import dingo
from dingo.kombu import checkups

PATIENCE = 60.0

TASKS = """
import dingo
app = dingo.App()
app.register("known", lambda: 1)
app.register("elsewhere", lambda: 1, queue="far")
"""


@pytest.fixture
def doctor(tmp_path):
    """Have the doctor look; return its findings by what was checked, and its exit code."""
    (tmp_path / "shop.py").write_text(TASKS)

    def look(url, *options):
        done = subprocess.run(
            [sys.executable, "-m", "dingo", "doctor", "shop:app", "--json", "--broker", url, *options],
            cwd=tmp_path, text=True, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.stderr == "", done.stderr
        findings = [json.loads(line) for line in done.stdout.splitlines()]
        return {one["check"]: one for one in findings}, done.returncode

    return look


def verdicts(findings, *checks):
    return [findings[check]["verdict"] for check in checks]


def test_a_healthy_file_with_a_worker(doctor, tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    with dingo.App(url) as worker:
        worker.register("known", lambda: 1)
        worker.register("elsewhere", lambda: 1)
        worker.register("more", lambda: 1)
        worker.start_worker(("default", "far"), "w1")
        worker.await_shown(PATIENCE)
        findings, code = doctor(url)
    assert code == 0
    assert verdicts(findings, "app", "broker", "journal", "disk", "round trip", "workers") == ["ok"] * 6
    assert findings["workers"]["seen"] == "1 live: w1"
    assert "more" in findings["tasks"]["seen"]
    assert findings["queue default"]["seen"] == "0 wait, 0 are delayed, 0 run"
    assert findings["signing"]["verdict"] == "note"


def test_tasks_and_queues_that_nobody_serves(doctor, tmp_path):
    url = f"sqlite:///{tmp_path}/jobs.db"
    with dingo.App(url) as worker:
        worker.register("elsewhere", lambda: 1)
        worker.start_worker(name="w1")
        worker.await_shown(PATIENCE)
        findings, code = doctor(url)
    assert code == 1
    assert findings["task known"]["seen"] == "no worker has registered it"
    assert findings["task elsewhere"]["advice"] == "dingo worker ... -Q far"


def test_nobody_there(doctor, tmp_path):
    findings, code = doctor(f"sqlite:///{tmp_path}/jobs.db")
    assert (code, findings["workers"]["verdict"]) == (0, "warning")
    with dingo.App(f"sqlite:///{tmp_path}/jobs.db") as app:
        app.pause("far")
    assert doctor(f"sqlite:///{tmp_path}/jobs.db")[0]["queue far"]["advice"] == "dingo resume ... far"
    port = free_port()
    findings, code = doctor(f"redis://u:hunter2@127.0.0.1:{port}/0")
    assert (code, findings["broker"]["verdict"]) == (1, "wrong")
    assert "hunter2" not in json.dumps(findings)


def test_a_redis_that_throws_calls_out_and_forgets_them(doctor, own_redis):
    server = own_redis("--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    findings, code = doctor(server.url)
    assert code == 1
    assert verdicts(findings, "broker", "clock", "eviction", "persistence", "round trip") == [
        "ok", "ok", "wrong", "warning", "ok",
    ]  # fmt: skip
    assert "noeviction" in findings["eviction"]["advice"]
    import redis

    with redis.Redis.from_url(server.url) as client:
        assert list(client.keys("*doctor*")) == []
        assert client.smembers("dingo:queues") == set()


def test_a_healthy_rabbitmq(doctor, amqp_node):
    findings, code = doctor(amqp_node.url)
    assert code == 0, findings
    assert verdicts(findings, "broker", "alarms", "round trip") == ["ok"] * 3
    assert findings["queue far"]["seen"] == "nobody has used it yet"


def test_a_file_on_a_network(monkeypatch, tmp_path):
    monkeypatch.setattr(checkups, "_file_system", lambda path: "nfs4")
    (finding, *_) = checkups._sqlite_disk(tmp_path / "jobs.db")
    assert (finding.verdict, finding.check) == ("wrong", "disk")


def test_a_clock_that_is_off():
    import time

    assert checkups._clock(time.time(), time.time()).verdict == "ok"
    assert "60 s behind" in checkups._clock(time.time() + 60, time.time()).seen


def test_a_person_reads_lines_with_advice(tmp_path):
    (tmp_path / "shop.py").write_text(TASKS)
    done = subprocess.run(
        [sys.executable, "-m", "dingo", "doctor", "shop:app", "--broker", f"sqlite:///{tmp_path}/jobs.db"],
        cwd=tmp_path, text=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert "WARNING  workers: no worker lives: calls wait\n         -> dingo worker MODULE:APP\n" in done.stdout
