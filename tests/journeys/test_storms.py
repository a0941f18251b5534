"""Many threads calling, cancelling and closing at random: every accepted call gets exactly one final report."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest
from conftest import PATIENCE

import dingo
from dingo import AppClosed, Cancelled, Code, Status, TaskFailed


def register_all(app) -> list[str]:
    """Tasks of every kind: short and full ways, threads and loops, with workers of their own and without."""

    def plain(n: int) -> int:
        return n

    def failing(n: int) -> int:
        raise ValueError(n)

    async def asynchronous(n: int) -> int:
        await asyncio.sleep(0)
        return n

    def nested(n: int) -> int:
        return app.call("plain", n).result()

    tries = set()

    def flaky(n: int) -> int:
        if n % 2 and n not in tries:
            tries.add(n)
            raise LookupError(n)
        return n

    app.register("plain", plain)
    app.register("own", plain)
    app.register("failing", failing)
    app.register("asynchronous", asynchronous)
    app.register("nested", nested)
    app.register("flaky", flaky, retry=dingo.Retry(max=2, base=0))
    app.register("limited", plain, max_concurrency=2)
    app.register("delayed", plain, delay=0.001)
    app.register("monitored", plain, monitor_progress=True)
    app.register("timed", plain, timeout=60)
    app.allocate("own", 1)
    return ["plain", "own", "failing", "asynchronous", "nested", "flaky", "limited", "delayed", "monitored", "timed"]


class Reports:
    """Counts how often each accepted call was told to have ended."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self.accepted: list[dingo.Result] = []
        self._told: dict[dingo.Result, int] = {}

    def expect(self, result: dingo.Result) -> None:
        with self._lock:
            self.accepted.append(result)
        result.add_done_callback(self._tell)

    def _tell(self, result: dingo.Result) -> None:
        with self._lock:
            self._told[result] = self._told.get(result, 0) + 1
            self._lock.notify_all()

    def check(self) -> dict[Status, int]:
        """Every call has ended, was told once, says the same in every way. Returns how many ended how."""
        outcomes: dict[Status, int] = {}
        with self._lock:  # a close with a timeout does not wait for every callback
            self._lock.wait_for(lambda: len(self._told) == len(self.accepted), PATIENCE)
        for result in self.accepted:
            assert result.done(), result
            assert self._told.get(result, 0) == 1, result
            assert [report.status for report in result.reports()].count(result.status) == 1
            outcomes[result.status] = outcomes.get(result.status, 0) + 1
            if result.status is Status.SUCCESS:
                assert result.result(0) is not None
            else:
                with pytest.raises((TaskFailed, Cancelled)):
                    result.result(0)
        return outcomes


def storm(app, names, reports, *, threads=32, calls=150, closing=None) -> None:
    start = threading.Barrier(threads + (closing is not None))
    errors: list[BaseException] = []

    def act(seed: int) -> None:
        dice = random.Random(seed)
        mine = []
        start.wait(PATIENCE)
        try:
            for n in range(calls):
                result = app.call(dice.choice(names), n)
                reports.expect(result)
                mine.append(result)
                if dice.random() < 0.3:
                    dice.choice(mine).cancel()
                if dice.random() < 0.02:
                    app.pending()
                if dice.random() < 0.1:
                    mine[-1].wait(dice.choice([0, 0.0001, PATIENCE]))
        except AppClosed:
            return
        except BaseException as error:
            errors.append(error)

    several = [threading.Thread(target=act, args=(seed,)) for seed in range(threads)]
    for thread in several:
        thread.start()
    if closing is not None:
        start.wait(PATIENCE)
        closing()
    for thread in several:
        thread.join(PATIENCE * 3)
        assert not thread.is_alive()
    assert errors == []


def test_a_storm_of_calls_and_cancels(make_app):
    app = make_app(workers=4)
    names, reports = register_all(app), Reports()
    storm(app, names, reports)
    app.close()
    outcomes = reports.check()
    assert sum(outcomes.values()) == 32 * 150
    assert set(outcomes) == {Status.SUCCESS, Status.FAILURE, Status.CANCELLED}


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("round_", range(4))
def test_a_storm_that_the_app_is_closed_in(make_app, drain, round_):
    app = make_app(workers=3)
    names, reports = register_all(app), Reports()

    def close() -> None:
        for _ in range(round_ * 20):
            reports.expect(app.call("plain", 1))
        app.close(drain=drain)

    storm(app, names, reports, closing=close)
    reports.check()


def test_a_storm_closed_with_a_timeout_while_tasks_hang(make_app, gate):
    app = make_app(workers=3)
    names, reports = register_all(app), Reports()
    app.register("hang", lambda n: gate.wait(PATIENCE))
    for n in range(6):
        reports.expect(app.call("hang", n))
    for n in range(200):
        reports.expect(app.call(names[n % len(names)], n))
    app.close(timeout=0.05)
    outcomes = reports.check()
    assert outcomes[Status.FAILURE] >= 6


def test_a_storm_of_allocating_resizing_and_stopping_loses_no_call(make_app):
    app = make_app(workers=2)
    app.register("t", lambda n: n)
    results: list[dingo.Result] = []
    stop = threading.Event()

    def churn() -> None:
        dice = random.Random(1)
        while not stop.is_set():
            handle = app.allocate("t", dice.randint(1, 3))
            handle.resize(dice.randint(1, 4))
            handle.stop()

    churning = threading.Thread(target=churn)
    churning.start()
    for n in range(3000):
        results.append(app.call("t", n))
    assert [result.result(PATIENCE) for result in results] == list(range(3000))
    stop.set()
    churning.join(PATIENCE)


def test_a_storm_of_opening_and_closing(make_app):
    app = make_app(workers=2)
    app.register("t", lambda n: n)
    reports = Reports()
    stop = threading.Event()
    errors: list[BaseException] = []

    def call() -> None:
        while not stop.is_set():
            try:
                result = app.call("t", 1)
                reports.expect(result)
                assert result.wait(PATIENCE)
            except AppClosed:
                continue
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(30):
        with app:
            reports.expect(app.call("t", n))
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    app.close()
    assert errors == []
    reports.check()


@pytest.mark.parametrize("drain", [True, False])
def test_a_hundred_thousand_pending_calls_are_all_answered_by_close(make_app, gate, drain):
    app = make_app(workers=2)
    running = threading.Semaphore(0)

    def hold() -> None:
        running.release()
        gate.wait(PATIENCE)

    app.register("hold", hold)
    held = [app.call("hold") for _ in range(2)]
    for _ in held:
        assert running.acquire(timeout=PATIENCE)
    app.register("t", lambda n: n)
    results = [app.call("t", n) for n in range(100_000)]
    threading.Thread(target=lambda: (results[0].wait(PATIENCE) if not drain else None, gate.set())).start()
    app.close(drain=drain)
    assert all(result.status is Status.SUCCESS for result in held)
    if drain:
        assert all(result.result(0) == n for n, result in enumerate(results))
    else:
        assert all(result._value.code is Code.SHUTDOWN for result in results)
