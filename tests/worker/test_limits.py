"""max_concurrency and rate_limit."""

import threading
import time

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code


class Meter:
    """Counts how many run at once."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.all = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


@pytest.fixture
def wide():
    app = dingo.App("local", config=dingo.Config(workers=4))
    yield app
    app.close(timeout=5, drain=False)


def test_no_more_than_max_concurrency_run_at_once(wide):
    meter = Meter()

    @wide.task(max_concurrency=2)
    def job() -> None:
        with meter:
            threading.Event().wait(0.001)

    for result in wide.call_many("job", [()] * 100):
        result.result(10)
    assert meter.most == 2
    assert meter.all == 100


def test_the_limit_counts_across_named_workers_too(wide):
    meter = Meter()

    @wide.task(max_concurrency=1)
    def job() -> None:
        with meter:
            threading.Event().wait(0.001)

    results = wide.call_many("job", [()] * 20)
    wide.allocate("job", 3)
    results += wide.call_many("job", [()] * 20)
    for result in results:
        result.result(10)
    assert meter.most == 1


def test_async_tasks_have_limits_too(wide):
    import asyncio

    meter = Meter()

    @wide.task(max_concurrency=3)
    async def job() -> None:
        with meter:
            await asyncio.sleep(0.001)

    for result in wide.call_many("job", [()] * 60):
        result.result(10)
    assert meter.most == 3


@pytest.fixture
def parked(wide, gate):
    """Three calls of a task of max_concurrency 1: the first runs until the gate opens, two are parked."""
    running, order = threading.Event(), []

    @wide.task(max_concurrency=1)
    def job(number: int) -> int:
        order.append(number)
        running.set()
        gate.wait(10)
        return number

    @wide.task
    def other() -> str:
        return "other"

    results = [job.call(0)]
    assert running.wait(10)
    limit = wide.plan_for(wide._registry.get("job"), {}).limit
    for number in (1, 2):  # one after the other: two workers that take them at once may come in any order
        results.append(job.call(number))
        until = time.monotonic() + PATIENCE
        while len(limit.waiting()) < number:
            assert time.monotonic() < until
            time.sleep(0.001)
    return [*results, order]


def test_the_pool_goes_on_with_other_tasks_while_calls_are_parked(wide, parked, gate):
    first, second, third, order = parked
    assert wide.call("other").result(10) == "other"
    gate.set()
    assert [first.result(10), second.result(10), third.result(10)] == [0, 1, 2]
    assert order == [0, 1, 2]


def test_parked_calls_are_pending(wide, parked):
    assert [info.id for info in wide.pending()] == [parked[1].id, parked[2].id]


def test_a_parked_call_can_be_cancelled_and_its_place_is_not_lost(wide, parked, gate):
    first, second, third, order = parked
    assert second.cancel()
    gate.set()
    assert third.result(10) == 2
    assert order == [0, 2]
    assert [wide.call("job", number).result(10) for number in range(3, 6)] == [3, 4, 5]


def test_parked_calls_are_purged(wide, parked, gate):
    first, second, third, order = parked
    assert wide.purge("default") == 2
    assert second.cancelled()
    assert third.cancelled()
    gate.set()
    assert first.result(10) == 0
    assert wide.call("job", 9).result(10) == 9


def test_draining_runs_what_is_parked(wide, parked, gate):
    first, second, third, order = parked
    closing = threading.Thread(target=wide.close)
    closing.start()
    gate.set()
    closing.join(10)
    assert [first.result(0), second.result(0), third.result(0)] == [0, 1, 2]


def test_closing_without_draining_ends_what_is_parked(wide, parked, gate):
    first, second, third, order = parked
    closing = threading.Thread(target=lambda: wide.close(drain=False))
    closing.start()
    assert second.exception(10).failure.code is Code.SHUTDOWN
    assert third.exception(10).failure.code is Code.SHUTDOWN
    gate.set()
    closing.join(10)
    assert first.result(0) == 0
    assert order == [0]


def test_draining_runs_all_that_is_still_queued_however_few_places_there_are(wide):
    @wide.task(max_concurrency=1)
    def job(number: int) -> int:
        return number

    for turn in range(20):
        with wide:
            results = wide.call_many("job", [(number,) for number in range(20)])
        assert [result.result(0) for result in results] == list(range(20)), turn


def test_a_parked_call_of_a_higher_priority_is_admitted_first(wide, parked, gate):
    first, second, third, order = parked
    urgent = wide.options(priority=9).call("job", 9)
    for _ in range(10):
        wide.call("other").result(10)
    gate.set()
    assert urgent.result(10) == 9
    assert third.result(10) == 2
    assert order == [0, 9, 1, 2]


def test_a_place_is_kept_until_a_timed_out_function_returns(wide, gate):
    meter, returned = Meter(), threading.Event()

    @wide.task(max_concurrency=1, timeout=0.05)
    def job(hang: bool) -> str:
        with meter:
            if hang:
                gate.wait(10)
                returned.set()
            return "done"

    @wide.task
    def other() -> str:
        return "other"

    assert wide.call("job", True).exception(10).failure.code is Code.TIMEOUT
    second = wide.options(timeout=None).call("job", False)
    for _ in range(10):
        wide.call("other").result(10)
    assert not second.running()
    assert not second.done()
    gate.set()
    assert second.result(10) == "done"
    assert returned.is_set()
    assert meter.most == 1


def test_a_limit_changed_while_calls_run_is_kept_from_then_on(wide, parked, gate):
    first, second, third, order = parked
    wide.set_option("job", max_concurrency=None)
    assert wide.call("other").result(10) == "other"
    gate.set()
    assert [one.result(10) for one in (first, second, third)] == [0, 1, 2]
    wide.set_option("job", max_concurrency=1)
    assert [one.result(10) for one in wide.call_many("job", [(number,) for number in range(20)])] == list(range(20))


def test_retries_give_their_place_back_between_attempts(wide):
    meter = Meter()

    @wide.task(max_concurrency=1, retry=dingo.Retry(max=2, base=0))
    def job(context: dingo.Context, number: int) -> int:
        with meter:
            if context.attempt < 3:
                raise ValueError
            return number

    assert [one.result(10) for one in wide.call_many("job", [(number,) for number in range(30)])] == list(range(30))
    assert meter.most == 1


def test_a_nested_call_of_a_limited_task_does_not_deadlock_a_pool_of_one(single):
    @single.task(max_concurrency=1)
    def child(number: int) -> int:
        return number + 1

    @single.task
    def parent(number: int) -> int:
        return child.call(number).result()

    assert [one.result(10) for one in single.call_many("parent", [(number,) for number in range(20)])] == list(
        range(1, 21)
    )


def test_places_survive_a_storm_of_cancellations(wide):
    meter = Meter()

    @wide.task(max_concurrency=2)
    def job() -> None:
        with meter:
            pass

    for _ in range(20):
        results = wide.call_many("job", [()] * 20)
        for one in results[::2]:
            one.cancel()
    wide.call("job").result(10)
    both, barrier = [], threading.Barrier(2)

    @wide.task(max_concurrency=2, name="pair")
    def pair() -> None:
        barrier.wait(10)

    both = wide.call_many("pair", [()] * 2)
    [one.result(10) for one in both]
    assert meter.most <= 2
    limit = wide._session.caller.limit_for(wide._session.plans._base["job"])
    [one.wait(10) for one in results]
    for _ in range(10**6):
        if limit._running == 0:
            break
    assert limit._running == 0


def test_a_rate_spaces_the_starts(wide):
    timer = wide._session.open().timer
    starts = []

    @wide.task(rate_limit="50/s")
    def job() -> None:
        starts.append(timer.time())

    begin = timer.time()
    [one.result(10) for one in wide.call_many("job", [()] * 6)]
    assert all(start >= begin + number * 0.02 - 0.001 for number, start in enumerate(sorted(starts)))


def test_many_calls_that_wait_for_the_rate_set_one_alarm_between_them(wide):
    @wide.task(rate_limit="1/h")
    def job() -> None: ...

    @wide.task
    def other() -> None: ...

    results = wide.call_many("job", [()] * 200)
    for _ in range(10):
        wide.call("other").result(10)
    assert len(wide._session.caller.timer._moments.alarms) == 1
    wide._session.caller.timer.advance(3600)
    assert dingo.wait(results, timeout=10, return_when="FIRST_COMPLETED").done
    wide.purge("default")


def test_rate_and_concurrency_hold_together(wide):
    meter = Meter()

    @wide.task(rate_limit="500/s", max_concurrency=1)
    def job() -> None:
        with meter:
            threading.Event().wait(0.003)

    [one.result(10) for one in wide.call_many("job", [()] * 20)]
    assert meter.most == 1
    assert meter.all == 20
