"""Limits and unique calls over all workers of a fleet: the workers are apps of this process, each its own."""

import itertools
import threading
import time

import pytest

import dingo
from dingo import kombu
from dingo.bridge.ledger import BURST
from dingo.bridge.places import check_counted
from dingo.contracts import UniqueCall
from dingo.message.option import Option

PATIENCE = 30.0


@pytest.fixture
def fleet(counting_url):
    """Make apps of one broker; all are closed with the test."""
    apps = []

    def make(**config):
        apps.append(dingo.App(counting_url, config=dingo.Config(workers=4, **config)))
        return apps[-1]

    yield make
    for app in apps:
        app.close(10, drain=False)


class Meter:
    """Counts how many run at once, and notes when each started."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.starts = []

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.starts.append(time.time())
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


def serve(apps, name, fn, **options):
    for app in apps:
        app.register(name, fn, **options)
        app.start_worker()


def test_no_more_than_max_concurrency_run_at_once_over_all_workers(fleet):
    meter, workers = Meter(), [fleet(), fleet()]

    def job(number: int) -> int:
        with meter:
            time.sleep(0.001)
        return number

    serve(workers, "job", job, max_concurrency=2)
    results = [workers[0].call("job", number) for number in range(60)]
    assert [result.result(PATIENCE) for result in results] == list(range(60))
    assert meter.most <= 2


def test_starts_over_all_workers_keep_to_the_rate(fleet):
    meter, workers = Meter(), [fleet(), fleet()]

    def job() -> None:
        with meter:
            pass

    serve(workers, "job", job, rate_limit="30/s")
    results = [workers[0].call("job") for _ in range(25)]
    for result in results:
        result.result(PATIENCE)
    starts = sorted(meter.starts)
    late = 0.05  # a start that was allowed may come a little late, and the next one on time
    for first, last in itertools.combinations(range(len(starts)), 2):
        assert last - first <= (starts[last] - starts[first] + BURST + late) * 30 + 1


def test_tasks_without_limits_go_on_while_limited_ones_wait(fleet):
    gate, app = threading.Event(), fleet()
    app.register("free", lambda number: number)
    serve([app], "held", lambda: gate.wait(PATIENCE), max_concurrency=1)
    held = [app.call("held") for _ in range(50)]
    assert [app.call("free", number).result(PATIENCE) for number in range(50)] == list(range(50))
    assert not any(result.done() for result in held)
    gate.set()
    assert all(result.result(PATIENCE) for result in held)


def test_what_waits_for_a_place_does_not_come_again_and_again(fleet):
    """300 that wait for one place are claimed once each, and not again before they may run."""
    gate, app = threading.Event(), fleet()
    serve([app], "held", lambda: gate.wait(PATIENCE), max_concurrency=1)
    places = app._session.here._places
    asked, want = [], places.want
    places.want = lambda job: (asked.append(job.id), want(job))
    results = [app.call("held") for _ in range(300)]
    until = time.monotonic() + PATIENCE
    while len(app.delayed()) < 299:
        assert time.monotonic() < until
    assert not results[0].wait(0.5)
    assert len(asked) < 330
    assert app.purge("default") == 299
    gate.set()
    assert results[0].result(PATIENCE)


def test_a_place_is_kept_until_a_timed_out_function_returns(fleet):
    gate, meter, app = threading.Event(), Meter(), fleet()

    def job(wait: bool) -> None:
        with meter:
            if wait:
                gate.wait(PATIENCE)

    serve([app], "job", job, max_concurrency=1, timeout=0.1)
    first = app.call("job", True)
    assert first.exception(PATIENCE).failure.code == "TIMEOUT"
    second = app.call("job", False)
    assert not second.wait(0.5)
    gate.set()
    second.result(PATIENCE)
    assert meter.most == 1


def test_an_attempt_gives_its_place_back_before_the_next_one(fleet):
    meter, app = Meter(), fleet()

    def job(context: dingo.Context) -> int:
        with meter:
            if context.attempt < 3:
                raise OSError
        return context.attempt

    serve([app], "job", job, max_concurrency=1, retry=dingo.Retry(max=2, base=0.01))
    assert [one.result(PATIENCE) for one in [app.call("job") for _ in range(5)]] == [3] * 5
    assert meter.most == 1


def test_a_limited_call_that_is_cancelled_or_expires_gives_no_place_away(fleet):
    gate, app = threading.Event(), fleet()
    serve([app], "held", lambda: gate.wait(PATIENCE), max_concurrency=1)
    running = app.options(monitor_progress=True).call("held")
    assert running.wait(PATIENCE, until=dingo.Status.STARTED)
    cancelled, expired = app.call("held"), app.options(expires=0.01).call("held")
    assert app.flush(PATIENCE)
    assert cancelled.cancel()
    expired.wait(0.1)  # its time is over before there is a place for it
    gate.set()
    assert running.result(PATIENCE)
    assert expired.exception(PATIENCE).failure.code == "EXPIRED"
    assert [app.call("held").result(PATIENCE) for _ in range(5)] == [True] * 5


def test_a_limit_given_with_one_call_travels(fleet):
    gate, worker, caller = threading.Event(), fleet(), fleet()
    caller.register("held", lambda: None)
    serve([worker], "held", lambda: gate.wait(PATIENCE))
    limited = caller.options(max_concurrency=1, monitor_progress=True)
    first, second = limited.call("held"), limited.call("held")
    assert dingo.wait([first, second], timeout=0.5).done == set()
    assert {first.status, second.status} & {dingo.Status.SENT}
    gate.set()
    assert first.result(PATIENCE)
    assert second.result(PATIENCE)


def test_limits_need_a_backend_that_counts():
    for option in ({"unique": True}, {"rate_limit": "1/s"}, {"max_concurrency": 1}):
        option = Option.of(option)
        with pytest.raises(dingo.NotAttached, match="backend"):
            check_counted("job", option, getattr(kombu.store("amqp://127.0.0.1"), "ledger", None))
        check_counted("job", option, kombu.store("memory://").ledger)


# -- unique calls ------------------------------------------------------------------------------------------------


def test_a_unique_call_runs_once_however_many_callers_make_it(fleet):
    gate, runs, worker, callers = threading.Event(), [], fleet(), [fleet(), fleet()]
    for caller in callers:
        caller.register("job", lambda number: None, unique=True)
    first = callers[0].call("job", 1)
    again, elsewhere, other = callers[0].call("job", number=1), callers[1].call("job", 1), callers[1].call("job", 2)
    assert again is first
    assert elsewhere.id == first.id != other.id

    def job(number: int) -> int:
        runs.append(number)
        gate.wait(PATIENCE)
        return number

    serve([worker], "job", job, unique=True)
    while len(runs) < 2:
        assert not other.wait(0.01)
    assert callers[1].call("job", 1).id == first.id  # while it runs, too
    gate.set()
    assert [one.result(PATIENCE) for one in (first, elsewhere, other)] == [1, 1, 2]
    new = callers[1].call("job", 1)  # at once: whoever has the result may call again
    assert new.id != first.id
    assert new.result(PATIENCE) == 1
    assert sorted(runs) == [1, 1, 2]


def test_a_unique_key_may_be_a_text_or_made_by_a_function(fleet):
    app = fleet()
    app.register("job", lambda number: number, unique=lambda number: str(number % 2))
    first, same, other = app.call("job", 1), app.call("job", 3), app.call("job", 2)
    assert same is first
    assert other is not first
    assert app.options(unique="key").call("job", 5) is app.options(unique="key").call("job", 6)


@pytest.mark.parametrize("how", ["cancel", "purge", "expire", "fail"])
def test_a_unique_key_is_free_again_however_the_call_ended(fleet, how):
    app = fleet()
    app.register("job", lambda: 1 / 0, unique=True)
    first = (app.options(expires=0.0) if how == "expire" else app).call("job")
    assert app.flush(PATIENCE)
    if how == "cancel":
        assert first.cancel()
    elif how == "purge":
        assert app.purge("default") == 1
    else:
        app.start_worker()
    assert first.exception(PATIENCE) is not None if how in ("expire", "fail") else first.wait(PATIENCE)
    second = app.call("job")
    assert second.id != first.id


def test_a_key_registered_by_a_caller_that_died_before_it_sent_is_free_after_a_while(fleet):
    app = fleet(send_timeout_seconds=2.0)
    app.register("job", lambda: "done", unique=True)
    plan = app.plan_for(app._registry.get("job"), {})
    dead = dingo.caller.result.Result(plan, (), None)
    dead._id = "dead"
    app._session.caller._unique.register(dead, 0.9)
    app._session.caller._unique.unsent.clear()
    follower = app.call("job")
    assert follower.id == "dead"
    app.start_worker()
    assert follower.wait(PATIENCE)
    assert follower.cancelled()
    assert app.call("job").result(PATIENCE) == "done"
    assert app._session.caller._ledger.register(UniqueCall("job", "other", "1"), 1.0) == "1"


# -- paused queues, and several --------------------------------------------------------------------------------------


def test_a_paused_queue_is_served_by_no_worker_until_it_is_resumed(fleet):
    gate, started, workers = threading.Event(), threading.Semaphore(0), [fleet(prefetch=6), fleet(prefetch=6)]

    def hold() -> None:
        started.release()
        gate.wait(PATIENCE)

    serve(workers, "hold", hold)
    caller = workers[0]
    results = [caller.call("hold") for _ in range(20)]
    for _ in range(8):
        assert started.acquire(timeout=PATIENCE)
    until = time.monotonic() + PATIENCE
    while sum(len(app._session.here._held) for app in workers) < 12:  # four are claimed that cannot start yet
        assert time.monotonic() < until
    caller.pause("default")
    assert caller.paused() == ["default"]
    while len(caller.pending("default")) < 12:  # those have gone back, and
        assert time.monotonic() < until
    gate.set()
    while sum(result.done() for result in results) < 8:  # what runs goes on
        assert time.monotonic() < until
    assert not started.acquire(timeout=0.5)
    caller.resume("default")
    for result in results:
        result.result(PATIENCE)


def test_queues_with_weights_get_their_shares(fleet):
    order, worker = [], fleet(prefetch=4, queues=("a=3", "b=1"))

    def job(queue: str) -> None:
        order.append(queue)

    worker.register("job", job)
    results = [worker.options(queue=queue).call("job", queue) for queue in "b" * 100 + "a" * 100]
    assert worker.flush(PATIENCE)
    worker.start_worker()
    for result in results:
        result.result(PATIENCE)
    assert 10 <= order[:60].count("b") <= 20  # 15, but for what four threads make of the order
    assert sorted(order) == ["a"] * 100 + ["b"] * 100
