"""What dingo must withstand, one function for each fault; small in the tests, in full in `make chaos`.

Each makes its faults on a ground of its own, while or before jobs are done, and counts what came of them.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground import PATIENCE, SETTLED, Ground
from proxy import Proxy

import dingo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOTICED = 30.0  # how long a fault may go unnoticed (seconds)
CONSUMING = 10.0  # how long after its return a broker may wait for its workers (seconds)
# Threads that are started when they are needed first, and descriptors of theirs, may come late. So may two connections
# whose loss nobody has noticed half-way: each has three descriptors here, and the two of the proxy are gone at once.
# What is left behind by every lost connection is more than so many.
LATE = 9


@dataclass
class Outcome:
    """What came of a scenario. `unexplained`: jobs run twice that no fault accounts for; `amiss`: whatever else."""

    scenario: str
    broker: str
    jobs: int = 0
    faults: int = 0
    lost: int = 0
    wrong: int = 0
    twice: int = 0
    unexplained: int = 0
    seconds: float = 0.0
    figures: str = ""
    amiss: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.wrong or self.unexplained or self.amiss)

    def expect(self, fact: object, otherwise: str) -> None:
        """Note what should be so and is not."""
        if not fact:
            self.amiss.append(otherwise)


def count(
    outcome: Outcome, ground: Ground, results: Sequence[dingo.Result[Any]], patience: float = PATIENCE
) -> Outcome:
    """Wait for the results of `double` or `long`, and count what is lost, wrong, and run twice."""
    until = time.monotonic() + patience
    outcome.jobs = len(results)
    for number, result in enumerate(results):
        if not result.wait(max(0.0, until - time.monotonic())):
            outcome.lost += 1
        elif result.status is not dingo.Status.SUCCESS or result.result() != 2 * number:
            outcome.wrong += 1
    return count_runs(outcome, ground)


def count_runs(outcome: Outcome, ground: Ground) -> Outcome:
    """Count what was run twice, and that without need: none of those that ran it was killed."""
    runs = ground.runs()
    outcome.twice = sum(len(pids) - 1 for pids in runs.values())
    outcome.unexplained = sum(len(pids) > 1 and not ground.killed & {*pids} for pids in runs.values())
    return outcome


def kill_workers(ground: Ground, jobs: int, kills: int) -> Outcome:
    """Workers get SIGKILL while they work."""
    outcome = Outcome("worker SIGKILL", ground.kind, faults=kills)
    began = time.monotonic()
    for _ in range(2):
        ground.start_worker()
    app = ground.app()
    results: list[dingo.Result[Any]] = []
    met = 0
    for kill in range(kills):  # the work comes in parts, so that every kill meets some
        part = [app.call("double", number) for number in range(len(results), jobs * (kill + 1) // kills)]
        part[len(part) // 3].wait(PATIENCE)
        ground.kill_worker(ground.workers[0])
        met += not all(result.done() for result in part)
        results += part
        ground.start_worker()
    outcome.expect(met > kills / 2, f"only {met} of {kills} kills met any work")
    count(outcome, ground, results, 3 * PATIENCE)
    if ground.kind == "amqp":  # killed between copying a task back and acknowledging it, one leaves both
        outcome.figures = f"{outcome.unexplained} of them from copies that were being put back"
        outcome.unexplained = 0
    outcome.seconds = time.monotonic() - began
    return outcome


CALLER = """
import sys, time
import dingo

app = dingo.App(config=dingo.Config(queue=sys.argv[2]))
app.register("double", lambda number: None)
for number in range(int(sys.argv[1])):
    app.call("double", number)
assert app.flush(30)
print("sent", flush=True)
time.sleep(600)
"""


def kill_caller(ground: Ground, jobs: int) -> Outcome:
    """A caller gets SIGKILL when its calls are sent; then a worker is started."""
    outcome = Outcome("caller SIGKILL", ground.kind, jobs, 1)
    began = time.monotonic()
    environment = {
        **os.environ, "DINGO_BROKER": ground.url, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(jobs), ground.queue], env=environment, stdout=subprocess.PIPE
    )
    assert caller.stdout is not None
    outcome.expect(caller.stdout.readline() == b"sent\n", "the caller did not get its calls sent")
    caller.kill()
    caller.communicate()
    ground.start_worker()
    ground.wait_for(lambda: len(ground.runs()) == jobs)
    outcome.lost = jobs - len(ground.runs())
    count_runs(outcome, ground)
    outcome.seconds = time.monotonic() - began
    return outcome


def restart_broker(ground: Ground, jobs: int, times: int) -> Outcome:
    """The server is killed under load and started again, with calls made while it is away."""
    outcome = Outcome("broker SIGKILL", ground.kind, faults=times)
    began = time.monotonic()
    for _ in range(2):
        ground.start_worker()
    app = ground.app(send_timeout_seconds=PATIENCE)
    results = [app.call("double", 0)]
    outcome.expect(results[0].wait(PATIENCE), "the first call was not done")
    if ground.kind == "amqp":
        time.sleep(SETTLED)
    slowest = 0.0
    for restart in range(times):
        part = [app.call("double", n) for n in range(len(results), jobs * (restart + 1) // times)]
        results += part
        part[len(part) // 5].wait(PATIENCE)
        ground.server.kill()
        results += [app.call("double", n) for n in range(len(results), len(results) + 10)]
        ground.server.start()
        back = time.monotonic()
        ground.wait_for(results[-1].done)
        slowest = max(slowest, time.monotonic() - back)
    outcome.expect(slowest < CONSUMING, f"consuming again only after {slowest:.1f} s")
    outcome.figures = f"consuming again within {slowest:.1f} s"
    count(outcome, ground, results)
    outcome.unexplained = 0  # whatever ran when the server died may be run again
    outcome.seconds = time.monotonic() - began
    return outcome


def freeze_worker(ground: Ground, tasks: int = 4) -> Outcome:
    """A worker is frozen, its tasks are taken over; then it wakes, and reports late."""
    outcome = Outcome("worker SIGSTOP", ground.kind, tasks, 1)
    began = time.monotonic()
    frozen = ground.start_worker()
    app = ground.app()
    path = str(ground.place / "gate")
    results = [app.call("gate", number, path) for number in range(tasks)]
    outcome.expect(ground.wait_for(lambda: len(ground.runs()) == tasks), "the tasks did not start")
    frozen.send_signal(signal.SIGSTOP)
    since = time.monotonic()
    other = ground.start_worker()
    taken = ground.wait_for(lambda: any(other.pid in pids for pids in ground.runs().values()))
    outcome.figures = f"taken over after {time.monotonic() - since:.1f} s"
    outcome.expect(taken, "nobody took over")
    (ground.place / "gate").touch()
    outcome.lost = sum(not result.wait(PATIENCE) for result in results)
    outcome.wrong = sum(result.done() and result.result() != other.pid for result in results)
    frozen.send_signal(signal.SIGCONT)
    ground.end_worker(other)
    late = app.call("double", tasks)
    outcome.expect(late.wait(PATIENCE) and late.result() == 2 * tasks, "who was frozen does not work again")
    if ground.kind != "amqp":
        kept = [app.result(result.id).result(PATIENCE) for result in results]
        outcome.expect(kept == [other.pid] * tasks, "a late report changed a result")
    count_runs(outcome, ground)
    outcome.unexplained = outcome.twice - tasks  # each was run twice, and that is right
    outcome.seconds = time.monotonic() - began
    return outcome


def black_hole(ground: Ground, *, worker: bool, patience: float = NOTICED) -> Outcome:
    """Nothing comes through any more to or from the worker, or the caller, and no connection is closed."""
    who = "worker" if worker else "caller"
    outcome = Outcome(f"black hole at {who}", ground.kind, faults=1)
    began = time.monotonic()
    proxy = Proxy(ground.server.port)
    there, here = (proxy.url(ground.url), ground.url) if worker else (ground.url, proxy.url(ground.url))
    serving = dingo.App(there, config=dingo.Config(queue=ground.queue, lease_seconds=30.0))
    serving.register("double", lambda number: number * 2)
    try:
        app = ground.app(url=here)
        events = (serving if worker else app).listen(level=dingo.Level.INFO)
        serving.start_worker()
        results = [app.call("double", 0)]
        outcome.expect(results[0].wait(PATIENCE), "the first call was not done")
        proxy.hold()
        since = time.monotonic()
        results += [app.call("double", number) for number in range(1, 20)]
        outcome.expect(_comes(events, "connection.lost", patience), "the black hole went unnoticed")
        outcome.figures = f"noticed after {time.monotonic() - since:.1f} s"
        proxy.open()
        since = time.monotonic()
        outcome.expect(_comes(events, "connection.restored", patience), "it does not come back")
        count(outcome, ground, results)
        outcome.figures += f", all done {time.monotonic() - since:.1f} s after it opened"
        serving.close(5)
    finally:
        serving.close(1)
        for one in ground.apps():
            one.close(5)
        proxy.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def _comes(events: dingo.Subscription, code: str, patience: float) -> bool:
    until = time.monotonic() + patience
    while (left := until - time.monotonic()) > 0:
        try:
            if events.get(left).code == code:
                return True
        except TimeoutError:
            break
    return False


def drop_connections(ground: Ground, times: int) -> Outcome:
    """All connections are reset, again and again; nothing is left of them."""
    outcome = Outcome("connections reset", ground.kind, faults=times)
    began = time.monotonic()
    proxy = Proxy(ground.server.port)
    config: dict[str, Any] = {
        "reconnect": dingo.config.Reconnect.of("fixed,base=0.01"),
        "send_timeout_seconds": PATIENCE,
    }
    serving = dingo.App(proxy.url(ground.url), config=dingo.Config(queue=ground.queue, **config))
    serving.register("double", lambda number: number * 2)
    try:
        app = ground.app(url=proxy.url(ground.url), **config)
        serving.start_worker()
        results: list[dingo.Result[Any]] = []
        allowed = before = (0, 0)
        for drop in range(times + 1):
            results += [app.call("double", number) for number in range(len(results), len(results) + 5)]
            outcome.expect(results[-1].wait(PATIENCE), f"no result after drop {drop}")
            if drop == times // 2:  # by now most threads that are started when they are needed first have been
                before = _settled_census(lambda: None)
                allowed = (before[0] + LATE, before[1] + LATE)
            if drop < times:
                proxy.cut()
        after = _settled_census(lambda: allowed)
        fits = after[0] <= allowed[0] and after[1] <= allowed[1]
        outcome.expect(fits, f"descriptors, threads {before} before and {after} after")
        outcome.figures = f"descriptors, threads: {before} half-way, {after} at the end"
        count(outcome, ground, results)
    finally:
        serving.close(5)
        for one in ground.apps():
            one.close(5)
        proxy.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def _census() -> tuple[int, int]:
    """How many files and threads this process has."""
    gc.collect()
    return len([*Path("/proc/self/fd").iterdir()]), threading.active_count()


def _settled_census(expected: Callable[[], tuple[int, int] | None]) -> tuple[int, int]:
    """Count until it is as expected, or twice the same some time apart."""
    until = time.monotonic() + 5.0
    seen = _census()
    while time.monotonic() < until:
        time.sleep(0.2)
        now = _census()
        want = expected()
        if (want is None and now == seen) or (want is not None and now[0] <= want[0] and now[1] <= want[1]):
            return now
        seen = now
    return seen


OLD = """
import dingo

app = dingo.App(config=dingo.Config(lease_seconds=3.0))
app.register("old", lambda number: number)
"""
NEW = (
    OLD
    + """
app.register("new", lambda number: 2 * number)
"""
)


def two_versions(ground: Ground, jobs: int, seconds: float) -> Outcome:
    """A queue holds tasks that the only worker does not know; after some time one comes that does."""
    outcome = Outcome("two versions", ground.kind, jobs)
    began = time.monotonic()
    (ground.place / "old.py").write_text(OLD)
    (ground.place / "new.py").write_text(NEW)
    older = ground.start_worker(module="old")
    app = ground.app()
    app.register("new", lambda number: None)
    app.register("old", lambda number: None)
    results = [app.call("new", number) for number in range(jobs)]
    outcome.expect(app.call("old", 1).wait(PATIENCE), "the worker does not do what it knows")
    before = _cpu(older.pid)
    time.sleep(seconds)  # what is measured is what happens in this time
    spent = (_cpu(older.pid) - before) / seconds
    outcome.figures = f"{100 * spent:.1f} % of a core spent on {jobs} parked tasks"
    outcome.expect(spent < 0.3, f"a hot loop: {spent:.2f} of a core")
    outcome.expect(app.call("old", 2).wait(PATIENCE), "the worker does not do what it knows any more")
    ground.start_worker(module="new")
    count(outcome, ground, results, 3 * PATIENCE)  # the older one still takes its turns
    outcome.seconds = time.monotonic() - began
    return outcome


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def many_at_once(ground: Ground, jobs: int) -> Outcome:
    """One caller makes so many calls at once, without waiting for any."""
    outcome = Outcome("calls at once", ground.kind)
    began = time.monotonic()
    ground.start_worker()
    app = ground.app(send_timeout_seconds=3 * PATIENCE)
    results = [app.call("double", number) for number in range(jobs)]
    count(outcome, ground, results, 3 * PATIENCE)
    outcome.seconds = time.monotonic() - began
    return outcome


def empty_broker(ground: Ground, jobs: int) -> Outcome:
    """Redis comes back without anything it had; nobody is told, but the caller still waits and the worker is there."""
    outcome = Outcome("started empty", ground.kind, faults=1)
    began = time.monotonic()
    app = ground.app(send_timeout_seconds=PATIENCE)
    app.register("double", lambda number: None, replace=True)
    once = app.register("once", lambda: None, redeliver=False)
    events = app.listen(level=dingo.Level.ERROR)
    results = [app.call("double", number) for number in range(jobs)]
    never = once.call()
    outcome.expect(app.flush(PATIENCE), "not all calls were sent")
    ground.server.kill()
    ground.server.start()
    worker = ground.start_worker()
    count(outcome, ground, results)
    outcome.expect(_comes(events, "broker.forgot", 1.0), "there is no event")
    outcome.expect(never.wait(PATIENCE), "what must not run twice never ended")
    if never.done():
        outcome.expect(never.last.failure.code == "WORKER_LOST", f"what must not run twice ended {never.last}")
    ground.server.kill()  # and once more, under the worker
    ground.server.start()
    outcome.expect(app.call("double", jobs).wait(PATIENCE), "the worker does not go on")
    outcome.expect(worker.poll() is None, "the worker has ended")
    outcome.seconds = time.monotonic() - began
    return outcome


def full_memory(ground: Ground, jobs: int) -> Outcome:
    """Redis reaches its `maxmemory`: calls wait, workers go on, and what they free takes the next calls."""
    import redis

    outcome = Outcome("memory full", ground.kind, faults=1)
    began = time.monotonic()
    app = ground.app(send_timeout_seconds=PATIENCE)
    events = app.listen(level=dingo.Level.WARNING)
    with redis.Redis.from_url(ground.url) as client:
        results = [app.call("double", number) for number in range(jobs)]
        outcome.expect(app.flush(PATIENCE), "the first calls were not sent")
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        results += [app.call("double", number) for number in range(jobs, 2 * jobs)]
        event = events.get(PATIENCE)
        outcome.expect("maxmemory" in event.message, f"the event does not name the cause: {event.message}")
        outcome.expect(results[-1].status is dingo.Status.PENDING, "a call counts as sent that was not")
        ground.start_worker()
        outcome.expect(results[jobs - 1].wait(PATIENCE), "the worker does not go on")
        client.config_set("maxmemory", 0)
    count(outcome, ground, results)
    outcome.seconds = time.monotonic() - began
    return outcome


class NotPossibleError(Exception):
    """This machine, or this user, cannot make such a fault."""


@contextlib.contextmanager
def _mounted(place: Path, *options: str) -> Iterator[None]:
    """Mount something at a place while the context lasts."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossibleError(f"mounting needs root: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def full_disk(ground: Ground, jobs: int) -> Outcome:
    """The disk under the SQLite file is full, for callers and workers; then there is room again."""
    outcome = Outcome("disk full", ground.kind, faults=1)
    began = time.monotonic()
    disk = ground.place / "disk"
    with _mounted(disk, "-t", "tmpfs", "-o", "size=16m", "none"):
        ground.url = f"sqlite:///{disk}/jobs.db"
        worker = ground.start_worker()
        app = ground.app(send_timeout_seconds=PATIENCE)
        events = app.listen(level=dingo.Level.WARNING)
        results = [app.call("double", number) for number in range(jobs)]
        outcome.expect(results[-1].wait(PATIENCE), "the first calls were not done")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        # What the file has free is used up first; each of these takes a page.
        results += [app.options(headers={"x": "x" * 3000}).call("double", n) for n in range(jobs, 2 * jobs)]
        outcome.expect(_says(events, "full", PATIENCE), "nothing says that the disk is full")
        filler.unlink()
        count(outcome, ground, results)
        outcome.expect(worker.poll() is None, "the worker has ended")
        app.close(5)
        ground.end_worker(worker)
    outcome.seconds = time.monotonic() - began
    return outcome


def _says(events: dingo.Subscription, text: str, patience: float) -> bool:
    until = time.monotonic() + patience
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(TimeoutError):
            if text in events.get(left).message:
                return True
    return False


def locked_file(ground: Ground, jobs: int, seconds: float) -> Outcome:
    """Another program keeps the SQLite file locked, for longer than anybody waits and than a lease."""
    outcome = Outcome("file locked", ground.kind, faults=1)
    began = time.monotonic()
    for _ in range(2):
        ground.start_worker()
    app = ground.app(send_timeout_seconds=PATIENCE)
    results = [app.call("long", number, seconds / 2) for number in range(2)]
    outcome.expect(ground.wait_for(lambda: len(ground.runs()) == 2), "the tasks did not start")
    other = sqlite3.connect(ground.place / "jobs.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    results += [app.call("double", number) for number in range(2, jobs)]
    time.sleep(seconds)  # the fault takes its time
    other.execute("ROLLBACK")
    other.close()
    count(outcome, ground, results)
    outcome.seconds = time.monotonic() - began
    return outcome


def read_only(ground: Ground) -> Outcome:
    """The SQLite file is where nobody may write: who starts is told so, and nothing hangs."""
    outcome = Outcome("read-only directory", ground.kind, 1, 1)
    began = time.monotonic()
    place = ground.place / "fixed"
    with _mounted(place, "-t", "tmpfs", "-o", "ro", "none"):
        ground.url = f"sqlite:///{place}/jobs.db"
        worker = ground.start_worker(ready=False)
        outcome.expect(worker.wait(PATIENCE) == 3, f"the worker ends with {worker.returncode}")
        app = ground.app(send_timeout_seconds=1.0)
        result = app.call("double", 1)
        outcome.expect(result.wait(PATIENCE), "the call hangs")
        said = str(result.exception(0)) if result.done() else ""
        outcome.expect("write" in said and str(place) in said, f"the error does not tell: {said}")
        app.close(5)
    outcome.seconds = time.monotonic() - began
    return outcome


def killed_writers(ground: Ground, numbers: Sequence[int]) -> Outcome:
    """A worker is killed before its n-th write to the SQLite file, for every n."""
    if shutil.which("strace") is None:
        raise NotPossibleError("strace is not installed")
    outcome = Outcome("killed between writes", ground.kind)
    began = time.monotonic()
    app = ground.app(send_timeout_seconds=PATIENCE)
    results: list[dingo.Result[Any]] = []
    for number in numbers:
        results += [app.call("double", n) for n in range(len(results), len(results) + 4)]
        calls = "pwrite64,fdatasync,ftruncate"
        worker = ground.start_worker(ready=False, before=(
            "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e",
            f"inject={calls}:signal=SIGKILL:when={number}",
        ))  # fmt: skip
        ground.wait_for(lambda worker=worker, last=results[-1]: worker.poll() is not None or last.done(), 20.0)
        outcome.faults += worker.poll() is not None
        ground.end_worker(worker)
    ground.start_worker()
    count(outcome, ground, results)
    outcome.unexplained = 0  # the processes that were killed are strace's children: it is not known which
    with sqlite3.connect(ground.place / "jobs.db") as connection:
        outcome.expect(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), "the file is damaged")
        left = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        outcome.expect(left == 0, f"{left} tasks are still there")
    connection.close()
    outcome.seconds = time.monotonic() - began
    return outcome


def stepped_clocks(ground: Ground, jobs: int, steps: Sequence[int]) -> Outcome:
    """The clock of one of two workers is stepped, by so many seconds, while tasks run longer than a lease."""
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        raise NotPossibleError("faketime is not installed")
    outcome = Outcome("clock stepped", ground.kind, faults=len(steps))
    began = time.monotonic()
    clock = ground.place / "clock"
    clock.write_text("+0\n")
    ground.start_worker(
        LD_PRELOAD=str(libraries[0]), FAKETIME_TIMESTAMP_FILE=str(clock), FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    ground.start_worker()
    app = ground.app(send_timeout_seconds=PATIENCE)
    results: list[dingo.Result[Any]] = []
    for step in steps:
        part = [app.call("long", len(results) + n, 4.5 if n < 6 else 0.0) for n in range(jobs // len(steps))]
        results += part
        ground.wait_for(lambda last=len(results): len(ground.runs()) >= last - jobs // len(steps) + 4)
        clock.write_text(f"{step:+d}\n")
        dingo.wait(part, timeout=PATIENCE)
    count(outcome, ground, results)
    outcome.seconds = time.monotonic() - began
    return outcome


def long_tasks(ground: Ground, tasks: int, seconds: float) -> Outcome:
    """Tasks run longer than RabbitMQ lets anybody keep a message, and others wait for their turn meanwhile."""
    outcome = Outcome("consumer_timeout", ground.kind)
    began = time.monotonic()
    for _ in range(2):
        ground.start_worker()
    app = ground.app()
    count(outcome, ground, [app.call("long", number, seconds) for number in range(tasks)], seconds * tasks + PATIENCE)
    outcome.seconds = time.monotonic() - began
    return outcome
