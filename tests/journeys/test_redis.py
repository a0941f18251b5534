"""Over a Redis of our own: killed workers, a killed server, lost answers, a full memory, TLS, and secrets kept."""

import contextlib
import subprocess
import sys
import threading
import time
import traceback

import pytest
import redis
from conftest import PATIENCE
from servers import free_port, need

import dingo
from dingo import kombu
from dingo.contracts import Settlement, Verdict
from dingo.errors import BadConfig, BrokerUnavailable
from dingo.kombu.redis import RedisProducer, RedisStore, RedisWorker
from dingo.kombu.redis.scripts import CLAIM
from dingo.message.frame import unpack
from dingo.testing.suites import envelope, report


@pytest.fixture
def url(redis_server):
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture
def opened():
    """Open components; all are closed with the test."""
    parts = []

    def opened(part, emit=lambda *_event: None):
        part.open(emit)
        parts.append(part)
        return part

    yield opened
    for part in parts:
        part.close()


def claim(worker, room=10):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if deliveries := worker.claim(("default",), room, 0.5):
            return deliveries
    raise AssertionError("nothing came to be claimed")


def collect(store, count):
    frames = []
    until = time.monotonic() + PATIENCE
    while len(frames) < count and time.monotonic() < until:
        for pack in store.collect("me", 0.5):
            frames += unpack(pack)
    return frames


def answer_lost(part, monkeypatch):
    """Let the next script be carried out, and its answer be lost."""
    run_all = part._server.run_all

    def once(*args):
        monkeypatch.setattr(part._server, "run_all", run_all)
        run_all(*args)
        raise BrokerUnavailable("the answer was lost")

    monkeypatch.setattr(part._server, "run_all", once)


# -- claims --------------------------------------------------------------------------------------------------------


def test_a_stale_workers_late_settlement_changes_nothing(url, opened):
    opened(RedisProducer(url)).send([envelope(reply="me")])
    old, new = opened(RedisWorker(url, 0.3)), opened(RedisWorker(url, 30.0))
    (stale,) = claim(old)
    new._reap_at = 0.0
    (fresh,) = claim(new)
    assert fresh.suspect
    late = [Settlement(stale, verdict, [report(frame=b"late")]) for verdict in Verdict]
    assert old.settle(late) == late
    assert new.settle([Settlement(fresh, Verdict.ACK, [report(frame=b"right")])]) == []
    store = opened(RedisStore(url))
    assert collect(store, 1) == [b"right"]
    assert store.fetch("1", "add").frame == b"right"
    assert claim_nothing(new)


def claim_nothing(worker):
    return worker.claim(("default",), 10, 0.0) == []


def test_the_starts_of_a_dead_workers_task_are_known_to_the_next(url, opened):
    opened(RedisProducer(url)).send([envelope()])
    starts = []
    for _ in range(3):
        worker = opened(RedisWorker(url, 0.3))
        worker._reap_at = 0.0
        (delivery,) = claim(worker)
        starts.append((delivery.suspect, delivery.starts))
        assert worker.starting(delivery) == delivery.starts + 1
    assert starts == [(False, 0), (True, 1), (True, 2)]


def test_a_cancelled_call_that_is_given_back_is_still_cancelled(url, opened):
    opened(RedisProducer(url)).send([envelope()])
    first, second, store = opened(RedisWorker(url, 30.0)), opened(RedisWorker(url, 30.0)), opened(RedisStore(url))
    (delivery,) = claim(first)
    assert store.cancel("1", "add", b"", 0.0) is None
    first.settle([Settlement(delivery, Verdict.RETURN)])
    assert first.tend() == []
    (delivery,) = claim(second)
    assert second.tend() == [("add", "1")]
    second.settle([Settlement(delivery)])
    assert second.tend() == []


def test_what_is_given_back_comes_before_what_waits(url, opened):
    opened(RedisProducer(url)).send([envelope(str(number)) for number in range(4)])
    worker = opened(RedisWorker(url, 30.0))
    first, _second = claim(worker, 2)
    worker.settle([Settlement(first, Verdict.RETURN)])
    assert [one.envelope.id for one in claim(worker)] == ["0", "2", "3"]


def test_a_token_heard_without_room_wakes_another_worker(url, opened):
    full, free = opened(RedisWorker(url, 30.0)), opened(RedisWorker(url, 30.0))
    full.claim(("default",), 1, 0.01)  # its BLPOP stays in the server, ahead of the other's
    claimed = []
    waiting = threading.Thread(target=lambda: claimed.extend(free.claim(("default",), 1, PATIENCE * 3)))
    waiting.start()
    wait_for_blocked(url, 2)
    opened(RedisProducer(url)).send([envelope()])
    until = time.monotonic() + PATIENCE
    while waiting.is_alive() and time.monotonic() < until:
        full.claim((), 0, 0.05)
    waiting.join(PATIENCE)
    assert [one.envelope.id for one in claimed] == ["1"]


def wait_for_blocked(url, count=1):
    with redis.Redis.from_url(url) as client:
        until = time.monotonic() + PATIENCE
        while client.info("clients")["blocked_clients"] < count:
            assert time.monotonic() < until, "nobody waits in the server"
            time.sleep(0.002)


def test_a_resting_worker_claims_in_the_step_in_which_the_bell_rings(url, opened):
    worker = opened(RedisWorker(url, 30.0))
    assert worker.claim(("default",), 5, 0.01) == []
    wait_for_blocked(url)
    opened(RedisProducer(url)).send([envelope("1"), envelope("2")])
    assert [one.id for one in opened(RedisStore(url)).calls("running", None)] == ["1"]
    assert [one.envelope.id for one in claim(worker, 5)] == ["1", "2"]


def test_what_a_bell_brought_is_not_lost_when_the_claim_of_the_rest_fails(url, opened, monkeypatch):
    worker = opened(RedisWorker(url, 30.0))
    worker.claim(("default",), 5, 0.01)
    wait_for_blocked(url)
    opened(RedisProducer(url)).send([envelope("1"), envelope("2")])
    answer_lost(worker, monkeypatch)
    with pytest.raises(BrokerUnavailable):
        worker.claim(("default",), 5, PATIENCE)
    assert sorted(one.envelope.id for one in claim(worker, 5)) == ["1", "2"]


def test_what_a_resting_worker_gets_without_room_goes_to_others_at_once(url, opened):
    full, free = opened(RedisWorker(url, 30.0)), opened(RedisWorker(url, 30.0))
    full.claim(("default",), 1, 0.01)
    wait_for_blocked(url)
    opened(RedisProducer(url)).send([envelope("1")])
    assert full.claim((), 0, 0.1) == []
    (given,) = claim(free, 1)
    assert (given.envelope.id, given.suspect, given.starts) == ("1", False, 0)
    assert free.settle([Settlement(given)]) == []


def test_a_claim_that_its_worker_gave_up_is_not_carried_out_any_more(url, opened):
    worker = opened(RedisWorker(url, 30.0))
    late = worker._claim(("default",), 10)
    worker._let_go_of_lost()
    opened(RedisProducer(url)).send([envelope("1")])
    assert worker._server.run(CLAIM, late) == [-1, []]
    assert [one.envelope.id for one in claim(worker)] == ["1"]


def test_a_resting_worker_goes_on_though_the_server_has_forgotten_the_script(url, opened):
    worker = opened(RedisWorker(url, 30.0))
    worker.claim(("default",), 1, 0.01)
    wait_for_blocked(url)
    with redis.Redis.from_url(url) as client:
        client.script_flush()
    opened(RedisProducer(url)).send([envelope("1")])
    assert [one.envelope.id for one in claim(worker)] == ["1"]


def test_a_worker_that_looks_into_other_queues_loses_nothing_of_the_old(url, opened):
    worker = opened(RedisWorker(url, 30.0))
    worker.claim(("default",), 1, 0.01)
    wait_for_blocked(url)
    opened(RedisProducer(url)).send([envelope("1")])
    worker._dry = frozenset(("other",))  # as it would be, had it just looked there
    worker._look_at = time.monotonic() + PATIENCE
    assert worker.claim(("other",), 1, 0.01) == []
    assert [one.envelope.id for one in claim(worker)] == ["1"]


def test_what_is_no_task_of_ours_is_deleted_with_an_event_and_harms_nobody(url, opened):
    producer = opened(RedisProducer(url))
    told = []
    worker = opened(RedisWorker(url, 30.0), lambda *event: told.append(event[:2]))
    producer.send([envelope("1")])
    with redis.Redis.from_url(url) as client:
        for fields in ({"d": b"no"}, {"d": b"\xff" * 12 + b"no"}, {"d": b"\0\0\0\1" * 3 + b"\xff\xff\xff"}):
            client.xadd("dingo:{default}:tasks:4", fields)
        producer.send([envelope("2")])
        assert [one.id for one in opened(RedisStore(url)).calls("waiting", None)] == ["1", "2"]
        assert [one.envelope.id for one in claim(worker)] == ["1", "2"]
        assert client.xlen("dingo:{default}:tasks:4") == 2
    assert told == [(40, "message.refused")] * 3


def test_calls_are_listed_in_the_order_they_would_run(url, opened):
    store, worker = opened(RedisStore(url)), opened(RedisWorker(url, 30.0))
    opened(RedisProducer(url)).send([envelope(str(number), priority=number % 3) for number in range(6)])
    first, _ = claim(worker, 2)
    worker.settle([Settlement(first, Verdict.RETURN)])
    assert [one.id for one in store.calls("waiting", None)] == ["2", "1", "4", "0", "3"]
    assert [one.id for one in store.calls("running", "default")] == ["5"]


def test_an_idle_worker_hardly_asks(url, opened):
    worker = opened(RedisWorker(url, 30.0))
    with redis.Redis.from_url(url) as client:
        client.config_resetstat()
        worker.claim(("default",), 10, 1.0)
        stats = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] <= 3  # at once, and every half second
    assert stats["cmdstat_blpop"]["calls"] == 1


# -- lost answers and lost servers ---------------------------------------------------------------------------------


def test_a_batch_sent_again_after_a_lost_answer_counts_once_even_if_it_has_ended(url, opened, monkeypatch):
    producer, worker = opened(RedisProducer(url)), opened(RedisWorker(url, 30.0))
    answer_lost(producer, monkeypatch)
    with pytest.raises(BrokerUnavailable):
        producer.send([envelope()])
    worker.settle([Settlement(claim(worker)[0])])
    producer.send([envelope()])
    assert claim_nothing(worker)
    producer.send([envelope()])  # another call that was given the same id
    assert len(claim(worker)) == 1


def test_what_ends_without_a_report_leaves_another_call_of_the_same_id_known(url, opened):
    producer, worker, store = opened(RedisProducer(url)), opened(RedisWorker(url, 30.0)), opened(RedisStore(url))
    producer.send([envelope(name=name) for name in ("one", "two")])
    one, two = claim(worker)
    assert worker.settle([Settlement(one, Verdict.ACK)]) == []
    assert store.fetch(one.envelope.id, "one") is None
    assert store.fetch(two.envelope.id, "two").state == "running"
    assert worker.settle([Settlement(two, Verdict.ACK)]) == []
    assert store.fetch(two.envelope.id, None) is None
    assert worker.settle([Settlement(two, Verdict.ACK)]) != []


def test_a_large_batch_that_broke_off_counts_once_when_it_is_sent_again(url, opened, monkeypatch):
    producer, worker = opened(RedisProducer(url)), opened(RedisWorker(url, 30.0))
    batch = [envelope(str(number)) for number in range(600)]
    run_all = producer._server.run_all

    def breaks_off(script, parts):
        """Have the first part carried out, and no more."""
        monkeypatch.setattr(producer._server, "run_all", run_all)
        assert len(parts) > 1
        run_all(script, parts[:1])
        raise BrokerUnavailable("gone")

    monkeypatch.setattr(producer._server, "run_all", breaks_off)
    with pytest.raises(BrokerUnavailable):
        producer.send(batch)
    claimed = claim(worker, 1000)
    worker.settle([Settlement(one) for one in claimed])
    producer.send(batch)
    claimed += claim(worker, 1000)
    assert [one.envelope.id for one in claimed] == [one.id for one in batch]
    producer.send(batch[:1])
    assert len(claim(worker)) == 1


def test_a_claim_whose_answer_was_lost_is_claimed_again(url, opened, monkeypatch):
    opened(RedisProducer(url)).send([envelope("1"), envelope("2"), envelope("3")])
    worker = opened(RedisWorker(url, 30.0))
    (kept,) = claim(worker, 1)
    answer_lost(worker, monkeypatch)
    with pytest.raises(BrokerUnavailable):
        worker.claim(("default",), 10, 0.0)
    assert [(one.envelope.id, one.suspect) for one in claim(worker)] == [("2", False), ("3", False)]
    assert worker.settle([Settlement(kept)]) == []


def test_a_settlement_carried_out_without_an_answer_is_not_called_stale(url, opened, monkeypatch):
    opened(RedisProducer(url)).send([envelope(reply="me")])
    worker, store = opened(RedisWorker(url, 30.0)), opened(RedisStore(url))
    settlement = Settlement(claim(worker)[0], Verdict.ACK, [report()])
    answer_lost(worker, monkeypatch)
    with pytest.raises(BrokerUnavailable):
        worker.settle([settlement])
    assert worker.settle([settlement]) == []
    assert collect(store, 1) == [b"report of 1"]
    assert store.collect("me", 0.0) == []


def test_reports_survive_a_connection_that_breaks_while_they_are_collected(url, opened):
    store, worker = opened(RedisStore(url)), opened(RedisWorker(url, 30.0))
    worker.report([report("1")])
    assert collect(store, 1) == [b"report of 1"]
    store.collect("me", 0.01)
    worker.report([report("2")])  # the server has written it to a connection that nobody reads any more
    store._line.drop()
    assert collect(store, 1) == [b"report of 2"]


def test_reports_survive_a_connection_that_breaks_while_the_old_ones_are_thrown_away(url, opened, monkeypatch):
    monkeypatch.setattr("dingo.kombu.redis.store._TRIM_AT", 2)
    store, worker = opened(RedisStore(url)), opened(RedisWorker(url, 30.0))

    def lost(*_command):
        monkeypatch.setattr(store._server, "do", do)
        raise BrokerUnavailable("the connection was lost")

    do = store._server.do
    monkeypatch.setattr(store._server, "do", lost)
    frames = []
    for number in range(4):
        worker.report([report(str(number))])
        with contextlib.suppress(BrokerUnavailable):
            frames += collect(store, 1)
    assert frames + collect(store, 4 - len(frames)) == [f"report of {number}".encode() for number in range(4)]


def test_after_a_restart_with_nothing_left_all_goes_on(own_redis, opened):
    server = own_redis("--appendonly", "no")
    producer, worker, store = (opened(one) for one in (
        RedisProducer(server.url), RedisWorker(server.url, 30.0), RedisStore(server.url)))  # fmt: skip
    producer.send([envelope("1")])
    (lost,) = claim(worker)
    server.kill()
    for asked in (lambda: producer.send([envelope("2")]), lambda: claim(worker), worker.tend,
                  lambda: worker.settle([Settlement(lost)]), lambda: store.collect("me", 5.0),
                  lambda: store.fetch("1", None)):  # fmt: skip
        with pytest.raises(BrokerUnavailable):
            asked()
    server.start()
    producer.send([envelope("2", reply="me")])
    (delivery,) = claim(worker)
    assert worker.settle([Settlement(delivery, Verdict.ACK, [report("2")])]) == []
    assert collect(store, 1) == [b"report of 2"]
    assert worker.tend() == []


def test_a_full_server_refuses_calls_but_lets_those_it_has_be_done(own_redis, opened):
    server = own_redis("--appendonly", "no")
    producer, store = opened(RedisProducer(server.url)), opened(RedisStore(server.url))
    producer.send([envelope("1", reply="me")])
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            producer.send([envelope("2")])
        worker = opened(RedisWorker(server.url, 30.0))
        assert worker.settle([Settlement(claim(worker)[0], Verdict.ACK, [report()])]) == []
        assert collect(store, 1) == [b"report of 1"]
        client.config_set("maxmemory", 0)
    producer.send([envelope("2")])
    assert claim(worker)[0].envelope.id == "2"


def test_what_follows_a_part_that_was_refused_waits_for_it(url, opened):
    """A batch goes out in parts of 250; when it is sent again, none of it is left out, and none is there twice."""
    producer, worker = opened(RedisProducer(url)), opened(RedisWorker(url, 30.0))
    batch = [envelope(str(number), queue="bad" if number == 400 else "default") for number in range(700)]
    with redis.Redis.from_url(url) as client:
        client.set("dingo:{bad}:tasks:4", "no stream")
        with pytest.raises(BrokerUnavailable, match="WRONGTYPE"):
            producer.send(batch)
        client.delete("dingo:{bad}:tasks:4")
    producer.send(batch)
    claimed, until = [], time.monotonic() + PATIENCE
    while len(claimed) < 700 and time.monotonic() < until:
        claimed += worker.claim(("default", "bad"), 700, 1.0)
    assert sorted(int(one.envelope.id) for one in claimed) == list(range(700))
    assert worker.claim(("default", "bad"), 10, 0.1) == []


# -- the door ------------------------------------------------------------------------------------------------------


SECRETS = ("s3cr3t%word", "s3cr3t%25word", "wr0ng")


def everything_said(error):
    return "".join(traceback.format_exception(error)) + repr(error)


def test_no_error_names_the_password(own_redis, opened):
    secret, quoted, other = SECRETS  # named elsewhere: a traceback shows the lines of this test
    server = own_redis("--appendonly", "no", "--requirepass", secret)
    right, wrong, malformed = (
        f"redis://:{quoted}@127.0.0.1:{server.port}/0", f"redis://:{other}@127.0.0.1:{server.port}/0",
        f"redis://:{other}/word@127.0.0.1:port/0",
    )  # fmt: skip
    producer = opened(RedisProducer(right))
    producer.send([envelope()])
    errors = []
    with pytest.raises(BrokerUnavailable) as caught:
        RedisProducer(wrong).open(print)
    errors.append(caught.value)
    with pytest.raises(BadConfig) as caught:
        kombu.producer(malformed)
    errors.append(caught.value)
    server.kill()
    with pytest.raises(BrokerUnavailable) as caught:
        producer.send([envelope("2")])
    errors.append(caught.value)
    for error in errors:
        said = everything_said(error)
        assert [one for one in SECRETS if one in said] == []
        assert "***" in said


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    for module in [name for name in sys.modules if name.startswith("dingo.kombu.redis")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(BadConfig, match=r"dingo-tasks\[redis\]"):
        kombu.producer("redis://127.0.0.1/0")


def test_data_of_a_newer_version_is_refused(url, opened):
    with redis.Redis.from_url(url) as client:
        client.hset("dingo:meta", "version", 2)
    with pytest.raises(BadConfig, match="newer"):
        RedisProducer(url).open(print)


def test_a_server_that_may_throw_out_calls_is_told_of(own_redis, opened):
    server = own_redis("--appendonly", "no", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    told = []
    opened(RedisProducer(server.url), lambda *event: told.append(event))
    assert [(level, code, payload) for level, code, _, payload in told] == [
        (30, "broker.evicts", {"policy": "allkeys-lru"})
    ]


def test_a_cluster_is_refused(own_redis):
    server = own_redis("--appendonly", "no", "--cluster-enabled", "yes")
    with pytest.raises(BadConfig, match="cluster"):
        RedisProducer(server.url).open(print)


def test_tls_verifies_the_server(own_redis, opened, tmp_path):
    need("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    own_redis("--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key,
              "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")  # fmt: skip
    with pytest.raises(BrokerUnavailable, match="(?i)certificate"):
        RedisProducer(f"rediss://localhost:{port}/0").open(print)
    trusted = f"rediss://localhost:{port}/0?ssl_ca_certs={certificate}"
    opened(RedisProducer(trusted)).send([envelope(reply="me")])
    worker, store = opened(RedisWorker(trusted, 30.0)), opened(RedisStore(trusted))
    assert worker.settle([Settlement(claim(worker)[0], Verdict.ACK, [report()])]) == []
    assert collect(store, 1) == [b"report of 1"]


# -- a lone task ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settled_by(monkeypatch):
    """Note by which threads tasks are settled; the first settlement fails where that is asked for."""
    threads, faults = [], []
    settle = RedisWorker.settle

    def noting(self, settlements):
        threads.append(threading.current_thread().name)
        if faults:
            raise faults.pop()
        return settle(self, settlements)

    monkeypatch.setattr(RedisWorker, "settle", noting)
    return threads, faults


@pytest.fixture
def serving(url):
    """An app that calls and serves; it rests in the server when this has given it."""
    app = dingo.App(url, config=dingo.Config(workers=2))
    app.register("add", lambda a, b: a + b)
    app.start_worker()
    wait_for_blocked(url, 2)
    yield app
    app.close(5)


def test_a_lone_task_is_settled_by_the_thread_that_ran_it(serving, settled_by):
    threads, _ = settled_by
    assert serving.call("add", 1, 2).result(PATIENCE) == 3
    assert [name.rpartition("-")[0] for name in threads] == ["dingo-default"]


def test_a_lone_task_that_cannot_be_settled_there_is_settled_later(serving, settled_by):
    threads, faults = settled_by
    faults.append(BrokerUnavailable("gone for a moment"))
    assert serving.call("add", 1, 2).result(PATIENCE) == 3
    assert threads[0].startswith("dingo-default")
    assert threads[-1] == "dingo-consumer"


def test_an_error_that_nobody_foresaw_is_told_and_loses_no_report(serving, settled_by):
    _, faults = settled_by
    told = serving.listen(level=dingo.Level.ERROR)
    faults += [RuntimeError("of dingo's own"), RuntimeError("again")]
    assert serving.call("add", 1, 2).result(PATIENCE) == 3
    assert [told.get(PATIENCE).code for _ in range(2)] == ["consumer.failed"] * 2
    results = serving.call_many("add", [(number, number) for number in range(100)])
    assert [one.result(PATIENCE) for one in results] == list(range(0, 200, 2))
