"""Config: that each knob of local mode turns something."""

import gc
import os
import threading

import pytest

import dingo
from dingo import Config


def opened(**config):
    return dingo.App("local", config=Config(**config))


def test_workers_is_how_many_threads_the_default_pool_has():
    with opened(workers=3) as app:
        barrier = threading.Barrier(3)
        app.register("meet", lambda: barrier.wait(10))
        assert sorted(result.result(10) for result in app.call_many("meet", [()] * 3)) == [0, 1, 2]
        assert app._session.caller._default.threads == 3


def _process() -> int:
    return os.getpid()


def test_pool_is_what_the_default_pool_of_plain_functions_is_made_of():
    with opened(workers=1, pool="process") as app:
        app.register("where", _process)
        app.register("here", _process, pool="thread")
        assert app.call("where").result(30) != os.getpid()
        assert app.call("here").result(10) == os.getpid()
        assert app.as_executor().submit(os.getpid).result(10) == os.getpid()
        assert app._session.caller._processes.count == 1


def test_queue_is_where_calls_without_one_wait(gate):
    with opened(workers=1, queue="mine") as app:
        app.register("hold", lambda: gate.wait(10))
        app.register("where", lambda: dingo.current().queue)
        app.call("hold")
        waiting = app.call("where")
        assert {info.queue for info in app.pending("mine")} == {"mine"}
        gate.set()
        assert waiting.result(10) == "mine"


def test_max_pending_none_is_no_limit(gate):
    with opened(workers=1) as app:
        app.register("hold", lambda: gate.wait(10) and None)
        results = app.call_many("hold", [()] * 5000)
        gate.set()
        assert results[-1].result(10) is None


def test_local_results_is_how_many_finished_calls_are_known_by_id():
    with opened(workers=1, local_results=3) as app:
        app.register("job", lambda a: a)
        ids = []
        for number in range(6):
            result = app.call("job", number)
            ids.append(result.id)
            result.result(10)
        del result
        app.call("job", 9).result(10)
        gc.collect()
        known = []
        for one in ids:
            try:
                known.append(app.result(one).result(0))
            except dingo.ResultNotFound:
                continue
        assert known == [3, 4, 5]


def test_local_results_bytes_bounds_what_they_hold():
    with opened(workers=1, local_results_bytes=3000) as app:
        app.register("job", lambda: b"x" * 1000)
        ids = []
        for _ in range(6):
            result = app.call("job")
            ids.append(result.id)
            result.result(10)
        del result
        app.register("other", lambda: None)
        app.call("other").result(10)
        gc.collect()
        assert len(app.succeeded()) <= 2


def test_a_broker_in_the_environment_is_not_looked_at_by_an_app_that_says_local(monkeypatch):
    monkeypatch.setenv("DINGO_BROKER", "redis://nowhere")
    with dingo.App("local") as app:
        app.register("job", lambda: 1)
        assert app.call("job").result(10) == 1


def test_a_backend_in_the_environment_is_not_looked_at_by_an_app_that_names_its_broker(monkeypatch):
    monkeypatch.setenv("DINGO_BROKER", "memory://theirs")
    monkeypatch.setenv("DINGO_BACKEND", "memory://results")
    assert [dingo.App(broker).backend for broker in ("memory://mine", None)] == ["memory://mine", "memory://results"]


@pytest.mark.parametrize("marshal", [False, True])
def test_marshal_locally_is_whether_calls_go_through_the_marshaller(marshal):
    with opened(marshal_locally=marshal) as app:
        given = [1]
        app.register("same", lambda a: a is given)
        assert app.call("same", given).result(10) is not marshal
