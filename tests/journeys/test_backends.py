"""Tasks by one way, results by another: every backend beside every broker."""

import itertools
import time

import pytest

import dingo
from dingo import Status

_numbers = itertools.count()

PAIRS = [
    ("amqp", "redis"), ("amqp", "sqlite"), ("amqp", "postgresql"), ("redis", "postgresql"), ("sqlite", "mysql"),
    ("memory", "memcache"), ("redis", "mongodb"),
]  # fmt: skip


@pytest.fixture
def url_of(request, tmp_path):
    def url(kind):
        if kind == "amqp":
            return request.getfixturevalue("amqp_node").url
        if kind == "redis":
            return request.getfixturevalue("redis_server").url
        if kind in ("postgresql", "mysql", "mongodb"):
            return request.getfixturevalue(kind).url
        if kind == "memcache":
            return request.getfixturevalue("memcached").url
        return f"sqlite:///{tmp_path}/{kind}.db" if kind == "sqlite" else f"memory://backends-{next(_numbers)}"

    return url


@pytest.fixture(params=PAIRS, ids="-".join)
def make(request, url_of):
    """Make an App with the same tasks as all others: another process, as far as the servers can tell."""
    broker, backend = map(url_of, request.param)
    queue = f"backends-{next(_numbers)}"
    apps = []

    def make(**config):
        app = dingo.App(broker, backend=backend, config=dingo.Config(workers=2, queue=queue, **config))
        apps.append(app)

        @app.task
        def add(a: int, b: int) -> int:
            return a + b

        @app.task
        def boom(text: str) -> None:
            raise ValueError(text)

        @app.task(name="zählen")
        def count(context: dingo.Context, steps: int) -> str:
            for step in range(steps):
                context.progress(step + 1, steps)
            return "数" * steps

        return app

    make.backend = request.param[1]
    yield make
    for app in apps:
        app.close(10)


def test_results_are_found_listed_and_forgotten_from_anywhere(make):
    caller, elsewhere = make(), make()
    make().start_worker()
    good, bad = caller.call("add", 20, 22), caller.call("boom", "нет")
    assert good.result(20) == 42
    assert bad.exception(20).failure.message == "нет"
    assert elsewhere.result(good.id).result(0) == 42
    assert elsewhere.result(bad.id, "boom").exception(0).failure.type == "ValueError"
    if make.backend == "memcache":
        with pytest.raises(dingo.NotAttached, match="cannot list"):
            elsewhere.failed()
    else:
        assert good.id in [one.id for one in elsewhere.succeeded()]
        assert bad.id in [one.id for one in elsewhere.failed()]
    elsewhere.forget(good.id)
    with pytest.raises(dingo.ResultNotFound, match="it has not ended"):
        caller.result(good.id, "add")
    with pytest.raises(dingo.ResultNotFound):
        elsewhere.forget(good.id)


def test_all_reports_come_in_order_and_large_values_whole(make):
    caller = make()
    make().start_worker()
    told = caller.options(monitor_progress=True).call("zählen", 3)
    assert [report.status for report in told.reports()] == [
        Status.SENT, Status.RECEIVED, Status.STARTED, *[Status.PROGRESS] * 3, Status.SUCCESS,
    ]  # fmt: skip
    assert told.result(0) == "数数数"
    assert caller.call("zählen", 60_000).result(20) == "数" * 60_000
    results = [caller.call("add", number, number) for number in range(300)]
    assert [one.result(20) for one in results] == [2 * number for number in range(300)]


@pytest.mark.parametrize("make", [("memory", "postgresql"), ("memory", "memcache")], indirect=True, ids="-".join)
def test_a_result_is_not_kept_longer_than_asked(make):
    caller = make()
    make().start_worker()
    short, none = caller.options(keep_result=1.0).call("add", 1, 2), caller.options(keep_result=0).call("add", 3, 4)
    assert (short.result(20), none.result(20)) == (3, 7)
    elsewhere = make()
    with pytest.raises(dingo.ResultNotFound):
        elsewhere.result(none.id)
    until = time.monotonic() + 20
    with pytest.raises(dingo.ResultNotFound):
        while time.monotonic() < until:
            elsewhere.result(short.id)
            time.sleep(0.05)


@pytest.mark.parametrize("make", [("memory", "sqlite"), ("memory", "postgresql")], indirect=True, ids="-".join)
def test_what_has_not_ended_is_not_the_backends_business(make):
    caller = make()
    caller.options(delay=3600).call("add", 1, 2)
    assert caller.flush(20)
    for ask in (caller.pending, caller.delayed, lambda: caller.purge("default")):
        with pytest.raises(dingo.NotAttached, match="its own backend"):
            ask()


@pytest.mark.parametrize("make", [("memory", "sqlite"), ("sqlite", "memory")], indirect=True, ids="-".join)
def test_what_was_cancelled_is_not_begun_by_workers_that_come_later(make):
    caller, worker = make(), make()
    ran = []
    worker.register("add", lambda a, b: ran.append((a, b)), replace=True)
    results = [caller.call("add", 1, number) for number in range(3)]
    assert caller.flush(20)
    assert results[1].cancel()
    with pytest.raises(dingo.Cancelled):
        results[1].result(20)
    worker.start_worker()
    assert [results[number].wait(20) for number in (0, 2)] == [True, True]
    assert sorted(ran) == [(1, 0), (1, 2)]


def test_reports_come_by_a_reply_queue_where_nothing_is_kept(url_of):
    apps = [dingo.App(url_of("sqlite"), backend=url_of("amqp")) for _ in range(2)]
    for app in apps:
        app.register("add", lambda a, b: a + b)
    caller, worker = apps
    with caller, worker:
        worker.start_worker()
        result = caller.call("add", 20, 22)
        assert result.result(20) == 42
        with pytest.raises(dingo.NotAttached, match="RabbitMQ"):
            caller.result(result.id, "add")
