"""Pausing a queue of a local app."""

import threading

import pytest

import dingo


@pytest.fixture
def app():
    app = dingo.App("local", config=dingo.Config(workers=2))
    app.register("add", lambda a, b: a + b)
    app.register("other", lambda: "other", queue="other")
    yield app
    app.close(5, drain=False)


def test_nothing_of_a_paused_queue_starts_until_it_is_resumed(app):
    app.pause("default")
    assert app.paused() == ["default"]
    results = [app.call("add", number, 1) for number in range(20)]
    assert app.call("other").result(10) == "other"
    assert not dingo.wait(results, timeout=0.1).done
    assert len(app.pending("default")) == 20
    app.resume("default")
    assert [result.result(10) for result in results] == list(range(1, 21))
    assert app.paused() == []


def test_what_runs_goes_on_and_what_waits_in_the_pool_is_held(app, gate):
    running, names = threading.Semaphore(0), []

    def job(name: str) -> None:
        names.append(name)
        running.release()
        gate.wait(10)

    app.register("job", job)
    results = [app.call("job", name) for name in "abcd"]
    for _ in range(2):
        assert running.acquire(timeout=10)
    app.pause("default")
    gate.set()
    for result in results[:2]:
        result.result(10)
    assert not dingo.wait(results[2:], timeout=0.1).done
    assert names == ["a", "b"]
    app.resume("default")
    for result in results[2:]:
        result.result(10)
    assert sorted(names) == ["a", "b", "c", "d"]


def test_limits_hold_after_a_pause_and_paused_calls_can_be_cancelled(app):
    most, now, lock = [0], [0], threading.Lock()

    def job() -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.001)
        with lock:
            now[0] -= 1

    app.register("job", job, max_concurrency=1)
    for _ in range(5):
        app.pause("default")
        results = [app.call("job") for _ in range(10)]
        assert results[0].cancel()
        app.resume("default")
        for result in results[1:]:
            result.result(10)
    assert most == [1]


def test_pausing_and_resuming_while_calls_come_loses_none(app):
    done = threading.Event()

    def switch():
        while not done.is_set():
            app.pause("default")
            app.resume("default")

    thread = threading.Thread(target=switch)
    thread.start()
    results = [app.call("add", number, 0) for number in range(2000)]
    done.set()
    thread.join()
    assert [result.result(10) for result in results] == list(range(2000))


def test_closing_ends_what_is_paused(app):
    app.pause("default")
    result = app.call("add", 1, 1)
    app.close(5)
    assert result.exception(5).failure.code == "SHUTDOWN"


def test_an_executor_is_no_queue(app):
    app.pause("default")
    assert app.as_executor().submit(pow, 2, 3).result(10) == 8


def test_an_impossible_name_is_refused(app):
    with pytest.raises(dingo.BadOption, match="queue"):
        app.pause("no queue")
