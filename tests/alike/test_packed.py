"""Calls that travel together, as those of `call_many` and `map` do when they are known to be short."""

import threading
import time

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code, Status
from dingo.message import packed


@pytest.fixture(scope="session", params=["sqlite", "redis", "amqp", "memory", "filesystem"])
def mode(request, mode_of):
    return mode_of(request.param)


@pytest.fixture
def packing():
    """Have a caller know that a task is short, as it would after a few calls."""

    def know(both, task):
        both.caller._session.open()._arrivals._learn(task.name, 0.0001)
        return task

    return know


def packs_of(results):
    return {packed.member_of(result.id).pack for result in results}


def test_short_calls_travel_packed_and_each_has_its_own_result(both, packing):
    def double(number: int, add: int = 0) -> int:
        return 2 * number + add

    task = packing(both, both.task(double))
    results = task.call_many([(number, 1) for number in range(150)])
    assert [result.result(PATIENCE) for result in results] == [2 * number + 1 for number in range(150)]
    assert len(packs_of(results)) == 3
    assert len({result.id for result in results}) == 150
    assert {result.last.attempt for result in results} == {1}


def test_map_yields_in_order_what_came_packed(both, packing):
    task = packing(both, both.task(lambda number: number + 1))
    assert list(task.map(range(2500))) == list(range(1, 2501))


def test_a_map_that_is_left_early_ends_quietly(both, packing):
    task = packing(both, both.task(lambda number: number + 1))
    values = task.map(range(2000))
    assert next(values) == 1
    values.close()
    with pytest.raises(dingo.ResultTimeout):
        list(task.map(range(2000), timeout=0))


def test_a_task_that_nobody_knows_travels_alone_until_it_has_shown_that_it_is_short(both):
    def short() -> int:
        return 1

    task = both.task(short)
    results = task.call_many([()] * 5)
    assert all(packed.member_of(result.id) is None for result in results)
    assert [result.result(PATIENCE) for result in results] == [1] * 5
    for _ in range(50):  # a call that found a thread at once says how long it took
        assert task.call().result(PATIENCE) == 1
    assert 0 <= both.caller._session.open()._arrivals.seconds[task.name] < PATIENCE  # by the clock it may take nothing


def test_a_long_task_is_not_packed(both):
    task = both.task(lambda: None)
    both.caller._session.open()._arrivals._learn(task.name, 1.0)
    results = task.call_many([()] * 3)
    assert all(packed.member_of(result.id) is None for result in results)
    assert [result.result(PATIENCE) for result in results] == [None] * 3


def test_a_call_that_asks_for_more_is_not_packed(both, packing):
    task = packing(both, both.task(lambda: 1)).options(timeout=PATIENCE)
    results = task.call_many([()] * 3)
    assert all(packed.member_of(result.id) is None for result in results)
    assert [result.result(PATIENCE) for result in results] == [1] * 3


def test_one_that_fails_in_a_pack_fails_alone(both, packing):
    def divide(number: int) -> float:
        return 12 / number

    task = packing(both, both.task(divide))
    results = task.call_many([(number,) for number in range(-3, 4)])
    assert len(packs_of(results)) == 1
    assert [one.result(PATIENCE) for one in (*results[:3], *results[4:])] == [-4.0, -6.0, -12.0, 12.0, 6.0, 4.0]
    with pytest.raises(dingo.TaskFailed) as caught:
        results[3].result(PATIENCE)
    assert caught.value.failure.type == "ZeroDivisionError"
    assert caught.value.report.id == results[3].id


def test_one_that_asks_for_another_attempt_gets_it_alone(both, packing):
    runs = []

    def task(context: dingo.Context, number: int) -> tuple[int, int]:
        runs.append(number)
        if number == 2 and context.attempt < 3:
            raise dingo.RetryLater("not yet", delay=0.05)
        return number, context.attempt

    results = packing(both, both.task(task)).call_many([(number,) for number in range(4)])
    assert [result.result(PATIENCE) for result in results] == [(0, 1), (1, 1), (2, 3), (3, 1)]
    assert sorted(runs) == [0, 1, 2, 2, 2, 3]


def test_a_value_that_is_not_what_was_promised_fails_alone(both, packing):
    def task(number: int) -> int:
        return number or "none"

    results = packing(both, both.task(task)).call_many([(1,), (0,), (2,)])
    assert [results[0].result(PATIENCE), results[2].result(PATIENCE)] == [1, 2]
    with pytest.raises(dingo.TaskFailed) as caught:
        results[1].result(PATIENCE)
    assert caught.value.failure.code is Code.BAD_RETURN


def test_values_that_need_more_than_the_short_way_come_all_the_same(both, packing):
    def task(number: int) -> object:
        return {1} if number else float("inf")

    results = packing(both, both.task(task)).call_many([(1,), (0,)])
    assert [result.result(PATIENCE) for result in results] == [{1}, float("inf")]


def test_wrong_arguments_are_refused_before_anything_is_sent(both, packing):
    ran = []

    def task(number: int) -> None:
        ran.append(number)

    with pytest.raises(dingo.BadArguments, match="number"):
        packing(both, both.task(task)).call_many([(1,), ("x",)])
    assert ran == []


def test_each_knows_its_own_id_and_reports_its_own_progress(both, packing):
    def task(context: dingo.Context, number: int) -> str:
        context.progress(number)
        return context.id

    results = packing(both, both.task(task)).call_many([(1,), (2,)])
    assert [result.result(PATIENCE) for result in results] == [result.id for result in results]
    for number, result in enumerate(results, 1):
        told = [report for report in result.reports() if report.status is Status.PROGRESS]
        assert [(report.id, report.progress.done) for report in told] == [(result.id, number)]


def test_one_is_found_by_its_id_from_elsewhere(both, packing, mode):
    if not mode.finds:
        pytest.skip("nothing is kept here")
    task = packing(both, both.task(lambda number: number * 10))
    results = task.call_many([(1,), (2,), (3,)])
    assert [result.result(PATIENCE) for result in results] == [10, 20, 30]
    assert [both.worker.result(result.id, task.name).result(PATIENCE) for result in results] == [10, 20, 30]
    succeeded = {call.id for call in both.caller.succeeded()}
    assert succeeded >= {result.id for result in results}
    both.caller.forget(results[0].id, task.name)
    with pytest.raises(dingo.ResultNotFound):
        both.worker.result(results[0].id, task.name)


def test_one_of_a_pack_that_waits_is_cancelled_and_the_others_run(own, packing, mode):
    if not mode.finds:
        pytest.skip("nothing can be withdrawn here")
    both, ran = own(), []

    def task(number: int) -> int:
        ran.append(number)
        return number

    results = packing(both, both.task(task)).call_many([(1,), (2,), (3,)])
    assert both.caller.flush(PATIENCE)
    assert {call.id for call in both.caller.pending()} >= {result.id for result in results}
    assert results[1].cancel()
    with pytest.raises(dingo.Cancelled):
        results[1].result(PATIENCE)
    both.start()
    assert [results[0].result(PATIENCE), results[2].result(PATIENCE)] == [1, 3]
    assert sorted(ran) == [1, 3]


def test_one_of_a_pack_that_another_process_has_sent_is_stopped_by_its_worker(own, packing, mode):
    if not mode.finds:
        pytest.skip("nothing can be looked up here")
    both = own()

    def task(context: dingo.Context, number: int) -> int:
        while number == 2 and not context.cancelled:
            time.sleep(0.01)
        return number

    known = packing(both, both.task(task))
    both.start()
    results = known.call_many([(1,), (2,), (3,)])
    assert len(packs_of(results)) == 1
    assert both.caller.flush(PATIENCE)
    found = both.worker.result(results[1].id, known.name)
    assert found.cancel()
    for one in (results[1], found):
        with pytest.raises(dingo.Cancelled):
            one.result(PATIENCE)
    assert [results[0].result(PATIENCE), results[2].result(PATIENCE)] == [1, 3]


@pytest.mark.parametrize("who", ["caller", "worker"])
def test_purging_counts_every_call_and_tells_its_caller(own, packing, mode, who):
    if not mode.finds:
        pytest.skip("nothing can be withdrawn here")
    both = own()
    results = packing(both, both.task(lambda: None)).call_many([()] * 5)
    assert both.caller.flush(PATIENCE)
    assert getattr(both, who).purge(both.queues[0]) == 5
    assert all(result.wait(PATIENCE) for result in results)
    assert {result.status for result in results} == {Status.CANCELLED}


def test_a_closing_worker_gives_back_what_has_not_started(own, packing, gate):
    both = own(workers=1)

    def task(number: int) -> int:
        if number == 0:
            gate.enter()
        return number

    known = packing(both, both.task(task))
    both.start()
    results = known.call_many([(number,) for number in range(5)])
    gate.wait()
    closing = threading.Thread(target=both.worker.close)
    closing.start()
    gate.open.set()
    closing.join(PATIENCE)
    assert results[0].result(PATIENCE) == 0
    second = dingo.App(both.mode.url, config=both.worker.config)
    second.register(known.name, task)
    second.start_worker(both.queues)
    try:
        assert [result.result(PATIENCE) for result in results] == list(range(5))
    finally:
        second.close(timeout=5, drain=False)


def test_signed_packs_are_read_and_answered(own, packing):
    both = own(signing_keys=("a key of our own making, for tests only",))
    task = packing(both, both.task(lambda number: number + 1))
    both.start()
    results = task.call_many([(number,) for number in range(10)])
    assert len(packs_of(results)) == 1
    assert [result.result(PATIENCE) for result in results] == list(range(1, 11))


def test_ignored_calls_are_bounded_too_and_forgotten_when_they_are_sent(own):
    both, ran = own(max_pending=10, when_full="wait"), threading.Semaphore(0)
    task = both.task(lambda: ran.release())
    both.start()
    for _ in range(100):
        task.options(ignore_report=True).call()
    for _ in range(100):
        assert ran.acquire(timeout=PATIENCE)
    assert both.caller.flush(PATIENCE)
    bridge = both.caller._session.open()
    assert bridge._open_calls.count() == 0
    assert bridge._sent is None or not bridge._sent._calls


def test_max_pending_counts_the_calls_and_not_the_packs(own, packing):
    both = own(max_pending=10)
    task = packing(both, both.task(lambda: None))
    task.call_many([()] * 10)
    with pytest.raises(dingo.QueueFull):
        task.call()
