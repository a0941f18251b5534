"""Tasks that do their worst in a process pool: each harms its own call and no other."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dingo
from dingo import Code, Status

WAIT = 30  # seconds that nothing here ever takes


def touch(path):
    Path(path).write_text(str(os.getpid()))


def swallow_everything(path):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    touch(path)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            continue


def hold_the_gil(path):
    touch(path)
    re.match(r"(a+)+$", "a" * 60 + "b")  # one call into C that takes for ages and lets nobody else run


def stop_itself(path):
    touch(path)
    os.kill(os.getpid(), signal.SIGSTOP)


def grandchildren(path):
    """Leave behind a child of a child in a session of its own, whose parent is gone."""
    script = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(1000)\n"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True)
    time.sleep(1000)


def flood(path):
    touch(path)
    line = "x" * 1023
    for _ in range(2_000):
        print(line)
        print(line, file=sys.stderr)
    return "said"


def large(megabytes: int) -> bytes:
    return bytes(megabytes * 1_000_000)


def segfault(path):
    touch(path)
    ctypes.string_at(0)


def swallow_and_return(path):
    touch(path)
    try:
        sys.exit(3)
    except BaseException:
        return "it goes on"


def pid():
    return os.getpid()


@pytest.fixture(autouse=True)
def nothing_left_running():
    """The app is shared by the tests of this module, and so are its threads."""


@pytest.fixture(scope="module")
def send():
    """Register a function that runs in one of two shared processes."""
    with dingo.App("local", config=dingo.Config(workers=2)) as app:
        app.register("pid", pid, pool="process").call().result(WAIT)

        def send(fn, **options):
            return app.register(fn.__name__, fn, pool="process", replace=True, **options).call

        yield send


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "pid")


def gone(number):
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def wait_for(fact):
    until = time.monotonic() + WAIT
    while not fact():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("fn", [swallow_everything, hold_the_gil, stop_itself, grandchildren])
def test_whatever_a_task_does_its_time_limit_ends_it_and_all_it_has_started(send, path, fn):
    failure = send(fn, timeout=1.0)(path).exception(WAIT).failure
    assert failure.code is Code.TIMEOUT
    number = int(Path(path).read_text())
    wait_for(lambda: gone(number))
    assert send(pid)().result(WAIT) > 0


@pytest.mark.parametrize("fn", [swallow_everything, hold_the_gil])
def test_and_so_does_cancelling(send, path, fn):
    result = send(fn, monitor_progress=True)(path)
    wait_for(lambda: Path(path).exists() and Path(path).read_text())
    assert result.cancel()
    assert result.status is Status.CANCELLED
    wait_for(lambda: gone(int(Path(path).read_text())))


def test_a_task_that_fills_its_output_ends(send, path):
    assert send(flood)(path).result(WAIT) == "said"


def test_two_hundred_megabytes_come_back_while_others_run(send):
    result, others = send(large)(200), [send(pid)() for _ in range(20)]
    assert all(one.result(WAIT) > 0 for one in others)
    assert len(result.result(WAIT)) == 200_000_000


def test_a_crash_in_c_is_poisoned_at_the_third_and_harms_no_other(send, path):
    result, others = send(segfault)(path), [send(pid)() for _ in range(20)]
    assert result.exception(WAIT).failure.code is Code.POISONED
    assert all(one.result(WAIT) > 0 for one in others)


def test_leaving_by_sys_exit_may_be_swallowed(send, path):
    assert send(swallow_and_return)(path).result(WAIT) == "it goes on"
