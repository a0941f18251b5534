"""Callers and workers over kombu's own transports: real processes, and what dies in between."""

import os
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter

import kombu as plain
import pytest

import dingo
from dingo import kombu
from dingo.contracts import Settlement, Verdict
from dingo.kombu.stock import queues
from dingo.kombu.stock.place import Place
from dingo.testing.suites import envelope, report

PATIENCE = 60.0

TASKS = """
import os, time
import dingo

app = dingo.App(config=dingo.Config(lease_seconds=3.0, reconnect="fixed,base=0.2"))
_runs = os.open("runs.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task
def double(number: int) -> int:
    os.write(_runs, f"{number}\\n".encode())
    return number * 2


@app.task
def gate(name: str) -> str:
    os.write(_runs, f"{name} {os.getpid()}\\n".encode())
    while not os.path.exists(name):
        time.sleep(0.01)
    return name


@app.task(redeliver=False)
def once(name: str) -> str:
    os.write(_runs, f"{name} {os.getpid()}\\n".encode())
    os.kill(os.getpid(), 9)
"""


class Fleet:
    """Worker processes."""

    def __init__(self, place, url):
        self.place, self.url, self.processes = place, url, []
        (place / "shop.py").write_text(TASKS)
        (place / "runs.txt").write_text("")

    def start(self, *options):
        environment = {**os.environ, "DINGO_BROKER": self.url, "PYTHONPATH": os.pathsep.join(sys.path)}
        worker = subprocess.Popen(
            [sys.executable, "-m", "dingo", "worker", "shop:app", "-c", "4", "--prefetch", "4", *options],
            cwd=self.place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.processes.append(worker)
        assert worker.stdout.readline().startswith("ready "), worker.stderr.read()
        return worker

    def runs(self):
        return (self.place / "runs.txt").read_text().split("\n")[:-1]

    def await_runs(self, count):
        until = time.monotonic() + PATIENCE
        while len(self.runs()) < count:
            assert time.monotonic() < until, self.runs()
            time.sleep(0.01)  # a file tells nobody
        return self.runs()


@pytest.fixture(params=["filesystem", "sqs"])
def url(request, tmp_path):
    return request.getfixturevalue("sqs_url") if request.param == "sqs" else f"filesystem://{tmp_path}/jobs"


@pytest.fixture
def fleet(url, tmp_path):
    fleet = Fleet(tmp_path, url)
    yield fleet
    for worker in fleet.processes:
        worker.kill()
        worker.communicate()


@pytest.fixture
def caller(url):
    with dingo.App(url, config=dingo.Config(lease_seconds=3.0)) as app:
        app.register("double", lambda number: None)
        app.register("gate", lambda name: None)
        app.register("once", lambda name: None, redeliver=False)
        yield app


def test_two_workers_share_the_calls_and_one_that_is_killed_loses_none(fleet, caller):
    first, _ = fleet.start(), fleet.start()
    results = [caller.call("double", number) for number in range(40)]
    held = [caller.call("gate", f"gate{number}") for number in range(8)]
    started = [line.split() for line in fleet.await_runs(48) if "gate" in line]
    theirs = {name for name, pid in started if int(pid) == first.pid}
    first.kill()
    for number in range(8):
        (fleet.place / f"gate{number}").touch()
    assert [one.result(PATIENCE) for one in results] == [2 * number for number in range(40)]
    assert [one.result(PATIENCE) for one in held] == [f"gate{number}" for number in range(8)]
    ran = Counter(line.split()[0] for line in fleet.runs() if "gate" in line)
    assert ran == {f"gate{number}": 1 + (f"gate{number}" in theirs) for number in range(8)}


filesystem = pytest.mark.parametrize("url", ["filesystem"], indirect=True)  # the others differ in nothing here


@filesystem
def test_what_must_not_run_twice_does_not_when_its_worker_dies(fleet, caller):
    first = fleet.start()
    caller.call("once", "x")
    first.wait(PATIENCE)
    fleet.start()
    assert caller.call("double", 1).result(PATIENCE) == 2
    assert len([line for line in fleet.runs() if line.startswith("x ")]) == 1


@filesystem
def test_a_delayed_call_is_not_early_and_results_may_go_elsewhere(url, tmp_path):
    backend = f"sqlite:///{tmp_path}/results.db"
    with dingo.App(url, backend=backend, config=dingo.Config(workers=1)) as app:
        app.register("now", time.time)
        app.start_worker()
        due = time.time() + 0.5
        result = app.options(delay=0.5).call("now")
        assert result.result(PATIENCE) >= due
        assert app.result(result.id).result() == result.result()


def test_the_reply_queue_goes_with_its_caller(sqs_url):
    connection, channel = Place.of(sqs_url, dingo.Config()).connect()

    def replies():
        queues = channel.sqs().list_queues(QueueNamePrefix=channel.queue_name_prefix).get("QueueUrls", ())
        return [one for one in queues if "dingo-reply" in one]

    with connection, dingo.App(sqs_url) as app:
        app.register("now", time.time)
        app.start_worker()
        app.call("now").result(PATIENCE)
        assert len(replies()) == 1
        app.close()
        assert replies() == []


# -- one worker, seen closely ------------------------------------------------------------------------


@pytest.fixture
def parts(request):
    """Open components, and close them after the test."""
    opened = []

    def make(part, emit=lambda *_args: None):
        part.open(emit)
        opened.append(part)
        return part

    yield make
    for part in opened:
        part.close()


def claim(worker, queues=("default",), room=10):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if claimed := worker.claim(queues, room, 1.0):
            return claimed
    raise AssertionError("nothing came to be claimed")


def test_sqs_gives_what_a_live_worker_holds_to_nobody(sqs_url, parts):
    """Whatever time the queue itself allows: here, a second."""
    url = f"{sqs_url}&visibility_timeout=1"
    parts(kombu.producer(url)).send([envelope("kept"), envelope("left")])
    worker, other = parts(kombu.worker(url)), parts(kombu.worker(url))
    held = []
    while len(held) < 2:
        held += claim(worker)
    kept = next(one for one in held if one.envelope.id == "kept")
    kept.token.since -= 3600.0  # as if it had been held so long
    worker.tend()
    assert [one.envelope.id for one in claim(other)] == ["left"]
    assert worker.settle([Settlement(kept)]) == []


def test_reports_for_a_caller_that_is_gone_keep_nobody(sqs_url, parts):
    codes = []
    worker = parts(kombu.worker(sqs_url), lambda _level, code, *_: codes.append(code))
    store = parts(kombu.store(sqs_url))
    assert store.collect("me", 0.0) == []
    worker.report([report()])
    while not store.collect("me", 1.0):
        pass
    store.close()
    worker.report([report()])
    assert codes == ["report.unclaimed"]


def test_what_comes_again_to_the_worker_that_runs_it_does_not_run_twice(sqs_url, parts):
    url = f"{sqs_url}&visibility_timeout=1"
    producer, worker = parts(kombu.producer(url)), parts(kombu.worker(url))
    producer.send([envelope("1")])
    (delivery,) = claim(worker)
    until = time.monotonic() + PATIENCE
    while len(delivery.token.messages) < 2 and time.monotonic() < until:
        assert worker.claim(("default",), 10, 0.2) == []
    assert len(delivery.token.messages) == 2
    assert worker.settle([Settlement(delivery)]) == []
    producer.send([envelope("2")])
    assert [one.envelope.id for one in claim(parts(kombu.worker(url)))] == ["2"]


def test_what_a_lost_connection_held_is_stale_unless_it_comes_back(tmp_path, parts):
    url = f"filesystem://{tmp_path}"
    parts(kombu.producer(url)).send([envelope("1"), envelope("2")])
    worker = parts(kombu.worker(url))
    first, second = claim(worker)
    worker._drop()
    assert worker.settle([Settlement(first)]) == [Settlement(first)]
    assert [one.envelope.id for one in claim(worker)] == ["1"]  # and 2 goes on where it runs
    assert worker.settle([Settlement(second)]) == []
    worker._drop()
    assert [one.envelope.id for one in claim(parts(kombu.worker(url)))] == ["1"]


def test_a_returned_start_comes_again_as_a_copy(tmp_path, parts):
    url = f"filesystem://{tmp_path}"
    parts(kombu.producer(url)).send([envelope("1", reply="me")])
    worker = parts(kombu.worker(url))
    (delivery,) = claim(worker)
    assert worker.starting(delivery) == 1
    assert parts(kombu.worker(url)).claim(("default",), 1, 0.0) == []
    worker.settle([Settlement(delivery, Verdict.RETURN)])
    (again,) = claim(parts(kombu.worker(url)))
    assert (again.envelope.id, again.envelope.reply) == ("1", "me")


def test_a_delayed_task_comes_nearer_queue_by_queue(tmp_path, parts, monkeypatch):
    url = f"filesystem://{tmp_path}"
    monkeypatch.setattr(queues, "HORIZONS", (0.2, 0.4, 0.6, 0.8, float("inf")))
    monkeypatch.setattr("dingo.kombu.stock.worker.LOOK_EVERY", (0.02, 0.02, 0.04, 0.06, 0.08))
    due = time.time() + 1.0
    parts(kombu.producer(url)).send([envelope(str(number), due=due, priority=9) for number in range(150)])
    worker, seen = parts(kombu.worker(url)), []
    while len(seen) < 150:
        seen += claim(worker, room=200)
        assert time.time() >= due
    assert sorted(int(one.envelope.id) for one in seen) == list(range(150))
    assert {one.envelope.priority for one in seen} == {9}


def publish(connection, body, headers):
    connection.Producer().publish(
        body, routing_key="dingo-default", headers=headers, content_type="application/data", content_encoding="binary"
    )


def test_a_compressed_body_is_not_inflated(tmp_path, parts):
    """It would be before anybody could look at its size."""
    bomb = zlib.compress(bytes(1 << 20))
    worker = parts(kombu.worker(f"filesystem://{tmp_path}"))
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    with plain.Connection("filesystem://", transport_options=options) as connection:
        publish(connection, bomb, {"compression": "application/x-gzip"})
    assert claim(worker)[0].envelope.frame == bomb


def test_hostile_messages_are_refused_and_the_worker_goes_on(tmp_path):
    """Files that are no messages are put aside."""
    url = f"filesystem://{tmp_path}/jobs"
    with dingo.App(url, config=dingo.Config(workers=1)) as app:
        app.register("double", lambda number: number * 2)
        events = app.listen(level=dingo.Level.WARNING)
        app.start_worker()
        assert app.call("double", 1).result(PATIENCE) == 2
        options = {"data_folder_in": f"{tmp_path}/jobs", "data_folder_out": f"{tmp_path}/jobs"}
        with plain.Connection("filesystem://", transport_options=options) as connection:
            for body, headers in ((b"?", {"dingo-due": "soon"}), (b"", {}), (b"\x80\x05.", {"dingo-id": 7})):
                publish(connection, body, headers)
        for name, data in (("0_no", b"no json"), ("0_list", b"[1]"), ("0_none", b"{}")):
            (tmp_path / "jobs" / f"{name}.dingo-default.msg").write_bytes(data)
        assert app.call("double", 2).result(PATIENCE) == 4
        codes = Counter(events.get(PATIENCE).code for _ in range(6))
    assert codes == {"message.refused": 6}
    assert sorted(path.name for path in (tmp_path / "jobs" / ".refused").iterdir()) == [
        f"0_{name}.dingo-default.msg" for name in ("list", "no", "none")
    ]


def test_what_sqs_cannot_carry_is_refused_at_both_ends(sqs_url):
    with dingo.App(sqs_url, config=dingo.Config(workers=1)) as app:
        app.register("size", len)
        app.register("grow", lambda size: "x" * size)
        app.start_worker()
        with pytest.raises(dingo.BadArguments, match="what the broker takes"):
            app.call("size", "x" * 150_000)
        assert app.call("size", "x" * 130_000).result(PATIENCE) == 130_000
        with pytest.raises(dingo.TaskFailed, match="reference to large data"):
            app.call("grow", 150_000).result(PATIENCE)


def test_a_worker_says_where_the_death_of_another_loses_tasks(tmp_path, parts):
    for url, codes in ((f"sqla+sqlite:///{tmp_path}/x.db", ["broker.forgets"]), (f"filesystem://{tmp_path}", [])):
        told = []
        parts(kombu.worker(url), lambda _level, code, *_, told=told: told.append(code))
        assert told == codes


# -- URLs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nosuch://me:secret@host", "kombu has transports for"),
        ("", "no URL of a broker"),
        ("localhost", "no URL of a broker"),
        ("zookeeper://host", r"pip install 'kombu\[zookeeper\]'"),
        ("mongodb://host", r"pip install '(kombu|dingo-tasks)\[mongodb\]'"),
        ("confluentkafka://host", r"pip install 'kombu\[confluentkafka\]'"),
        ("sqla+postgresql://me:secret@host/db", r"pip install 'kombu\[sqlalchemy\]'"),
        ("filesystem://", "folder that callers and workers share"),
        ("filesystem:///tmp/x?control_folder=7", "path of a folder"),
        ("filesystem:///tmp/x?polling_interval=often", "polling_interval"),
    ],
)
def test_a_url_that_makes_no_sense_is_told_at_once(url, text, monkeypatch):
    for module in ("kazoo", "pymongo", "confluent_kafka", "sqlalchemy"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "dingo.store.mongodb", raising=False)  # another test may have imported it
    for make in (kombu.producer, kombu.worker, kombu.store):
        with pytest.raises(dingo.BadConfig, match=text) as caught:
            make(url)
        assert "secret" not in str(caught.value)


def test_options_come_from_the_url_and_the_configuration(tmp_path):
    config = dingo.Config(transport_options={"region": "eu-west-1", "visibility_timeout": 60})
    options = Place.of("sqs://?region=eu-north-1&is_secure=true", config).arguments["transport_options"]
    assert options.pop("client-config")["connect_timeout"] == 5
    assert options.pop("sqs-creation-attributes") == {"MessageRetentionPeriod": "1209600"}
    assert options == {"wait_time_seconds": 0, "region": "eu-north-1", "visibility_timeout": 60, "is_secure": True}
    folders = {"data_folder_in": str(tmp_path / "in"), "data_folder_out": str(tmp_path / "out")}
    place = Place.of("filesystem://", dingo.Config(transport_options=folders))
    assert place.arguments["transport_options"]["control_folder"] == str(tmp_path / "in" / "control")


def test_names_of_queues_are_what_every_broker_takes_and_never_the_same():
    names = ["a.b", "a-b", "a/b", "ü", "x" * 200, "x" * 199, "a_b", "default"]
    called = [queues.task_queue(name) for name in names] + [queues.reply_queue("reply.0123abc")]
    assert len({*called}) == len(called)
    assert all(len(one) <= 70 and one.isascii() and one.replace("-", "").replace("_", "").isalnum() for one in called)


def test_a_broker_that_does_not_answer_is_told():
    events = []
    worker = kombu.worker("sqs://test:secret@127.0.0.1:9?region=us-east-1", dingo.Config(connect_timeout_seconds=1.0))
    waiting = threading.Thread(target=lambda: events.append(pytest.raises(dingo.BrokerUnavailable, worker.open, print)))
    waiting.start()
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert "secret" not in str(events[0].value)
