"""The components from URLs, attached role by role."""

import pytest

import dingo
from dingo import kombu


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/jobs.db"


def registered(*components):
    app = dingo.App("local")
    app.register("add", lambda a, b: a + b)
    app.use(*components)
    return app


def test_a_caller_with_producer_and_store_and_a_worker_with_consumer_and_reporter(url):
    with (
        registered(kombu.Producer(url), kombu.Store(url)) as caller,
        registered(kombu.Consumer(url), kombu.Reporter(url)) as worker,
    ):
        worker.allocate("add", 1)
        assert [caller.call("add", n, n).result(10) for n in range(5)] == [0, 2, 4, 6, 8]


def test_a_broker_and_a_backend_make_an_app_both(url):
    with registered(kombu.Broker(url), kombu.Backend(url)) as app:
        assert not app.call("add", 1, 1).wait(0.2)  # it calls, and works only when told to
        app.allocate("add", 1)
        assert app.call("add", 20, 22).result(10) == 42


def test_a_backend_that_is_no_broker(url, postgresql):
    with registered(kombu.Broker(url), kombu.Backend(postgresql.url)) as app:
        app.allocate("add", 1)
        result = app.call("add", 20, 22)
        assert result.result(10) == 42
        assert app.result(result.id).result(0) == 42
        with pytest.raises(dingo.NotAttached):
            app.pending()


@pytest.mark.parametrize("named", [True, False])
def test_a_named_consumer_serves_callers_that_know_of_its_queues_and_others(url, named):
    with (
        registered(kombu.Producer(url, named=named), kombu.Store(url)) as caller,
        registered(kombu.NamedConsumer(url), kombu.Reporter(url)) as worker,
    ):
        worker.allocate("add", 1)
        assert caller.call("add", 20, 22).result(10) == 42
