"""The process pool: what crosses the border, what is killed, and what that leaves unharmed."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import dingo
from dingo import Code, Status, TaskFailed
from dingo.config import Config
from dingo.events import Hub
from dingo.worker.child.wire import Inbox, pack
from dingo.worker.processes import ProcessPool

WAIT = 20  # seconds that nothing here ever takes


# -- tasks; a child imports this module ------------------------------------------------------------------------


def add(a: int, b: int) -> int:
    return a + b


def pid():
    return os.getpid()


def touch(path):
    """Say in a file who runs, one line for each run."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")


def hang(path):
    touch(path)
    while True:
        time.sleep(60)


def die(path, how):
    touch(path)
    if how == "exit":
        os._exit(3)
    if how == "close":
        os.closerange(3, 1000)
        return
    os.kill(os.getpid(), getattr(signal, how))


class Odd(Exception):
    """Made of other arguments than it keeps: a pickle of it cannot be read."""

    def __init__(self, number, text):
        super().__init__(f"{text} {number}")


class Unreadable:
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ValueError("not here")


class Sample:
    def __init__(self, value):
        self.value = value

    def double(self):
        return 2 * self.value


# -- helpers ---------------------------------------------------------------------------------------------------


def until(fact, what="it never came true"):
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        value = fact()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(what)


def alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def runs(path):
    return [int(line) for line in Path(path).read_text().splitlines()] if Path(path).exists() else []


def pool_of(app, name):
    return app._session.caller._named[name]


@pytest.fixture
def start(app):
    """Register a function and give it processes."""

    def start(fn, count=1, name="f", **options):
        app.register(name, fn, **options)
        app.allocate(name, count, pool="process")
        return lambda *args, **kwargs: app.call(name, *args, **kwargs)

    return start


@pytest.fixture(scope="module")
def shared():
    """An app with processes for all tests that do them no harm."""
    with dingo.App("local") as app:
        app.register("warm", pid, pool="process").call().result(WAIT)
        yield app


@pytest.fixture
def send(shared):
    """Register a function that runs in the shared processes."""
    numbers = itertools.count()
    return lambda fn: shared.register(f"f{next(numbers)}", fn, pool="process", replace=True).call


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "runs")


# -- what crosses ----------------------------------------------------------------------------------------------


def test_a_call_runs_in_another_process(send):
    assert send(pid)().result(WAIT) not in (None, os.getpid())


def test_options_choose_processes_too(app):
    call = app.task(pool="process", workers=2)(pid).call
    assert call().result(WAIT) != os.getpid()
    assert pool_of(app, "pid").count == 2


def test_without_a_number_of_workers_tasks_share_processes(app):
    first, second = app.register("a", pid, pool="process"), app.register("b", add, pool="process")
    assert first.call().result(WAIT) != os.getpid()
    assert second.call(1, 2).result(WAIT) == 3
    assert first._compiled().pool is second._compiled().pool


def test_the_value_is_corrected_to_the_annotation(send):
    def as_float() -> float:
        return 3

    value = send(as_float)().result(WAIT)
    assert (value, type(value)) == (3.0, float)


def test_a_value_that_does_not_fit_is_a_bad_return(send):
    def text() -> int:
        return "text"

    with pytest.raises(TaskFailed) as failed:
        send(text)().result(WAIT)
    assert failed.value.failure.code is Code.BAD_RETURN


@pytest.mark.parametrize("fn", [lambda: 42, Sample(21).double, add.__get__(21)], ids=["lambda", "method", "bound"])
def test_what_cannot_be_imported_travels_by_value(send, fn):
    args = (21,) if fn.__name__ == "add" else ()
    assert send(fn)(*args).result(WAIT) == 42


def test_a_closure_takes_along_what_it_holds(send):
    base = 40

    def plus(n):
        return base + n

    assert send(plus)(2).result(WAIT) == 42


def test_a_function_is_sent_once_to_each_child(app, start):
    call = start(lambda n: n)
    assert sum(call(i).result(WAIT) for i in range(50)) == 1225
    (function,) = pool_of(app, "f")._functions.values()
    assert [child.known for child in pool_of(app, "f")._children] == [{function.number}]


def test_big_values_travel_both_ways(send):
    data = os.urandom(1024) * (200 * 1024)
    assert send(lambda data: data)(data).result(WAIT) == data


def test_an_exception_comes_back_as_itself(send):
    def fail():
        raise KeyError("missing")

    with pytest.raises(TaskFailed) as failed:
        send(fail)().result(WAIT)
    assert isinstance(failed.value.__cause__, KeyError)
    assert failed.value.__cause__.args == ("missing",)
    assert 'raise KeyError("missing")' in failed.value.failure.traceback


def test_an_exception_that_cannot_be_read_keeps_its_name_and_message(send):
    def fail():
        raise Odd(7, "number")

    failed = send(fail)().exception(WAIT)
    assert (failed.failure.type, failed.failure.message) == ("Odd", "number 7")
    assert (type(failed.__cause__).__name__, str(failed.__cause__)) == ("Odd", "number 7")


def test_an_argument_that_cannot_be_pickled_fails_its_call_and_is_named(send):
    call = send(lambda a, lock: a)
    results = [call(1, 2), call(1, threading.Lock()), call(3, 4)]
    failure = results[1].exception(WAIT).failure
    assert failure.code is Code.BAD_ARGUMENTS
    assert "argument 'lock'" in failure.message
    assert (results[0].result(WAIT), results[2].result(WAIT)) == (1, 3)


def test_an_argument_that_cannot_be_read_fails_its_call_alone(send):
    call = send(lambda a: a)
    results = [call(1), call(Unreadable()), call(3)]
    assert results[1].exception(WAIT).failure.code is Code.BAD_ARGUMENTS
    assert (results[0].result(WAIT), results[2].result(WAIT)) == (1, 3)


def test_a_value_that_cannot_be_pickled_is_a_bad_return(send):
    failure = send(lambda: threading.Lock())().exception(WAIT).failure
    assert failure.code is Code.BAD_RETURN
    assert "pickle" in failure.message


def test_a_function_that_cannot_be_sent_fails_its_calls(send):
    lock = threading.Lock()
    failure = send(lambda: lock)().exception(WAIT).failure
    assert "cannot be sent to a worker process" in failure.message


def test_calls_do_not_share_their_arguments(send):
    def grow(items):
        items.append(1)
        return len(items)

    items, call = [], send(grow)
    assert [one.result(WAIT) for one in [call(items) for _ in range(200)]] == [1] * 200


def test_system_exit_is_an_ordinary_failure(app, start):
    call = start(sys.exit)
    assert call("done").exception(WAIT).failure.type == "SystemExit"
    assert pool_of(app, "f").threads == 1


def test_many_calls_keep_their_order_and_values(start):
    call = start(add, 2)
    assert [one.result(WAIT) for one in [call(i, i) for i in range(5000)]] == [2 * i for i in range(5000)]


def test_a_frame_of_any_size_arrives_whole():
    import socket

    near, far = socket.socketpair()
    payloads = [b"", b"x" * 1000, b"y" * 300_000, b"z" * 262_119, b"", b"w" * 262_120]
    with near, far:
        sender = threading.Thread(
            target=lambda: [far.sendall(b"".join(pack(1, i, 2, one))) for i, one in enumerate(payloads)]
        )
        sender.start()
        inbox, frames = Inbox(near), []
        while len(frames) < len(payloads):
            frames += inbox.read()
        sender.join()
    assert frames == [(1, i, 2, bytearray(one)) for i, one in enumerate(payloads)]


# -- the context -----------------------------------------------------------------------------------------------


def test_the_context_crosses(app, start):
    def look(context: dingo.Context, n):
        return context.id, context.name, context.attempt, context.retries_left, context.headers, context.cancelled, n

    start(look)
    result = app.options(headers={"who": "me"}, retry=2).call("f", 7)
    assert result.result(WAIT) == (result.id, "f", 1, 2, {"who": "me"}, False, 7)


def test_current_is_asked_for_when_it_is_looked_at(start):
    def look():
        return dingo.current().id, dingo.current().name

    result = start(look)()
    assert result.result(WAIT) == (result.id, "f")


def test_progress_and_saved_values_come_back(start):
    def work():
        context = dingo.current()
        for done in range(3):
            context.progress(done, 3, "going")
        context.save({"so": "far"})

    result = start(work, monitor_progress=True)()
    result.result(WAIT)
    assert [report.progress.done for report in result.reports() if report.progress] == [0, 1, 2]
    assert result.saved == {"so": "far"}


@contextlib.contextmanager
def life():
    yield f"life of {os.getpid()}"


@contextlib.asynccontextmanager
async def async_life():
    yield f"life of {os.getpid()}"


@pytest.mark.parametrize("lifespan", [life, async_life])
def test_the_lifespan_is_entered_in_each_child(lifespan):
    app = dingo.App("local")
    app.lifespan(lifespan)

    @app.task(pool="process", workers=1)
    def look(context: dingo.Context):
        return context.state == f"life of {os.getpid()}"

    with app:
        assert look.call().result(WAIT)


def test_the_lifespan_is_left_when_a_child_leaves(path):
    app = dingo.App("local")

    @app.lifespan
    @contextlib.contextmanager
    def leave():
        yield
        touch(path)

    child = app.register("pid", pid, pool="process", workers=1)
    with app:
        number = child.call().result(WAIT)
    assert number in runs(path)


def test_a_lifespan_that_fails_in_the_child_fails_the_calls():
    app, parent = dingo.App("local"), os.getpid()

    @app.lifespan
    @contextlib.contextmanager
    def fail():
        if os.getpid() != parent:
            raise OSError("no database")
        yield

    child = app.register("pid", pid, pool="process", workers=1)
    with app:
        assert child.call().exception(WAIT).failure.message == "no database"


def test_a_retry_runs_again_with_the_next_attempt(app, start):
    def fail_first(context: dingo.Context):
        if context.attempt == 1:
            raise ValueError("first")
        return context.attempt, [one.message for one in context.errors]

    start(fail_first)
    result = app.options(retry=dingo.Retry(max=1, base=0.01)).call("f")
    assert result.result(WAIT) == (2, ["first"])


# -- time limits and cancellation --------------------------------------------------------------------------------


def test_a_time_limit_kills_the_process(start, path):
    failure = start(hang, timeout=0.2)(path).exception(WAIT).failure
    assert failure.code is Code.TIMEOUT
    (number,) = runs(path)
    until(lambda: not alive(number), "the process lives on")


def test_a_time_limit_kills_what_the_task_has_started(start, path):
    def family(path):
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        with Path(path).open("w") as file:
            for own_session in (False, True):
                child = subprocess.Popen(sleep, start_new_session=own_session)
                file.write(f"{child.pid}\n")
        time.sleep(60)

    start(family, timeout=0.5)(path).exception(WAIT)
    assert len(runs(path)) == 2
    until(lambda: not any(map(alive, runs(path))), "a descendant lives on")


def test_a_timeout_is_retried_because_the_function_was_stopped(app, start, path):
    def hang_first(path):
        touch(path)
        if len(runs(path)) == 1:
            time.sleep(60)
        return "second"

    start(hang_first)
    result = app.options(timeout=0.5, retry=dingo.Retry(max=1, base=0.01)).call("f", path)
    assert result.result(WAIT) == "second"


def test_the_import_of_a_function_does_not_count_as_its_time(app, tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.01)\ndef f(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import slow_to_import

    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.6)\ndef f(): return 1\n")
    app.register("f", slow_to_import.f, timeout=0.3, pool="process", workers=1)
    assert app.call("f").result(WAIT) == 1


def test_cancelling_a_running_call_kills_its_process(start, path):
    result = start(hang)(path)
    (number,) = until(lambda: runs(path))
    assert result.cancel()
    assert result.status is Status.CANCELLED
    until(lambda: not alive(number), "the process lives on")


def test_cancelling_a_call_harms_no_other(app, start, path):
    call = start(lambda n, path: hang(path) if n == 30 else n)
    results = [call(n, path) for n in range(100)]
    until(lambda: runs(path))
    results[30].cancel()
    assert [one.result(WAIT) for n, one in enumerate(results) if n != 30] == [n for n in range(100) if n != 30]
    assert len(runs(path)) == 1


def test_cancelling_calls_that_wait_behind_others_kills_nothing(app, start):
    call = start(lambda seconds: time.sleep(seconds) or os.getpid())
    first = call(0).result(WAIT)
    for _ in range(20):
        call(0).result(WAIT)  # so that several go out at once
    results = [call(0.1), *(call(0) for _ in range(50))]
    assert sum(one.cancel() for one in results[1:]) > 0
    assert results[0].result(WAIT) == first == call(0).result(WAIT)


# -- processes that die ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGSEGV", "exit", "close"])
def test_a_call_whose_processes_die_is_poisoned_at_the_third(start, path, how):
    failure = start(die)(path, how).exception(WAIT).failure
    assert failure.code is Code.POISONED
    assert len(set(runs(path))) == 3


def test_with_redeliver_false_the_worker_is_lost_at_once(start, path):
    failure = start(die, redeliver=False)(path, "SIGKILL").exception(WAIT).failure
    assert failure.code is Code.WORKER_LOST
    assert "SIGKILL" in failure.message
    assert len(runs(path)) == 1


def test_a_death_is_not_a_retry(start, path):
    def die_once(context: dingo.Context, path):
        touch(path)
        if len(runs(path)) == 1:
            os._exit(1)
        return context.attempt

    assert start(die_once)(path).result(WAIT) == 1
    assert len(runs(path)) == 2


def test_a_death_harms_no_other_call(start, path):
    def work(n, path):
        touch(path)
        if n == 50:
            os._exit(1)
        return n

    call = start(work)
    results = [call(n, path) for n in range(100)]
    assert results[50].exception(WAIT).failure.code is Code.POISONED
    assert [one.result(WAIT) for n, one in enumerate(results) if n != 50] == [n for n in range(100) if n != 50]
    assert len(runs(path)) == 99 + 3


def test_a_process_killed_from_outside_is_replaced(app, start):
    call = start(pid)
    first = call().result(WAIT)
    os.kill(first, signal.SIGKILL)
    until(lambda: first not in pool_of(app, "f").pids)
    assert call().result(WAIT) != first


def test_a_process_that_never_becomes_ready_is_told_and_tried_again(app, monkeypatch):
    events = app.listen(level=dingo.Level.ERROR)
    monkeypatch.setattr("dingo.worker.child.handle._PROGRAM", "raise SystemExit({parent})")
    app.register("pid", pid, pool="process", workers=1)
    result = app.call("pid")
    assert events.get(WAIT).code == "worker.failed"
    monkeypatch.undo()
    assert result.result(WAIT) != os.getpid()


def test_a_fork_in_a_task_does_not_hide_the_death_of_its_process(start, path):
    def fork_and_die(path):
        touch(path)
        if os.fork() == 0:
            os.setsid()
            time.sleep(60)
        os._exit(1)

    assert start(fork_and_die, redeliver=False)(path).exception(WAIT).failure.code is Code.WORKER_LOST


# -- sharing the work --------------------------------------------------------------------------------------------


def test_what_a_stuck_process_has_not_started_goes_to_another(start, path):
    def maybe_hang(n, path):
        if n == 40:
            touch(path)
            time.sleep(60)
        return n

    call = start(maybe_hang, 2)
    results = [call(n, path) for n in range(200)]
    assert [one.result(WAIT) for n, one in enumerate(results) if n != 40] == [n for n in range(200) if n != 40]
    assert not results[40].done()
    results[40].cancel()


def test_long_calls_are_shared_evenly(start):
    call = start(lambda: time.sleep(0.05) or os.getpid(), 2)
    until(lambda: len({one.result(WAIT) for one in [call(), call()]}) == 2)
    numbers = [one.result(WAIT) for one in [call() for _ in range(8)]]
    assert sorted(numbers.count(one) for one in set(numbers)) == [4, 4]


def test_the_highest_priority_goes_first(app, start, path):
    def gate(path):
        until(lambda: runs(path))

    order = []
    start(lambda wait, path: gate(path) if wait else time.sleep(0.02))  # too long to be handed over two at once
    app.options(priority=5).call("f", False, path).result(WAIT)
    first = app.call("f", True, path)
    until(lambda: first.running())
    results = [app.options(priority=priority).call("f", False, path) for priority in (1, 5, 9)]
    for priority, result in zip((1, 5, 9), results, strict=True):
        result.add_done_callback(lambda _, priority=priority: order.append(priority))
    touch(path)
    for one in results:
        one.result(WAIT)
    until(lambda: len(order) == 3)
    assert order == [9, 5, 1]


def test_a_limit_of_one_holds_over_processes(app, path):
    def work(path):
        touch(path + str(os.getpid()))
        with Path(path).open("x"):
            time.sleep(0.01)
        Path(path).unlink()

    task = app.register("f", work, pool="process", workers=2, max_concurrency=1)
    for one in [task.call(path) for _ in range(10)]:
        one.result(WAIT)


def test_resize_adds_and_removes_processes(app, start):
    call = start(pid)
    call().result(WAIT)
    pool = pool_of(app, "f")
    pool.resize(3)
    until(lambda: pool.threads == 3)
    pool.resize(1)
    until(lambda: pool.threads == 1)
    assert call().result(WAIT) in pool.pids


def test_after_the_last_worker_the_default_pool_serves(app):
    app.register("f", pid)
    workers = app.allocate("f", 2, pool="process")
    assert app.call("f").result(WAIT) != os.getpid()
    workers.stop()
    assert app.call("f").result(WAIT) == os.getpid()


# -- recycling ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tasks():
    """An app whose pool is made by hand."""
    with contextlib.ExitStack() as stack:

        def make(fn, **options):
            app = stack.enter_context(dingo.App("local"))
            app.register("f", fn)
            app._session.open()._named["f"] = ProcessPool("f", 1, Hub(), **options)
            return app

        yield make


def test_a_process_leaves_after_so_many_calls(tasks):
    app = tasks(pid, max_calls=10)
    numbers = [one.result(WAIT) for one in [app.call("f") for _ in range(15)]]
    assert [numbers.count(one) for one in dict.fromkeys(numbers)] == [10, 5]


def test_a_process_leaves_when_it_has_grown_too_big(tasks):
    def grow(size):
        globals().setdefault("kept", []).append(b"x" * size)
        return os.getpid()

    app = tasks(grow, max_rss=200 * 2**20)
    first = app.call("f", 1).result(WAIT)
    assert app.call("f", 300 * 2**20).result(WAIT) == first
    assert app.call("f", 1).result(WAIT) != first


@pytest.mark.parametrize("wrong", [{"max_calls": 0}, {"max_rss": -1}, {"max_calls": True}])
def test_a_wrong_limit_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProcessPool("f", 1, Hub(), **wrong)


# -- the end -----------------------------------------------------------------------------------------------------


def test_closing_runs_what_waits_and_leaves_no_process():
    with dingo.App("local") as app:
        app.register("f", lambda n: n)
        app.allocate("f", 2, pool="process")
        results = [app.call("f", n) for n in range(500)]
        app.call("f", 1).result(WAIT)
        numbers = pool_of(app, "f").pids
    assert [one.result(0) for one in results] == list(range(500))
    assert len(numbers) == 2
    for number in numbers:
        with pytest.raises(ChildProcessError):  # no zombie: somebody has waited for it
            os.waitpid(number, os.WNOHANG)


def test_a_close_with_a_timeout_kills_what_runs_on(path):
    app = dingo.App("local")
    app.register("f", hang, pool="process", workers=1)
    result = app.call("f", path)
    (number,) = until(lambda: runs(path))
    app.close(timeout=0.1)
    assert result.exception(WAIT).failure.code is Code.SHUTDOWN
    until(lambda: not alive(number), "the process lives on")


def test_a_healthy_life_emits_nothing_above_info():
    app = dingo.App("local")
    events = app.listen(level=dingo.Level.INFO)
    app.register("f", pid, pool="process", workers=1)
    app.call("f").result(WAIT)
    app.close()
    codes = {(event.level, event.code) for event in events}
    assert codes == {(dingo.Level.INFO, "worker.started"), (dingo.Level.INFO, "worker.stopped")}


def script(tmp_path, text):
    file = tmp_path / "script.py"
    file.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(file)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        start_new_session=True,
    )


def test_a_script_needs_no_main_guard_and_its_classes_travel(tmp_path):
    process = script(
        tmp_path,
        """
        import dingo
        app = dingo.App()
        class Point:
            def __init__(self, x): self.x = x
        @app.task(pool="process", workers=1)
        def helper(n): return n + 1
        @app.task(pool="process", workers=1)
        def move(point): return Point(helper(point.x) + helper.call(0).result(10) + app.call("helper", 0).result(10))
        with app:
            moved = app.call("move", Point(1)).result(20)
            print(type(moved) is Point, moved.x, flush=True)
        """,
    )
    assert process.communicate(timeout=WAIT)[0] == "True 4\n"


@pytest.mark.parametrize("busy", ["time.sleep(60)", "sum(range(10**12))"])
def test_no_process_outlives_a_killed_parent(tmp_path, busy):
    process = script(
        tmp_path,
        f"""
        import dingo, os, time
        app = dingo.App()
        @app.task(pool="process", workers=1)
        def f(context: dingo.Context):
            context.save(os.getpid())
            {busy}
        result = app.call("f")
        while not result.saved: time.sleep(0.01)
        print(result.saved, flush=True)
        time.sleep(60)
        """,
    )
    with process:
        number = int(process.stdout.readline())
        process.kill()
        until(lambda: not alive(number), "an orphan lives on")


def test_an_interrupt_from_the_terminal_leaves_it_to_the_parent(app, start, path):
    def wait(path):
        touch(path)
        until(lambda: len(runs(path)) > 1)
        return os.getpid()

    result = start(wait)(path)
    (number,) = until(lambda: runs(path))
    os.killpg(number, signal.SIGINT)
    os.killpg(number, signal.SIGTERM)
    touch(path)
    assert result.result(WAIT) == number


def test_a_fork_of_the_parent_lets_go_of_its_children(app, start):
    call = start(pid)
    number = call().result(WAIT)
    child = os.fork()
    if child == 0:
        os._exit(len(pool_of(app, "f").peek()) if app._session.caller else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert call().result(WAIT) == number


def test_marshalling_locally_works_with_processes():
    with dingo.App("local", config=Config(marshal_locally=True)) as app:
        app.register("f", add, pool="process", workers=1)
        assert app.call("f", 1, 2).result(WAIT) == 3


def test_output_of_a_task_is_seen_at_once(tmp_path):
    process = script(
        tmp_path,
        """
        import dingo, sys
        app = dingo.App()
        @app.task(pool="process", workers=1)
        def f(): print("said", sys.stdin.read() == "")
        app.call("f").result(20)
        import time; time.sleep(60)
        """,
    )
    with process:
        assert process.stdout.readline() == "said True\n"
        process.kill()
