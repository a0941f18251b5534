"""The life of an App: registering, calling, allocating workers, closing and opening again."""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PATIENCE as SOON
from conftest import dingo_threads

import dingo
from dingo import (
    AlreadyRegistered,
    AppClosed,
    BadArguments,
    BadOption,
    Code,
    Config,
    Context,
    DingoError,
    NotRegistered,
    Status,
    TaskFailed,
)


def add(a: int, b: int) -> int:
    return a + b


def same(value):
    return value


class Counter:
    def __init__(self) -> None:
        self.total = 0

    def add(self, n: int) -> int:
        self.total += n
        return self.total

    def __call__(self, n: int) -> int:
        return self.add(n)


# -- constructing ----------------------------------------------------------------------------------------------


def test_constructing_registering_and_configuring_start_no_thread():
    before = threading.active_count()
    app = dingo.App("local")
    app.register("add", add, retry=2)
    app.task(name="more", workers=3)(same)
    app.set_option("add", timeout=5)
    app.on_failure(lambda context, failure: None)
    app.lifespan(lambda: None)
    assert threading.active_count() == before


def test_repr_tells_state_and_number_of_tasks(app):
    assert repr(app) == "<App 'dingo' local | idle | 0 tasks>"
    app.register("add", add)
    app.call("add", 1, 2).result(SOON)
    assert repr(app) == "<App 'dingo' local | open | 1 task>"
    app.close(SOON)
    assert repr(app) == "<App 'dingo' local | closed | 1 task>"


def test_importing_dingo_imports_neither_kombu_nor_janus():
    code = "import sys, dingo; assert not {'kombu', 'janus', 'cloudpickle', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SOON)


# -- registering -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fn", [None, 3, "add", object()])
def test_registering_what_is_not_callable_is_refused(app, fn):
    with pytest.raises(TypeError, match="'t'"):
        app.register("t", fn)


def generate():
    yield 1


async def generate_async():
    yield 1


class Generating:
    def __call__(self):
        yield 1

    def method(self):
        yield 1


@pytest.mark.parametrize(
    "fn",
    [generate, generate_async, Generating(), Generating().method, functools.partial(generate)],
    ids=["function", "async", "object", "method", "partial"],
)
def test_generator_functions_are_refused(app, fn):
    with pytest.raises(TypeError, match="generator"):
        app.register("t", fn)


@pytest.mark.parametrize("name", ["", "x" * 256, "with\nnewline", "with\x00null", "\x7f"])
def test_impossible_names_are_refused(app, name):
    with pytest.raises(ValueError, match="name of a task"):
        app.register(name, add)


@pytest.mark.parametrize("name", [None, 3, b"add", ("add",)])
def test_names_that_are_no_text_are_refused(app, name):
    with pytest.raises(TypeError, match="name of a task"):
        app.register(name, add)


def test_an_empty_name_is_refused_by_the_decorator_too(app):
    with pytest.raises(ValueError, match="name of a task"):
        app.task(name="")(add)


def test_a_name_may_have_any_printable_characters(app):
    app.register("größe/№ 1", add)
    assert app.call("größe/№ 1", 1, 2).result(SOON) == 3


def test_a_duplicate_name_is_refused_and_changes_nothing(app):
    app.register("t", add)
    with pytest.raises(AlreadyRegistered, match="'t'"):
        app.register("t", same)
    assert app.call("t", 1, 2).result(SOON) == 3


def test_replace_means_it(app):
    app.register("t", add)
    assert app.call("t", 1, 2).result(SOON) == 3
    app.register("t", lambda a, b: a * b, replace=True)
    assert app.call("t", 3, 4).result(SOON) == 12


def test_replacing_a_function_by_an_async_one_keeps_both_runnable(app):
    """Also where the name has workers of its own, which are threads."""
    app.register("t", add)
    app.allocate("t", 1)
    assert app.call("t", 1, 2).result(SOON) == 3

    async def multiply(a: int, b: int) -> int:
        return a * b

    app.register("t", multiply, replace=True)
    assert app.call("t", 3, 4).result(SOON) == 12
    app.register("t", add, replace=True)
    assert app.call("t", 3, 4).result(SOON) == 7


@pytest.mark.parametrize(
    "options", [{"retrys": 2}, {"retry": -1}, {"timeout": "5"}, {"id": "x"}, {"unique": "key"}, {"id_maker": "none"}]
)
def test_bad_options_are_refused_at_registration(app, options):
    with pytest.raises(BadOption):
        app.register("t", add, **options)
    with pytest.raises(NotRegistered):
        app.call("t", 1, 2)


def test_a_forward_reference_is_resolved_at_first_use(app):
    scope = {"int": int}
    exec("def later(order: 'Order') -> 'Order': return order", scope)  # noqa: S102
    app.register("later", scope["later"])
    scope["Order"] = int
    assert app.call("later", 3).result(SOON) == 3


def unresolved():
    """Make a function with an annotation that names nothing: one for each test, as what is known of it is kept."""

    def fn(order: Order) -> int:  # noqa: F821
        return order

    return fn


def test_a_forward_reference_that_does_not_exist_is_an_error_at_every_use_that_names_the_parameter(app):
    app.register("t", unresolved())
    app.register("add", add)
    for _ in range(2):
        with pytest.raises(TypeError, match="'order'"):
            app.call("t", 1)
        with pytest.raises(TypeError, match="'order'"):
            app.call("add", 1, 2)
        with pytest.raises(TypeError, match="'order'"):
            app.__enter__()


def test_a_forward_reference_registered_after_the_first_use_is_an_error_that_names_the_parameter(app):
    app.register("add", add)
    assert app.call("add", 1, 2).result(SOON) == 3
    task = app.register("t", unresolved())
    for use in (lambda: app.call("t", 1), lambda: task.call(1), lambda: app.allocate("t", 1)):
        with pytest.raises(TypeError, match="'order'"):
            use()


def test_types_supply_what_only_the_type_checker_imports(app):
    app.register("t", unresolved(), types={"Order": int})
    assert app.call("t", 1).result(SOON) == 1
    with pytest.raises(BadArguments):
        app.call("t", "one")


def test_every_kind_of_callable_can_be_a_task(app):
    counter = Counter()
    offset = 10

    def closure(n: int) -> int:
        return n + offset

    async def asynchronous(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    class AsyncCall:
        async def __call__(self, n: int) -> int:
            return n + 2

    kinds = {
        "method": (counter.add, 5), "object": (Counter(), 5), "closure": (closure, 15), "lambda": (lambda n: n, 5),
        "partial": (functools.partial(add, 1), 6), "builtin": (abs, 5), "class": (str, "5"),
        "async": (asynchronous, 6), "async partial": (functools.partial(asynchronous), 6),
        "async object": (AsyncCall(), 7), "static": (staticmethod(add).__func__, None),
    }  # fmt: skip
    for name, (fn, _) in kinds.items():
        app.register(name, fn)
    for name, (_, expected) in kinds.items():
        if expected is not None:
            assert app.call(name, 5).result(SOON) == expected, name
    assert counter.total == 5


def test_an_unregistered_name_is_an_error_that_suggests_the_nearest(app):
    app.register("add", add)
    with pytest.raises(NotRegistered, match="'add'"):
        app.call("ad", 1, 2)
    for name in (None, 3, [], {}):
        with pytest.raises(NotRegistered):
            app.call(name)
    with pytest.raises(NotRegistered):
        app.allocate("ad", 1)


def test_arguments_called_name_fn_run_or_self_reach_the_task(app):
    class Direct:
        def invoke(self, fn, args, kwargs):
            return fn(*args, **kwargs)

        def returned(self, fn, value):
            return value

    def names(*, name: int, fn: int, run: int, invoker: int, plan: int) -> list[int]:
        return [name, fn, run, invoker, plan]

    def with_context(context: Context, *, name: int, fn: int, run: int, invoker: int, plan: int) -> list[int]:
        return [name, fn, run, invoker, plan]

    given = {"name": 1, "fn": 2, "run": 3, "invoker": 4, "plan": 5}
    for number, options in enumerate([{}, {"retry": 1}, {"invoker": Direct()}]):
        for fn in (names, with_context):
            app.register(f"{fn.__name__}-{number}", fn, **options)
            assert app.call(f"{fn.__name__}-{number}", **given).result(SOON) == [1, 2, 3, 4, 5]


# -- Task ------------------------------------------------------------------------------------------------------


def test_a_task_called_directly_runs_the_plain_function_here(app):
    ran_in = []

    @app.task
    def where(n: int) -> int:
        """Say where."""
        ran_in.append(threading.current_thread())
        return n

    assert where(3) == 3
    assert ran_in == [threading.current_thread()]
    assert where.fn(4) == 4
    assert (where.name, where.__name__, where.__doc__) == ("where", "where", "Say where.")
    assert dingo_threads() == []


def test_a_task_called_directly_gets_a_context_the_current_one_or_a_detached_one(app):
    @app.task
    def inner(context: Context) -> str:
        return context.id

    @app.task
    def outer(context: Context) -> tuple[str, str]:
        return context.id, inner()

    assert inner() == ""
    result = outer.call()
    assert result.result(SOON) == (result.id, result.id)


def test_an_async_task_called_directly_gives_a_coroutine(app):
    @app.task
    async def double(n: int) -> int:
        return n * 2

    assert isinstance(double, dingo.AsyncTask)
    assert asyncio.run(double(4)) == 8
    assert double.call(4).result(SOON) == 8


def test_task_members(app):
    task = app.register("add", add)
    assert task.call(1, b=2).result(SOON) == 3
    assert [one.result(SOON) for one in task.call_many([(1, 2), (3, 4)])] == [3, 7]
    assert list(task.map([1, 2], [10, 20])) == [11, 22]
    assert task.options(retry=1).call(1, 2).result(SOON) == 3
    assert list(task.options(retry=1).map([1], [2])) == [3]
    assert app.send(task.s(1, 2)).result(SOON) == 3
    assert app.send(task.si(1, b=2)).result(SOON) == 3
    assert task.s(1).prepended(5).args == (5, 1)
    assert task.si(1).prepended(5).args == (1,)
    assert app.options(headers={"a": 1}).call("add", 1, 2).result(SOON) == 3
    assert [one.result(SOON) for one in app.options(retry=1).call_many("add", [(1, 2)])] == [3]
    assert list(app.options(retry=1).options(timeout=5).map("add", [1], [2])) == [3]


def test_registering_a_task_again_under_another_name_registers_its_function(app):
    task = app.register("add", add)
    other = app.register("plus", task)
    assert other.fn is add
    assert other.call(1, 2).result(SOON) == 3


def test_a_task_handle_survives_close_and_reopening(app):
    task = app.register("add", add)
    assert task.call(1, 2).result(SOON) == 3
    app.close(SOON)
    for use in (lambda: task.call(1, 2), lambda: task.call_many([(1, 2)]), lambda: list(task.map([1], [2]))):
        with pytest.raises(AppClosed):
            use()
    with app:
        assert task.call(1, 2).result(SOON) == 3
        assert task.options(retry=1).call(1, 2).result(SOON) == 3


# -- allocate --------------------------------------------------------------------------------------------------


def busy_in(app, name: str, gate, count: int):
    """Start `count` calls that stay in the task until the gate opens; return them once all run."""
    running = threading.Barrier(count + 1)

    def hold() -> None:
        running.wait(SOON)
        gate.wait(SOON)

    app.register(name, hold, replace=True)
    results = [app.call(name) for _ in range(count)]
    running.wait(SOON)
    return results


def test_allocate_starts_as_many_workers_as_it_says(app, gate):
    app.register("t", same)
    handle = app.allocate("t", 5)
    assert (handle.count, handle.channels) == (5, 1)
    assert len([thread for thread in dingo_threads() if thread.name.startswith("dingo-t-")]) == 5
    results = busy_in(app, "t", gate, 5)
    gate.set()
    assert all(result.wait(SOON) for result in results)


@pytest.mark.parametrize(
    ("count", "share", "channels"), [(1, 0, 1), (5, 0, 1), (5, 1, 5), (5, 2, 3), (2, 1, 2), (2, 5, 1)]
)
def test_share_says_how_many_workers_have_one_report_channel(app, count, share, channels):
    app.register("t", same)
    assert app.allocate("t", count, share).channels == channels


def test_allocate_is_repeatable_and_additive(app, gate):
    app.register("t", same)
    first, second = app.allocate("t", 1), app.allocate("t", 2)
    assert (first.count, second.count) == (1, 2)
    results = busy_in(app, "t", gate, 3)
    gate.set()
    assert all(result.wait(SOON) for result in results)


def test_allocate_is_additive_for_async_tasks_too(app):
    threads = set()

    @app.task
    async def where() -> None:
        threads.add(threading.current_thread().name)

    first = app.allocate("where", 1)
    second = app.allocate("where", 2)
    for result in where.call_many([()] * 30):
        result.result(SOON)
    assert len(threads) == 3
    second.stop()
    first.resize(2)
    threads.clear()
    for result in where.call_many([()] * 30):
        result.result(SOON)
    assert len(threads) == 2
    first.stop()
    assert where.call().result(SOON) is None


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_bad_counts_raise_and_change_nothing(app, count):
    app.register("t", same)
    with pytest.raises(ValueError, match="count"):
        app.allocate("t", count)
    with pytest.raises(ValueError, match="share"):
        app.allocate("t", 1, -1)
    assert dingo_threads() == []
    handle = app.allocate("t", 2)
    with pytest.raises(ValueError, match="count"):
        handle.resize(count)
    assert handle.count == 2
    assert app.call("t", 1).result(SOON) == 1


@pytest.mark.parametrize("pool", ["async", "threads", 3])
def test_a_pool_that_cannot_run_the_function_raises_and_changes_nothing(app, pool):
    app.register("t", same)
    with pytest.raises(ValueError, match="pool|kind"):
        app.allocate("t", 1, pool=pool)
    assert dingo_threads() == []


def test_an_async_task_does_not_run_in_a_thread_pool(app):
    @app.task
    async def t() -> None: ...

    with pytest.raises(ValueError, match="async"):
        app.allocate("t", 1, pool="thread")


def test_after_stop_the_default_pool_serves_again_including_what_waited(app, gate):
    handle = app.allocate(app.register("t", same).name, 1)
    (held,) = busy_in(app, "t", gate, 1)
    threads = []
    app.register("t", lambda: threads.append(threading.current_thread().name), replace=True)
    waiting = [app.call("t") for _ in range(20)]
    handle.stop()
    assert handle.count == handle.channels == 0
    assert all(result.wait(SOON) for result in waiting)
    assert all(name.startswith("dingo-default") for name in threads)
    assert not held.done()
    handle.stop()
    gate.set()
    assert held.result(SOON) is None


def test_a_call_that_still_runs_on_stopped_workers_is_awaited_by_close(app, gate):
    handle = app.allocate(app.register("t", same).name, 1)
    (held,) = busy_in(app, "t", gate, 1)
    handle.stop()
    closing = threading.Thread(target=app.close)
    closing.start()
    gate.set()
    closing.join(SOON)
    assert held.status is Status.SUCCESS


def test_a_call_that_hangs_on_stopped_workers_is_reported_when_close_runs_out_of_time(app, gate):
    handle = app.allocate(app.register("t", same).name, 1)
    (held,) = busy_in(app, "t", gate, 1)
    handle.stop()
    app.close(timeout=0.05)
    assert held.exception(SOON).failure.code is Code.SHUTDOWN


def test_resize_changes_the_number_of_workers(app, gate):
    app.register("t", same)
    handle = app.allocate("t", 1)
    handle.resize(4)
    assert handle.count == 4
    results = busy_in(app, "t", gate, 4)
    gate.set()
    assert all(result.wait(SOON) for result in results)
    handle.resize(1)
    app.register("t", same, replace=True)
    assert [app.call("t", n).result(SOON) for n in range(20)] == list(range(20))


def test_a_name_whose_workers_shrank_to_one_never_runs_two_of_its_tasks_at_the_same_time(app, gate):
    app.register("t", same)
    handle = app.allocate("t", 3)
    several = [thread for thread in dingo_threads() if thread.name.startswith("dingo-t-")]
    handle.resize(1)
    for thread in several:
        thread.join(SOON)
    inside, overlaps = threading.Lock(), []

    def step() -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(threading.current_thread())
            return
        os.sched_yield()
        inside.release()

    def enter(n: int) -> int:
        step()
        value = app.call("nested", n).result()
        step()
        return value

    app.register("nested", same)
    app.register("t", enter, replace=True)
    assert [result.result(SOON) for result in app.call_many("t", [(n,) for n in range(60)])] == list(range(60))
    assert overlaps == []


def test_a_handle_can_be_resized_after_stop(app):
    async def asynchronous() -> str:
        return threading.current_thread().name

    def plain() -> str:
        return threading.current_thread().name

    for fn in (asynchronous, plain):
        name = fn.__name__
        app.register(name, fn)
        handle = app.allocate(name, 1)
        handle.stop()
        handle.resize(2)
        assert app.call(name).result(SOON).startswith(f"dingo-{name}-")


def test_workers_of_two_handles_stop_on_their_own(app, gate):
    app.register("t", same)
    first, second = app.allocate("t", 2), app.allocate("t", 3)
    first.stop()
    results = busy_in(app, "t", gate, 3)
    gate.set()
    assert all(result.wait(SOON) for result in results)
    second.stop()
    app.register("t", lambda: threading.current_thread().name, replace=True)
    assert app.call("t").result(SOON).startswith("dingo-default")


def test_after_close_neither_allocate_nor_a_handle_starts_anything(app):
    app.register("t", same)
    handle = app.allocate("t", 1)
    app.close(SOON)
    with pytest.raises(AppClosed):
        app.allocate("t", 1)
    with pytest.raises(AppClosed):
        handle.resize(3)
    handle.stop()
    assert dingo_threads() == []


def test_one_slow_name_never_blocks_another_that_has_its_own_workers(make_app, gate):
    app = make_app(workers=2)
    busy_in(app, "slow", gate, 2)
    app.register("quick", same)
    app.allocate("quick", 1)
    assert [app.call("quick", n).result(SOON) for n in range(10)] == list(range(10))


def test_a_one_worker_name_keeps_the_order_of_its_calls(app):
    seen = []
    app.register("t", seen.append)
    app.allocate("t", 1)
    for result in app.call_many("t", [(n,) for n in range(500)]):
        result.result(SOON)
    assert seen == list(range(500))


def test_the_option_workers_gives_a_name_workers_of_its_own_and_starts_nothing(app, gate):
    app.register("t", same, workers=3)
    assert dingo_threads() == []
    results = busy_in_own(app, gate)
    gate.set()
    assert all(result.wait(SOON) for result in results)


def busy_in_own(app, gate):
    running = threading.Barrier(4)

    def hold() -> None:
        assert threading.current_thread().name.startswith("dingo-t-")
        running.wait(SOON)
        gate.wait(SOON)

    app.register("t", hold, replace=True, workers=3)
    results = [app.call("t") for _ in range(3)]
    running.wait(SOON)
    return results


# -- what a task may do with its app ---------------------------------------------------------------------------


def test_a_task_may_register_allocate_and_call(app):
    @app.task
    def grow(n: int) -> int:
        app.register("grown", add, replace=True)
        app.allocate("grown", 1)
        return app.call("grown", n, 1).result()

    assert [grow.call(n).result(SOON) for n in range(3)] == [1, 2, 3]


def test_a_task_may_listen_to_events_and_look_its_own_result_up(app):
    @app.task
    def look(context: Context) -> bool:
        with_events = app.listen()
        with_events.close()
        return app.result(context.id).id == context.id

    assert look.call().result(SOON)


def test_a_task_may_use_another_app_and_wait_for_its_close(app):
    """Closing does not wait inside a task of the same app; another app's close is awaited as anywhere."""

    @app.task
    def parallel() -> list[int]:
        with dingo.App("local", config=Config(workers=2)) as inner:
            inner.register("add", add)
            results = [inner.call("add", n, n) for n in range(50)]
        assert all(result.done() for result in results)
        return [result.result() for result in results]

    assert parallel.call().result(SOON) == [2 * n for n in range(50)]


# -- closing ---------------------------------------------------------------------------------------------------


def test_close_runs_what_was_accepted(make_app):
    app = make_app(workers=1)
    app.register("t", same)
    results = [app.call("t", n) for n in range(60)]
    app.close()
    assert [result.result(0) for result in results] == list(range(60))


def test_close_without_drain_ends_what_waits_and_lets_what_runs_end(make_app, gate):
    app = make_app(workers=1)
    (held,) = busy_in(app, "slow", gate, 1)
    app.register("t", same)
    waiting = [app.call("t", n) for n in range(50)]
    closing = threading.Thread(target=functools.partial(app.close, drain=False))
    closing.start()
    assert {result.exception(SOON).failure.code for result in waiting} == {Code.SHUTDOWN}
    gate.set()
    closing.join(SOON)
    assert held.result(0) is None


@pytest.mark.parametrize("drain", [True, False])
def test_close_with_a_timeout_does_not_wait_for_a_task_that_hangs(make_app, gate, drain):
    app = make_app(workers=1)
    (held,) = busy_in(app, "slow", gate, 1)
    waiting = [app.call("slow") for _ in range(10)]
    app.close(timeout=0.05, drain=drain)
    for result in (held, *waiting):
        assert result.status is Status.FAILURE
        assert result.exception(0).failure.code is Code.SHUTDOWN


def test_close_with_a_timeout_stops_async_tasks_that_hang(app):
    started, stopped = threading.Event(), threading.Event()

    @app.task
    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    result = hang.call()
    assert started.wait(SOON)
    app.close(timeout=0.05)
    assert result.exception(0).failure.code is Code.SHUTDOWN
    assert stopped.wait(SOON)


def test_what_an_async_task_left_behind_on_its_loop_does_not_outlive_close(app):
    left = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append("stopped")

    @app.task
    async def spawn() -> None:
        left.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)
        await asyncio.to_thread(int)

    spawn.call().result(SOON)
    app.close(SOON)
    assert left[1:] == ["stopped"]


def test_delayed_calls_end_with_shutdown(app):
    app.register("t", same)
    result = app.options(delay=1000).call("t", 1)
    app.close(SOON)
    assert result.exception(0).failure.code is Code.SHUTDOWN


def test_a_call_waiting_for_a_retry_ends_with_its_last_failure(app):
    @app.task(retry=dingo.Retry(max=5, base=500))
    def fail() -> None:
        raise ValueError("the last one")

    result = fail.call()
    assert result.wait(SOON, until=Status.RETRY)
    app.close(SOON)
    failure = result.exception(0).failure
    assert (failure.code, failure.message) == (Code.EXCEPTION, "the last one")


def test_draining_runs_calls_that_wait_for_a_place_under_a_limit(make_app):
    app = make_app(workers=4)
    app.register("one", same, max_concurrency=1)
    app.register("rated", same, rate_limit="200/s")
    results = [app.call(name, n) for n in range(20) for name in ("one", "rated")]
    app.close()
    assert [result.result(0) for result in results] == [n for n in range(20) for _ in range(2)]


def test_close_is_idempotent(app):
    app.register("t", same)
    app.call("t", 1)
    for _ in range(3):
        app.close(SOON)


def test_closing_an_app_that_was_never_used_is_fine(app):
    app.register("t", same)
    app.close()
    with pytest.raises(AppClosed):
        app.call("t", 1)


def test_close_from_several_threads_returns_in_all_when_all_is_done(make_app, gate):
    app = make_app(workers=1)
    busy_in(app, "t", gate, 1)
    app.register("t", same, replace=True)
    result = app.call("t", 1)
    with ThreadPoolExecutor(8) as threads:
        closings = [threads.submit(lambda: (app.close(), result.result(0))[1]) for _ in range(8)]
        gate.set()
        assert [closing.result(SOON) for closing in closings] == [1] * 8


def test_close_inside_a_task_returns_at_once_and_the_rest_is_drained(make_app, gate):
    app = make_app(workers=1)

    @app.task
    def close_it() -> str:
        gate.wait(SOON)
        app.close()
        return "closed"

    app.register("t", same)
    first, after = close_it.call(), [app.call("t", n) for n in range(10)]
    gate.set()
    assert first.result(SOON) == "closed"
    assert [result.result(SOON) for result in after] == list(range(10))
    app.close(SOON)


@pytest.mark.parametrize("how", ["close", "aio", "to_thread", "background"])
def test_close_inside_an_async_task_returns_at_once(app, how):
    @app.task
    async def close_it() -> str:
        if how == "close":
            app.close()
        elif how == "aio":
            await app.aio.close()
        elif how == "to_thread":
            await asyncio.to_thread(app.close)
        else:
            await asyncio.create_task(app.aio.close())
        return "closed"

    assert close_it.call().result(SOON) == "closed"
    app.close(SOON)


def test_awaiting_close_in_a_loop_of_a_task_in_a_thread_returns_at_once(app):
    @app.task
    def close_it() -> str:
        asyncio.run(app.aio.close())
        return "closed"

    assert close_it.call().result(SOON) == "closed"
    app.close(SOON)


def test_leaving_the_app_inside_a_task_does_not_hang(app):
    @app.task
    def use_it() -> str:
        with app:
            pass
        return "left"

    assert use_it.call().result(SOON) == "left"
    app.close(SOON)


def test_opening_an_app_again_inside_a_task_that_its_close_waits_for_is_refused(app):
    @app.task
    def reopen() -> str:
        app.close()
        try:
            app.__enter__()
        except AppClosed:
            return "refused"
        return "open"

    assert reopen.call().result(SOON) == "refused"
    app.close(SOON)


def test_close_inside_a_callback_does_not_hang(app):
    """Whichever thread calls it: a worker's, the one for callbacks, the timer's."""
    app.register("t", same)

    @app.task
    async def asynchronous() -> int:
        return 1

    closed = threading.Event()

    def close_it(_result) -> None:
        app.close()
        closed.set()

    for make, cancel in (
        (lambda: app.call("t", 1), False),
        (asynchronous.call, False),
        (lambda: app.options(delay=1000).call("t", 1), True),
        (lambda: app.options(delay=0.001, expires=0).call("t", 1), False),
    ):
        with app:
            closed.clear()
            result = make()
            result.add_done_callback(close_it)
            if cancel:
                result.cancel()
            assert closed.wait(SOON)


def test_close_inside_a_hook_does_not_hang(app):
    closed = threading.Event()

    @app.on_failure
    def close_it(_context, _failure) -> None:
        app.close()
        closed.set()

    @app.task(timeout=0.01)
    def slow(gate: object) -> None:
        gate.wait(SOON)

    gate = threading.Event()
    slow.call(gate)
    assert closed.wait(SOON)
    gate.set()
    app.close(SOON)


def test_calls_after_close_raise(app):
    task = app.register("t", same)
    bound = app.options(retry=1)
    app.call("t", 1).result(SOON)
    executor = app.as_executor()
    app.close(SOON)
    for use in (
        lambda: app.call("t", 1),
        lambda: app.call_many("t", [(1,)]),
        lambda: app.map("t", [1]),
        lambda: app.send(task.s(1)),
        lambda: bound.call("t", 1),
        lambda: task.call(1),
        lambda: app.listen(),
        lambda: app.allocate("t"),
        lambda: executor.submit(same, 1),
    ):
        with pytest.raises(AppClosed):
            use()


def test_a_task_that_calls_while_the_app_closes_gets_an_error_instead_of_a_deadlock(make_app, gate):
    app = make_app(workers=1)
    running = threading.Event()

    @app.task
    def call_late() -> str:
        running.set()
        gate.wait(SOON)
        try:
            app.call("call_late").result()
        except AppClosed:
            return "refused"
        return "accepted"

    result = call_late.call()
    assert running.wait(SOON)
    closing = threading.Thread(target=app.close)
    closing.start()
    while True:
        try:
            app.listen().close()
        except AppClosed:
            break
    gate.set()
    closing.join(SOON)
    assert result.result(0) == "refused"


def test_nested_calls_that_wait_in_the_queue_are_run_while_the_app_closes(make_app, gate):
    app = make_app(workers=1)
    running = threading.Event()

    @app.task
    def outer() -> int:
        inner = [app.call("t", n) for n in range(5)]
        running.set()
        gate.wait(SOON)
        return sum(one.result() for one in inner)

    app.register("t", same)
    result = outer.call()
    assert running.wait(SOON)
    closing = threading.Thread(target=app.close)
    closing.start()
    gate.set()
    closing.join(SOON)
    assert result.result(0) == 10


# -- opening again ---------------------------------------------------------------------------------------------


def test_with_opens_the_app_again_after_a_close(app):
    seen = []
    app.on_success(lambda context, value: seen.append(value))
    app.register("t", same)
    for round_ in range(3):
        with app:
            assert app.call("t", round_).result(SOON) == round_
        with pytest.raises(AppClosed):
            app.call("t", 1)
    assert seen == [0, 1, 2]


def test_async_with_opens_and_closes(app):
    app.register("t", same)

    async def main() -> list[int]:
        values = []
        for n in range(2):
            async with app:
                values.append(await app.call("t", n))
        return values

    assert asyncio.run(main()) == [0, 1]


def test_leaving_by_an_exception_means_no_drain(make_app, gate):
    app = make_app(workers=1)
    with pytest.raises(ZeroDivisionError), app:  # noqa: PT012
        (held,) = busy_in(app, "t", gate, 1)
        waiting = app.call("t")
        threading.Thread(target=lambda: (waiting.wait(SOON), gate.set())).start()
        raise ZeroDivisionError
    assert waiting.exception(0).failure.code is Code.SHUTDOWN
    assert held.result(0) is None


def test_leaving_an_async_with_by_an_exception_means_no_drain(make_app, gate):
    app = make_app(workers=1)

    async def main():
        async with app:
            busy_in(app, "t", gate, 1)
            results.append(app.call("t"))
            results[0].add_done_callback(lambda _: gate.set())
            raise ZeroDivisionError

    results = []
    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    assert results[0].exception(0).failure.code is Code.SHUTDOWN


def test_events_end_with_close_and_begin_anew(app):
    app.register("t", same)
    first = app.listen(level=dingo.Level.DEBUG)
    app.call("t", 1).result(SOON)
    app.close(SOON)
    assert "call.sent" in {event.code for event in first}
    with app:
        second = app.listen(level=dingo.Level.DEBUG)
        app.call("t", 1).result(SOON)
    assert "call.finished" in {event.code for event in second}


def test_results_of_before_a_close_can_be_read_after_it(app):
    @app.task
    def fail() -> None:
        raise ValueError("no")

    good, bad = app.register("t", same).call(1), fail.call()
    app.close()
    assert good.result(0) == 1
    assert good.id
    assert [report.status for report in good.reports()] == [Status.SUCCESS]
    with pytest.raises(TaskFailed):
        bad.result(0)


# -- nothing in between ----------------------------------------------------------------------------------------


def test_every_public_error_is_a_dingo_error():
    errors = [one for one in vars(dingo).values() if isinstance(one, type) and issubclass(one, BaseException)]
    assert len(errors) > 15
    assert all(issubclass(one, DingoError) for one in errors)


def test_every_name_in_all_can_be_imported():
    assert all(hasattr(dingo, name) for name in dingo.__all__)


def test_flush_is_done_at_once(app):
    assert app.flush(0)
