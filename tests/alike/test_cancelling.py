"""Cancelling at every moment of a call's life, by its Result and by its id: alike in every mode."""

import asyncio
import threading
import time

import pytest
from conftest import PATIENCE

import dingo
from dingo import Status


def cancelled(result):
    """Wait for the end, which is to be CANCELLED, told in every way there is."""
    with pytest.raises(dingo.Cancelled):
        result.result(PATIENCE)
    assert (result.status, result.cancelled(), result.done()) == (Status.CANCELLED, True, True)
    assert [report.status.final for report in result.reports()].count(True) == 1
    assert result.last.failure.code == "CANCELLED"
    assert not result.cancel()


@pytest.fixture(params=["result", "id"])
def cancel(request, both):
    """How a call is cancelled: by the Result of its call, or by one that another app has found by its id."""
    if request.param == "id" and not both.mode.finds:
        pytest.skip("RabbitMQ keeps nothing of single calls")

    def cancel(result):
        if request.param == "result":
            return result.cancel()
        assert both.caller.flush(PATIENCE)
        return both.worker.result(result.id, result.name).cancel()

    return cancel


@pytest.fixture
def finds(both):
    if not both.mode.finds:
        pytest.skip("RabbitMQ keeps nothing of single calls")


class TestWithdrawn:
    def test_a_delayed_call_is_withdrawn_and_never_runs(self, both, cancel):
        ran = []
        result = both.task(lambda: ran.append(1)).options(delay=600).call()
        assert cancel(result)
        cancelled(result)
        if both.mode.finds:
            assert result.id not in [info.id for info in both.caller.delayed()]
        assert ran == []

    @pytest.mark.usefixtures("finds")
    def test_what_was_withdrawn_is_known_as_cancelled(self, both, cancel):
        result = both.task(lambda: 1).options(delay=600).call()
        assert both.caller.flush(PATIENCE)
        assert cancel(result)
        cancelled(result)
        cancelled(both.worker.result(result.id, result.name))

    def test_a_queued_call_is_withdrawn_and_never_runs(self, own, gate):
        both, ran = own(workers=1), []
        hold, task = both.task(gate.enter), both.task(lambda: ran.append(1))
        both.start()
        held = hold.call()
        gate.wait()
        result = task.call()
        assert both.caller.flush(PATIENCE)
        assert result.cancel()
        cancelled(result)
        while not both.mode.finds and (task.name, result.id) not in both.worker._session.here._unwanted:
            time.sleep(0.005)  # the workers are told, which takes a moment
        gate.open.set()
        assert held.result(PATIENCE) is None
        assert task.call().result(PATIENCE) is None
        assert ran == [1]

    def test_calls_that_nobody_has_begun_are_unknown_to_a_worker_that_starts_later(self, own):
        both, ran = own(), []
        task = both.task(ran.append)
        results = [task.options(delay=delay).call(number) for number, delay in enumerate([None, None, 0.2, None])]
        if both.mode.local:
            results[0].wait(PATIENCE)  # there, who calls has workers
        assert both.caller.flush(PATIENCE)
        for result in results[1:3]:
            result.cancel()
            assert result.wait(PATIENCE)
        both.start()
        assert results[0].wait(PATIENCE)
        assert results[3].wait(PATIENCE)
        assert task.options(delay=0.3).call(4).wait(PATIENCE)
        assert {0, 3, 4} <= {*ran}
        assert 2 not in ran
        assert 1 not in ran or not results[1].cancelled()

    def test_a_call_between_two_attempts_is_withdrawn(self, both, cancel):
        runs = []

        def task() -> None:
            runs.append(1)
            raise OSError

        retry = dingo.Retry(max=3, backoff="fixed", base=600, jitter=False)
        result = both.task(task, retry=retry).options(monitor_progress=True).call()
        assert result.wait(PATIENCE, until=Status.RETRY)
        while both.mode.finds and not any(info.id == result.id for info in both.caller.delayed()):
            time.sleep(0.005)  # the report may come before the broker has put it off
        assert cancel(result)
        cancelled(result)
        assert runs == [1]


class TestStopped:
    def test_a_thread_is_told_and_runs_on_unseen(self, both, cancel):
        begun, told = threading.Event(), threading.Event()

        def task(context: dingo.Context) -> int:
            begun.set()
            while not context.cancelled:
                threading.Event().wait(0.005)
            told.set()
            return 1

        result = both.task(task).call()
        assert begun.wait(PATIENCE)
        assert cancel(result)
        cancelled(result)
        assert told.wait(PATIENCE)

    def test_an_async_task_is_stopped(self, both, cancel):
        begun, ended = threading.Event(), threading.Event()

        async def task() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        result = both.task(task).call()
        assert begun.wait(PATIENCE)
        assert cancel(result)
        cancelled(result)
        assert ended.wait(PATIENCE)

    def test_cancelling_and_completing_at_once_has_one_definite_outcome(self, both):
        def task(number: int) -> int:
            return number

        task = both.task(task)
        for number in range(30):
            result = task.call(number)
            said = result.cancel()
            assert result.wait(PATIENCE)
            assert result.status in (Status.SUCCESS, Status.CANCELLED)
            assert said or result.status is Status.SUCCESS
            assert [report.status.final for report in result.reports()].count(True) == 1


def test_a_call_that_has_ended_is_not_cancelled(both):
    result = both.task(lambda: 1).call()
    assert result.result(PATIENCE) == 1
    assert not result.cancel()
    assert (result.status, result.result()) == (Status.SUCCESS, 1)


@pytest.mark.usefixtures("finds")
def test_purged_calls_end_cancelled(both):
    task = both.task(lambda: 1)
    delays = (600, 600) if both.mode.local else (None, 600)  # locally nothing waits in a queue that nobody serves
    results = [task.options(queue=f"purged-{both.mode.name}", delay=delay).call() for delay in delays]
    assert both.caller.flush(PATIENCE)
    assert both.caller.purge(f"purged-{both.mode.name}") == len(results)
    for result in results:
        cancelled(result)
