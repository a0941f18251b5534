"""LocalBridge: room, closing against calling, and what happens to calls that are on their way in between."""

from __future__ import annotations

import threading

import pytest
from conftest import PATIENCE, dingo_threads

import dingo
from dingo import AppClosed, Code, QueueFull, Status


def same(value=None):
    return value


def hold_all(app, gate, count):
    running = threading.Semaphore(0)

    def hold() -> None:
        running.release()
        gate.wait(PATIENCE)

    app.register("hold", hold, replace=True)
    results = [app.call("hold") for _ in range(count)]
    for _ in results:
        assert running.acquire(timeout=PATIENCE)
    return results


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(make_app, gate):
    app = make_app(workers=1, max_pending=3)
    hold_all(app, gate, 1)
    app.register("t", same)
    accepted = []
    with pytest.raises(QueueFull, match="3"):
        for n in range(5):
            accepted.append(app.call("t", n))
    assert len(accepted) <= 3
    accepted[0].cancel()
    accepted.append(app.call("t", 9))
    gate.set()
    assert [result.result(PATIENCE) for result in accepted[1:]][-1] == 9
    for _ in range(10):
        assert app.call("t", 1).result(PATIENCE) == 1


def test_a_full_queue_waits_if_told_to(make_app, gate):
    app = make_app(workers=1, max_pending=2, when_full="wait")
    hold_all(app, gate, 1)
    app.register("t", same)
    results = []
    calling = threading.Thread(target=lambda: results.extend(app.call("t", n) for n in range(100)))
    calling.start()
    gate.set()
    calling.join(PATIENCE)
    assert [result.result(PATIENCE) for result in results] == list(range(100))


def test_who_waits_for_room_is_refused_when_the_app_closes(make_app, gate):
    app = make_app(workers=1, max_pending=1, when_full="wait")
    hold_all(app, gate, 1)
    app.register("t", same)
    outcomes = []

    def call() -> None:
        try:
            for n in range(10):
                outcomes.append(app.call("t", n))
        except AppClosed as error:
            outcomes.append(error)

    calling = threading.Thread(target=call)
    calling.start()
    while not outcomes:
        calling.join(0.001)
    app.close(timeout=0.05)
    calling.join(PATIENCE)
    assert not calling.is_alive()
    assert isinstance(outcomes[-1], AppClosed)
    assert all(result.exception(0).failure.code is Code.SHUTDOWN for result in outcomes[:-1])


def test_tasks_that_call_into_a_full_queue_do_not_deadlock_with_one_worker(make_app):
    app = make_app(workers=1, max_pending=2, when_full="wait")
    app.register("t", same)
    app.register("outer", lambda: [app.call("t", n) for n in range(10)])
    inner = app.call("outer").result(PATIENCE)
    assert [result.result(PATIENCE) for result in inner] == list(range(10))


def test_a_call_refused_for_want_of_room_blocks_no_unique_key(make_app, gate):
    app = make_app(workers=1, max_pending=1)
    hold_all(app, gate, 1)
    app.register("t", same)
    waiting = app.call("t", 1)
    with pytest.raises(QueueFull):
        app.options(unique="key").call("t", 2)
    gate.set()
    waiting.result(PATIENCE)
    assert app.options(unique="key").call("t", 3).result(PATIENCE) == 3


def test_a_call_is_either_refused_or_answered_however_it_races_with_close(make_app):
    """And a refused one has not run."""
    for round_ in range(30):
        app = make_app(workers=2)
        ran = []
        task = app.register("t", ran.append)
        task.call("first").result(PATIENCE)
        accepted, refused = [], []
        start = threading.Barrier(3)

        def call(first, app=app, accepted=accepted, refused=refused, start=start):
            start.wait(PATIENCE)
            for n in range(first, first + 200):
                try:
                    accepted.append((n, app.call("t", n)))
                except AppClosed:
                    refused.append(n)

        threads = [threading.Thread(target=call, args=(first,)) for first in (0, 1000)]
        for thread in threads:
            thread.start()
        start.wait(PATIENCE)
        app.close(drain=bool(round_ % 2))
        for thread in threads:
            thread.join(PATIENCE)
        assert all(result.done() for _, result in accepted)
        succeeded = {n for n, result in accepted if result.status is Status.SUCCESS}
        assert set(ran[1:]) == succeeded
        assert not set(ran) & set(refused)


def test_allocating_while_the_app_closes_leaves_no_worker(make_app):
    for _ in range(30):
        app = make_app(workers=1)
        app.register("t", same)
        app.call("t").result(PATIENCE)
        start = threading.Barrier(2)

        def allocate(app=app, start=start):
            start.wait(PATIENCE)
            try:
                for _ in range(10):
                    app.allocate("t", 1).resize(2)
            except AppClosed:
                return

        allocating = threading.Thread(target=allocate)
        allocating.start()
        start.wait(PATIENCE)
        app.close()
        allocating.join(PATIENCE)
    left = [thread for thread in dingo_threads() if thread.name.startswith("dingo-t-")]
    for thread in left:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_the_first_calls_of_many_threads_open_the_app_once(make_app):
    for _ in range(20):
        app = make_app(workers=2)
        app.register("t", same)
        start = threading.Barrier(8)
        results = []

        def call(app=app, start=start, results=results):
            start.wait(PATIENCE)
            results.append(app.call("t", 1))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [result.result(PATIENCE) for result in results] == [1] * 8
        assert len({result._plan.bridge for result in results}) == 1
        app.close()


def test_purge_cancels_what_waits_in_a_queue(single, gate):
    hold_all(single, gate, 1)
    single.register("t", same)
    waiting = [single.call("t", n) for n in range(5)]
    waiting.append(single.options(delay=1000).call("t"))
    other = single.options(queue="other").call("t", 7)
    assert single.purge("default") == 6
    assert {result.status for result in waiting} == {Status.CANCELLED}
    gate.set()
    assert other.result(PATIENCE) == 7


def test_pending_and_delayed_tell_what_they_know(single, gate):
    hold_all(single, gate, 1)
    single.register("t", same)
    waiting = single.options(queue="other").call("t")
    delayed = single.options(delay=1000).call("t")
    assert single.pending("default") == []
    (info,) = single.pending("other")
    assert (info.id, info.name, info.status, info.queue, info.attempt) == (waiting.id, "t", Status.SENT, "other", 0)
    (info,) = single.delayed()
    assert info.id == delayed.id
    assert info.eta is not None
    assert isinstance(info, dingo.CallInfo)


def test_a_slow_callback_of_a_cancelled_call_slows_nobody_but_close(single, gate):
    called = threading.Event()
    single.register("t", same)
    delayed = single.options(delay=1000).call("t")
    delayed.add_done_callback(lambda _: (called.set(), gate.wait(PATIENCE)))
    delayed.cancel()
    assert called.wait(PATIENCE)
    assert single.call("t", 5).result(PATIENCE) == 5
    gate.set()
