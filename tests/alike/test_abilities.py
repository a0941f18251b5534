"""The table of what each broker can do, held against the brokers and against the documentation."""

import time
from pathlib import Path

import pytest
from conftest import PATIENCE

import dingo
from dingo import kombu
from dingo.contracts import Envelope
from dingo.kombu.abilities import Ability, abilities

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "brokers.md"
SCHEMES = ("memory", "sqlite", "redis", "amqp", "filesystem")


@pytest.fixture(scope="module", params=SCHEMES)
def url(request, tmp_path_factory):
    if request.param == "redis":
        return request.getfixturevalue("redis_server").url
    if request.param == "amqp":
        return request.getfixturevalue("amqp_node").url
    place = tmp_path_factory.mktemp("abilities")
    return {"memory": "memory://abilities", "sqlite": f"sqlite:///{place}/jobs.db", "filesystem": f"filesystem://{place}"}[
        request.param
    ]  # fmt: skip


@pytest.fixture
def app(url, request):
    app = dingo.App(url, config=dingo.Config(queue=f"q{abs(hash(request.node.name)) % 10**8}"))
    app.register("task", lambda: 1)
    yield app
    app.close(5)


def refused_unless(able, ask):
    """Ask; it is refused, saying what to do, exactly where the table says no."""
    if able:
        return ask()
    with pytest.raises(dingo.NotAttached):
        ask()
    return None


def test_find(app, url):
    result = app.call("task")
    assert app.flush(PATIENCE)
    app.start_worker()
    assert result.result(PATIENCE) == 1
    able = Ability.FIND in abilities(url)
    found = refused_unless(able, lambda: app.result(result.id))
    assert found is None or found.result(PATIENCE) == 1
    refused_unless(able, lambda: app.forget(result.id))


def test_cancel(app, url):
    result = app.options(delay=600).call("task")
    assert app.flush(PATIENCE)
    if refused_unless(Ability.CANCEL in abilities(url), result.cancel):
        with pytest.raises(dingo.Cancelled):
            result.result(PATIENCE)


def test_list(app, url):
    result = app.call("task")
    assert app.flush(PATIENCE)
    listed = refused_unless(Ability.LIST in abilities(url), app.pending)
    assert listed is None or [one.id for one in listed if one.queue == app.config.queue] == [result.id]


@pytest.mark.parametrize("options", [{"unique": True}, {"rate_limit": "100/s"}, {"max_concurrency": 1}])
def test_limits(app, url, options):
    app.register("limited", lambda: 2, **options)
    app.register("free", lambda: 3)

    def ask():
        app.start_worker()
        return app.call("limited").result(PATIENCE)

    assert refused_unless(Ability.LIMITS in abilities(url), ask) in (None, 2)


def test_events(url):
    assert (kombu.herald(url) is not None) is (Ability.EVENTS in abilities(url))


def test_priorities(app, url):
    order = []
    app.register("note", order.append, workers=1)
    results = [app.options(priority=rank).call("note", rank) for rank in (0, 9, 4)]
    assert app.flush(PATIENCE)
    app.start_worker()
    assert dingo.wait(results, timeout=PATIENCE).not_done == set()
    assert Ability.PRIORITIES not in abilities(url) or order == [9, 4, 0]


def test_once(url):
    if Ability.ONCE not in abilities(url):
        pytest.skip("it may run twice")
    queue = f"once{time.time_ns()}"
    producer, workers = kombu.producer(url), [kombu.worker(url) for _ in range(2)]
    for part in (producer, *workers):
        part.open(lambda *_: None)
    try:
        for _ in range(2):
            producer.send([Envelope(queue, "twice", "task", b'{"v":1,"id":"twice","n":"task"}\n[[]]')])
        claimed = [one for worker in workers for one in worker.claim((queue,), 10, 0.2)]
        assert len(claimed) == 1
    finally:
        for part in (producer, *workers):
            part.close()


def test_the_page_says_what_the_table_says():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line[:1] == "|"
    ]
    heads, rows = rows[0], rows[2:]
    assert [row[0].split(":")[0] for row in rows] == list(Ability)
    for column, head in enumerate(heads[3:-1], start=3):
        for scheme in head.replace("`", "").split(", "):
            able = {row[0].split(":")[0] for row in rows if row[column] == "yes"}
            assert able == abilities(f"{scheme}host"), scheme
    assert {row[-1] for row in rows} == {"no"}
    assert abilities("sqs://") == frozenset()
    assert abilities("rediss://host") == abilities("redis://host")
    assert abilities("dingo+redis://host") == abilities("redis://host")
    assert {row[1] for row in rows} == {"yes"}
