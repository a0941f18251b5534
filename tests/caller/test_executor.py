"""`app.as_executor()`: a concurrent.futures.Executor, for everything that takes one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref

import pytest
from conftest import PATIENCE

import dingo
from dingo import AppClosed, NotRegistered


@pytest.fixture
def executor(app):
    return app.as_executor()


def test_it_is_a_real_executor(executor):
    assert isinstance(executor, concurrent.futures.Executor)
    future = executor.submit(pow, 2, 10)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) == 1024
    assert (future.done(), future.running(), future.cancelled(), future.cancel()) == (True, False, False, False)


def test_arguments_reach_the_function_by_position_and_by_name(executor):
    def f(*args, fn, self=None, **kwargs):
        return args, fn, self, kwargs

    assert executor.submit(f, 1, fn=2, self=3, job=4).result(PATIENCE) == ((1,), 2, 3, {"job": 4})


def test_closures_lambdas_and_any_value_pass_as_they_are(executor):
    value = object()
    assert executor.submit(lambda: value).result(PATIENCE) is value


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1), dingo.Cancelled("own")])
def test_its_futures_carry_the_original_exception(executor, error):
    def fail():
        raise error

    future = executor.submit(fail)
    assert future.exception(PATIENCE) is error
    with pytest.raises(type(error)):
        future.result(PATIENCE)


def test_what_is_not_callable_fails_in_its_future(executor):
    assert isinstance(executor.submit(None).exception(PATIENCE), TypeError)


def test_map(executor):
    assert list(executor.map(pow, range(500), [2] * 500)) == [n * n for n in range(500)]


def test_map_runs_out_of_time(executor, gate):
    with pytest.raises(TimeoutError):
        list(executor.map(gate.wait, [PATIENCE], timeout=0.01))


def test_concurrent_futures_wait_and_as_completed(executor, gate):
    held, quick = executor.submit(gate.wait, PATIENCE), executor.submit(int, "5")
    done, not_done = concurrent.futures.wait([held, quick], PATIENCE, concurrent.futures.FIRST_COMPLETED)
    assert (done, not_done) == ({quick}, {held})
    completed = concurrent.futures.as_completed([held, quick], PATIENCE)
    assert next(completed) is quick
    gate.set()
    assert next(completed) is held


def test_run_in_executor(executor):
    async def main():
        loop = asyncio.get_running_loop()
        values = await asyncio.gather(*(loop.run_in_executor(executor, pow, n, 2) for n in range(200)))
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(executor, divmod, 1, 0)
        return values

    assert asyncio.run(main()) == [n * n for n in range(200)]


def test_callbacks_of_futures_are_called_once(executor, gate):
    seen = []
    called = threading.Semaphore(0)

    def note(future):
        seen.append(future.result())
        called.release()

    future = executor.submit(gate.wait, PATIENCE)
    future.add_done_callback(note)
    gate.set()
    future.result(PATIENCE)
    future.add_done_callback(note)
    for _ in range(2):
        assert called.acquire(timeout=PATIENCE)
    assert seen == [True, True]


def test_a_future_that_waits_can_be_cancelled_and_one_that_runs_cannot(single, gate):
    executor = single.as_executor()
    running = threading.Event()
    ran = []
    held = executor.submit(lambda: running.set() or gate.wait(PATIENCE))
    waiting = executor.submit(ran.append, 1)
    assert running.wait(PATIENCE)
    assert held.running()
    assert held.cancel() is False
    assert not waiting.running()
    assert waiting.cancel() is True
    assert waiting.cancel() is True
    assert (waiting.cancelled(), waiting.done(), waiting.running()) == (True, True, False)
    with pytest.raises(concurrent.futures.CancelledError):
        waiting.result(0)
    assert concurrent.futures.wait([waiting], 0).done == {waiting}
    gate.set()
    assert held.result(PATIENCE) is True
    executor.shutdown()
    assert ran == []


def test_a_cancelled_future_never_ran_and_any_other_did(app):
    """The answer of cancel is the truth, however close the race with a worker."""
    executor = app.as_executor()
    ran = set()
    futures = [executor.submit(ran.add, n) for n in range(2000)]
    cancelled = {n for n, future in enumerate(futures) if future.cancel()}
    executor.shutdown()
    assert ran == set(range(2000)) - cancelled
    assert all(futures[n].cancelled() for n in cancelled)


def test_shutdown_waits_and_refuses_more(executor, app):
    futures = [executor.submit(pow, n, 2) for n in range(100)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(int)
    executor.shutdown()
    assert app.as_executor().submit(int).result(PATIENCE) == 0


def test_shutdown_can_cancel_what_waits(single, gate):
    executor = single.as_executor()
    running = threading.Event()
    held = executor.submit(lambda: running.set() or gate.wait(PATIENCE))
    assert running.wait(PATIENCE)
    waiting = [executor.submit(int) for _ in range(50)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    assert not held.done()
    gate.set()
    assert held.result(PATIENCE) is True


def test_shutting_down_while_others_submit_hurts_nobody(app):
    for _ in range(20):
        executor = app.as_executor()
        go = threading.Barrier(4)
        futures: list[concurrent.futures.Future] = []

        def submit(executor=executor, go=go, futures=futures):
            go.wait(PATIENCE)
            try:
                for n in range(200):
                    futures.append(executor.submit(int, n))
            except RuntimeError:
                return

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for thread in threads:
            thread.start()
        go.wait(PATIENCE)
        executor.shutdown(cancel_futures=True)
        for thread in threads:
            thread.join(PATIENCE)
        assert len(concurrent.futures.wait(futures, PATIENCE).done) == len(futures)


def test_with_ends_the_executor_and_not_the_app(app):
    with app.as_executor() as executor:
        future = executor.submit(int, "7")
    assert future.result(0) == 7
    assert app.register("t", int).call("8").result(PATIENCE) == 8


def test_a_closed_app_runs_nothing_more_and_an_app_opened_again_does(app):
    executor = app.as_executor()
    assert executor.submit(int).result(PATIENCE) == 0
    app.close(PATIENCE)
    with pytest.raises(AppClosed):
        executor.submit(int)
    with app:
        assert executor.submit(int).result(PATIENCE) == 0


def test_what_a_closing_app_does_not_run_is_cancelled(single, gate):
    executor = single.as_executor()
    running = threading.Event()
    held = executor.submit(lambda: running.set() or gate.wait(PATIENCE))
    assert running.wait(PATIENCE)
    waiting = [executor.submit(int) for _ in range(20)]
    single.close(timeout=0.01, drain=False)
    assert all(future.cancelled() for future in (held, *waiting))


def where():
    return threading.current_thread().name


def test_with_a_name_the_functions_run_on_that_names_workers(app):
    app.register("t", where)
    executor = app.as_executor("t")
    assert executor.submit(where).result(PATIENCE).startswith("dingo-default")
    handle = app.allocate("t", 2)
    assert executor.submit(where).result(PATIENCE).startswith("dingo-t-")
    handle.stop()
    assert executor.submit(where).result(PATIENCE).startswith("dingo-default")


def test_with_a_name_that_has_workers_by_its_options(app):
    app.register("t", where, workers=2)
    assert app.as_executor("t").submit(where).result(PATIENCE).startswith("dingo-t-")


def test_with_the_name_of_an_async_task_the_functions_run_in_threads(app):
    async def asynchronous():
        return threading.current_thread().name

    app.register("a", asynchronous)
    app.allocate("a", 1)
    executor = app.as_executor("a")
    assert executor.submit(where).result(PATIENCE).startswith("dingo-default")


def test_an_unknown_name_is_refused(app):
    with pytest.raises(NotRegistered):
        app.as_executor("nothing")


def test_nested_submits_with_one_worker_do_not_deadlock(single):
    executor = single.as_executor()

    def nested(depth):
        return 0 if depth == 0 else 1 + executor.submit(nested, depth - 1).result()

    assert executor.submit(nested, 30).result(PATIENCE) == 30


def test_its_size_is_known_to_libraries_that_ask(app):
    assert app.as_executor()._max_workers == 2


def test_a_finished_future_holds_no_arguments(app):
    class Thing:
        pass

    executor = app.as_executor()
    thing = Thing()
    dead = weakref.ref(thing)
    future = executor.submit(lambda thing: 1, thing)
    assert future.result(PATIENCE) == 1
    app.close(PATIENCE)
    del thing
    gc.collect()
    assert dead() is None
