"""What happens around processes: the interpreter's exit, Ctrl-C, forks. Each test runs a program of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest
from conftest import PATIENCE

HEAD = """
import asyncio, os, signal, sys, threading
import dingo
from dingo import Config
def say(*what):  # in one piece, whatever other threads say
    os.write(1, (" ".join(map(str, what)) + "\\n").encode())
app = dingo.App("local", config=Config(workers=2, exit_timeout_seconds=EXIT))
"""


def run(program: str, *flags: str, exit_timeout: float = 30) -> subprocess.CompletedProcess[str]:
    code = HEAD.replace("EXIT", str(exit_timeout)) + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def passes(program: str, *flags: str, exit_timeout: float = 30) -> str:
    ended = run(program, *flags, exit_timeout=exit_timeout)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


STRICT = ("-X", "dev", "-W", "error")


# -- exit ------------------------------------------------------------------------------------------------------


def test_a_program_that_uses_everything_and_closes_is_clean_under_the_strictest_flags():
    out = passes(
        """
        @app.task
        def add(a: int, b: int) -> int:
            return a + b
        @app.task(retry=dingo.Retry(max=2, base=0), timeout=30)
        async def double(context: dingo.Context, n: int) -> int:
            asyncio.create_task(asyncio.sleep(1000))
            if context.attempt == 1:
                raise ValueError
            return 2 * await add.call(n, 0)
        async def main():
            return await dingo.gather(*[double.call(n) for n in range(10)])
        with app:
            app.allocate("add", 2)
            events = app.listen(level=dingo.Level.DEBUG)
            print(sum(asyncio.run(main())), sum(add.map(range(10), range(10))))
            print(sum(1 for one in dingo.as_completed([add.call(1, 1) for _ in range(10)])))
            print(app.as_executor().submit(int, "7").result())
            list(add.options(monitor_progress=True).call(1, 1).reports())
            add.options(delay=1000).call(1, 1)
        for thread in threading.enumerate():
            if thread.name.startswith("dingo"):
                thread.join(5)
                assert not thread.is_alive()
        """,
        *STRICT,
    )
    assert out.split() == ["90", "90", "10", "7"]


def test_a_program_that_never_closes_is_clean_too():
    out = passes(
        """
        @app.task
        async def wait():
            await asyncio.sleep(0)
        app.register("int", int)
        app.call("int", "5").result()
        wait.call().result()
        print("end")
        """,
        *STRICT,
    )
    assert out == "end\n"


def test_quick_work_that_is_pending_is_finished_at_exit():
    out = passes(
        """
        app.register("note", say)
        for n in range(200):
            app.call("note", n)
        app.options(delay=0).call("note", 200)
        """
    )
    assert sorted(map(int, out.split())) == list(range(201))


def test_what_hangs_does_not_hang_the_exit_and_a_warning_says_so():
    ended = run(
        """
        running = threading.Event()
        app.register("hang", lambda: (running.set(), threading.Event().wait()))
        app.register("int", int)
        hanging = app.call("hang")
        hanging.add_done_callback(lambda result: say(result.status.name, result.last.failure.code))
        running.wait()
        app.call("int", "1").add_done_callback(lambda result: say(result.status.name))
        """,
        exit_timeout=0.2,
    )
    assert ended.returncode == 0
    assert sorted(ended.stdout.split("\n")) == ["", "FAILURE SHUTDOWN", "SUCCESS"]
    assert "was not closed" in ended.stderr
    assert "SHUTDOWN" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_delayed_work_is_not_awaited_at_exit_and_a_warning_says_so():
    ended = run(
        """
        app.register("int", int)
        app.options(delay=1000).call("int", "1")
        """
    )
    assert ended.returncode == 0
    assert "1 call" in ended.stderr


def test_a_close_from_inside_a_task_is_awaited_at_exit():
    out = passes(
        """
        app = dingo.App("local", config=Config(workers=1))
        app.register("note", say)
        @app.task
        def close_it():
            app.close()
        result = close_it.call()
        for n in range(100):
            try:
                app.call("note", n)
            except dingo.AppClosed:
                say(n)
        result.result()
        """
    )
    assert sorted(map(int, out.split())) == list(range(100))


def test_an_error_of_the_program_keeps_its_exit_code():
    ended = run(
        """
        app.register("int", int)
        app.call("int", "1")
        raise SystemExit(7)
        """
    )
    assert (ended.returncode, ended.stderr) == (7, "")


def test_results_are_available_in_other_exit_handlers():
    out = passes(
        """
        import atexit
        app.register("int", int)
        result = app.call("int", "5")
        atexit.register(lambda: print(result.result(5)))
        """
    )
    assert out == "5\n"


# -- Ctrl-C ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        "result.result()", "dingo.wait([result])", "list(dingo.as_completed([result]))", "list(result.reports())",
        "list(app.map('hang', [1]))", "asyncio.run(main())",
    ],
)  # fmt: skip
def test_ctrl_c_ends_every_wait(wait):
    """The running task ends when its event is set by who caught the interrupt; what waits is not run."""
    ended = run(
        f"""
        release, running, ready = threading.Event(), threading.Event(), threading.Event()
        app = dingo.App("local", config=Config(workers=1))
        app.register("hang", lambda n: (running.set(), release.wait()))
        app.register("note", print)
        async def main():
            await result
        def interrupt():
            running.wait()
            ready.wait()
            while not release.is_set():  # Python may overlook one that comes just before a wait begins
                os.kill(os.getpid(), signal.SIGINT)
                release.wait(0.1)
        threading.Thread(target=interrupt, daemon=True).start()
        with app:
            result = app.call("hang", 0)
            later = app.call("note", "never")
            later.add_done_callback(lambda _: release.set())
            ready.set()
            {wait}
        """
    )
    assert ended.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in ended.stderr
    assert ended.stdout == ""


# -- forks -----------------------------------------------------------------------------------------------------

FORK = """
import warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # said of every such fork since Python 3.12
def in_child(fn):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            fn()
            sys.stdout.flush()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def test_after_a_fork_the_child_starts_fresh_and_the_parent_goes_on():
    out = passes(
        FORK
        + """
app.register("add", lambda a, b: a + b)
@app.task
async def double(n):
    return 2 * n
task = app.register("plus", lambda a, b: a + b)
executor = app.as_executor()
assert task.call(1, 2).result() == 3 and double.call(2).result() == 4 and executor.submit(int).result() == 0
parents = app.call("add", 1, 1).id
def child():
    assert app.call("add", 2, 3).result(5) == 5
    assert task.call(2, 3).result(5) == 5
    assert double.call(3).result(5) == 6
    assert executor.submit(int, "7").result(5) == 7
    assert app.call("add", 1, 1).id[:20] != parents[:20]
    assert app.allocate("add", 2).count == 2
    with app:
        assert app.call("add", 2, 3).result(5) == 5
    with app:
        assert asyncio.run(main()) == 9
async def main():
    return await app.call("add", 4, 5)
print(in_child(child))
print(app.call("add", 4, 5).result(5), double.call(5).result(5), executor.submit(int, "8").result(5))
app.close()
"""
    )
    assert out.split() == ["0", "9", "10", "8"]


def test_after_a_fork_the_parents_calls_end_in_the_child_and_nothing_of_them_happens_there():
    out = passes(
        FORK
        + """
release, running = threading.Event(), threading.Semaphore(0)
app = dingo.App("local", config=Config(workers=1, max_pending=100))
app.register("hold", lambda: (running.release(), release.wait()))
app.register("note", lambda what: say("ran", what))
app.register("limited", lambda: None, max_concurrency=1)
@app.on_failure
def hook(context, failure):
    say("hook")
calls = [app.call("hold")]
running.acquire()
calls += [app.call("note", n) for n in range(3)]
calls.append(app.options(delay=1000).call("note", "delayed"))
calls.append(app.options(on_error=[dingo.Signature("note", ("followed",))]).call("note", "error"))
calls.append(app.options(id="given").call("note", "given"))
calls.append(app.options(unique="key").call("note", "unique"))
channel = calls[1].reports()
for call in calls:
    call.add_done_callback(lambda result: say("callback"))
def child():
    for call in calls:
        assert call.exception(5).failure.code == "SHUTDOWN", call
        assert call.id
    assert [report.failure.code for report in channel] == ["SHUTDOWN"]
    assert app.pending() == app.delayed() == []
    app.close()
print(in_child(child))
calls[4].cancel()
release.set()
for call in calls[1:]:
    call.wait(5)
app.close()
print(sorted(call.status.name for call in calls))
"""
    )
    lines = out.split("\n")
    assert lines[0] == "0"
    assert lines.count("callback") == 8
    assert sum(line.startswith("ran") for line in lines) == 6
    assert str(["CANCELLED", *["SUCCESS"] * 7]) in lines


def test_forks_in_the_middle_of_a_storm_hang_no_child():
    out = passes(
        FORK
        + """
app.register("t", lambda n: n)
app.register("limited", lambda n: n, max_concurrency=2, retry=1)
@app.task
async def a(n):
    return n
stop = threading.Event()
def storm():
    while not stop.is_set():
        calls = [app.call(name, 1) for name in ("t", "limited", "a") for _ in range(30)]
        [call.id for call in calls]
        [call.result(20) for call in calls]
threads = [threading.Thread(target=storm) for _ in range(3)]
for thread in threads:
    thread.start()
mine = [app.call("t", n) for n in range(10)]
def child():
    assert app.call("t", 1).result(5) == 1
    assert app.options(retry=1).call("limited", 1).result(5) == 1
    assert a.call(2).result(5) == 2
    app.close(5)
print({in_child(child) for _ in range(15)})
stop.set()
for thread in threads:
    thread.join()
app.close()
"""
    )
    assert out == "{0}\n"


def test_a_fork_waits_for_what_another_thread_imports():
    """Else the child would wait for an import that nobody ends there."""
    out = passes(
        FORK
        + """
import importlib.machinery
begun, go_on = threading.Event(), threading.Event()
class Held:
    def find_spec(self, name, path, target=None):
        if name == "dingo.worker.loops":
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (begun.set(), go_on.wait(30), run(module))
            return spec
sys.meta_path.insert(0, Held())
os.register_at_fork(before=go_on.set)
@app.task
async def a(n):
    return n
thread = threading.Thread(target=lambda: a.call(1).result(20))
thread.start()
begun.wait(30)
def child():
    assert a.call(2).result(20) == 2
    app.close(5)
print(in_child(child))
thread.join()
app.close()
"""
    )
    assert out == "0\n"


def test_a_task_may_fork():
    out = passes(
        FORK
        + """
app.register("t", lambda n: n)
@app.task
def forking():
    def child():
        assert dingo.current().id == ""
        assert app.call("t", 5).result(5) == 5
        app.close()
    return in_child(child)
print(forking.call().result(20), app.call("t", 6).result(5))
app.close()
"""
    )
    assert out.split() == ["0", "6"]


def test_a_child_of_a_closed_app_can_open_it():
    out = passes(
        FORK
        + """
app.register("t", lambda n: n)
app.call("t", 1).result()
app.close()
def child():
    try:
        app.call("t", 1)
    except dingo.AppClosed:
        pass
    with app:
        assert app.call("t", 5).result(5) == 5
print(in_child(child))
"""
    )
    assert out.split() == ["0"]
