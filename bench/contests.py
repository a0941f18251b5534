"""What a contestant does for each measure over a broker: one function per kind, each returns figures.

A contestant has one caller process and one worker process, unless the measure says otherwise, and the server for
itself. Before anything is measured, the same work is done in small.
"""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time

from stage import HERE, Crash, Delay, Stage, cpu, resident

WARM_UP = 300
LATENCIES = 300
PROBE = 50
IDLE_SECONDS = 10
SETTLE_SECONDS = 0.3
DELAY_MILLISECONDS = 0.5  # in each direction


def round_trip(peer, servers, jobs):
    """Send jobs one by one and collect all results; then single calls on an idle queue."""
    with _serving(peer, servers) as stage:
        parts = {"caller": [stage.caller.pid], "worker": [stage.worker.pid], "server": servers.pids(peer.broker)}
        before = {part: sum(map(cpu, pids)) for part, pids in parts.items()}
        seconds = stage.tell("burst", jobs)["seconds"]
        used = {part: (sum(map(cpu, pids)) - before[part]) / jobs * 10_000 for part, pids in parts.items()}
        times = sorted(stage.tell("latencies", min(LATENCIES, jobs))["times"])
    return {
        "per_second": jobs / seconds,
        "cpu": sum(used.values()),
        **{f"cpu_{part}": value for part, value in used.items()},
        "p50": times[len(times) // 2] * 1e3,
        "p99": times[len(times) * 99 // 100] * 1e3,
    }


def delayed(peer, servers, jobs):
    """Send jobs one by one and collect all results over a slow network; nobody's server is near."""
    with _serving(peer, servers, delay=DELAY_MILLISECONDS) as stage:
        return {"per_second": jobs / stage.tell("burst", jobs)["seconds"]}


def bulk(peer, servers, jobs):
    """Make the round trip call by call, by `call_many` and by `map`."""
    with _serving(peer, servers) as stage:
        figures = {verb: jobs / stage.tell(verb, jobs)["seconds"] for verb in ("burst", "call_many", "map")}
    figures["call_many_ratio"] = figures["call_many"] / figures["burst"]
    figures["map_ratio"] = figures["map"] / figures["burst"]
    return figures


@contextlib.contextmanager
def _serving(peer, servers, **options):
    """Set a stage on which caller and worker are warm."""
    with Stage(peer, servers, **options) as stage:
        stage.worker = stage.start_worker()
        stage.start_caller()
        stage.tell("burst", 1)
        stage.tell("burst", WARM_UP)
        yield stage


def drain(peer, servers, jobs):
    """Send jobs to a stopped worker, then let it go; the same with two. Nobody wants results.

    Stopped by a signal, a worker is warm and connected, and holds what it had fetched, which is little.
    """
    with Stage(peer, servers, marks=2 * jobs + 200 * PROBE, results=False) as stage:
        stage.start_caller()
        workers = [stage.start_worker()]
        stage.tell("enqueue", PROBE, 2 * jobs)
        stage.wait_for_marks(2 * jobs, PROBE)
        one, enqueue_one = _drained(stage, workers, 0, jobs)
        _add_worker(stage, workers, 2 * jobs + PROBE)
        two, enqueue_two = _drained(stage, workers, jobs, jobs)
    return {"enqueue": statistics.mean((enqueue_one, enqueue_two)), "one": one, "two": two}


def _drained(stage, workers, first, jobs):
    """Let warm workers drain a queue; return how many jobs a second they ran, and were sent before."""
    _signal(workers, signal.SIGSTOP)
    seconds = stage.tell("enqueue", jobs, first)["seconds"]
    start = time.perf_counter()
    _signal(workers, signal.SIGCONT)
    stage.wait_for_marks(first, jobs)
    return jobs / (time.perf_counter() - start), jobs / seconds


def _signal(workers, number):
    if number == signal.SIGSTOP:
        time.sleep(SETTLE_SECONDS)  # who has run its last job has yet to acknowledge it, perhaps under a lock
    for worker in workers:
        os.killpg(worker.pid, number)


def _add_worker(stage, workers, first):
    """Start one more worker, and wait until it has run a job while the others were stopped."""
    _signal(workers, signal.SIGSTOP)
    new = stage.start_worker()
    until = time.perf_counter() + 60
    sent = 0
    while not stage.marked(first, sent):  # the first probes may all be with the one that is stopped
        if time.perf_counter() > until or new.poll() is not None:
            raise Crash(f"the second worker of {stage.peer.name} runs nothing: {stage.said('worker')}")
        stage.tell("enqueue", PROBE, first + sent)
        sent += PROBE
        time.sleep(0.5)
    _signal(workers, signal.SIGCONT)
    workers.append(new)
    stage.wait_for_marks(first, sent)


def start(peer, servers, jobs):
    """Time a worker's process from its start until it has run the job that waited for it."""
    del jobs
    with Stage(peer, servers, results=False) as stage:
        stage.start_caller()
        stage.tell("enqueue", 1)
        began = time.perf_counter()
        stage.start_worker()
        stage.wait_for_marks(0, 1)
        return {"seconds": time.perf_counter() - began}


def idle(peers, servers, jobs):
    """Let workers that have run some jobs do nothing, all contestants' at the same time."""
    del jobs
    with contextlib.ExitStack() as stages:
        workers = {}
        for peer in peers:
            workers[peer.name] = stages.enter_context(_serving(peer, servers)).worker.pid
        time.sleep(1)
        before = {name: cpu(pid) for name, pid in workers.items()}
        time.sleep(IDLE_SECONDS)
        return {
            name: {"cpu": (cpu(pid) - before[name]) / IDLE_SECONDS * 100, "resident": resident(pid) / 1e6}
            for name, pid in workers.items()
        }


def million(peer, servers, jobs):
    """Claim from a queue where next to nothing waits, then from one where very much does."""
    with Stage(peer, servers, results=False) as stage:
        stage.start_caller()
        before = stage.tell("memory")["peak"]
        stage.tell("enqueue", 2000)
        short = _claims(stage)
        answer = stage.tell("enqueue", jobs)
        long = _claims(stage)
    return {
        "enqueue": jobs / answer["seconds"],
        "growth": (answer["peak"] - before) / 1e6,
        "short_p50": short["p50"],
        "short_p99": short["p99"],
        "long_p50": long["p50"],
        "long_p99": long["p99"],
        "p99_ratio": long["p99"] / short["p99"],
    }


def _claims(stage):
    """Claim by dingo's consumer in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(HERE / "claims.py")], env=stage.environment, cwd=stage.place,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Crash(f"claiming failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def proxy_note(servers):
    """Measure what the slow network costs by itself: a question at a time, and as many as go through."""
    delay = Delay(servers.redis.port, DELAY_MILLISECONDS)
    try:
        near, far = _pings(servers.redis.port), _pings(delay.port)
    finally:
        delay.close()
    return (
        f"{DELAY_MILLISECONDS} ms are added in each direction. A PING to Redis takes {far[0]:.2f} ms through the proxy "
        f"({near[0]:.2f} ms without); PINGs sent without waiting pass at {far[1]:,.0f} a second "
        f"({near[1]:,.0f} without)"
    )


def _pings(port, single=300, many=100_000):
    """Return the median milliseconds of a PING, and how many pass per second when nobody waits for answers."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(single):
            began = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(100)
            times.append(time.perf_counter() - began)
        began = time.perf_counter()
        left = many * len(b"+PONG\r\n")
        for _ in range(many // 1000):
            connection.sendall(b"PING\r\n" * 1000)
        while left:
            left -= len(connection.recv(2**20))
        return statistics.median(times) * 1e3, many / (time.perf_counter() - began)


KINDS = {
    "round trip": round_trip,
    "delayed": delayed,
    "bulk": bulk,
    "drain": drain,
    "start": start,
    "million": million,
}
