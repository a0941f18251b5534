"""Run one measure of one contestant in this process and print its figures as one line of JSON.

    python bench/contestants.py MEASURE CONTESTANT [--quick]

`local.py` starts this once for each contestant in each round. By hand it serves to look at one alone,
under a profiler for example. It prints {"figures": {...}, "note": "..."}, or {"skipped": "..."} if the
contestant's library is not installed. A wrong sum of results is an error: nobody wins by dropping work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from measures import BY_NAME
from pools import GATE, POOLS, gated_add

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = {"joblib", "huey", "taskiq"}
WARM_UP = 500
CALLERS = 4
CALLER_WINDOW = 50
GATHER_WIDTH = 1_000
STEADY_WINDOW = 1_000
UNWANTED = ("kombu", "redis", "amqp", "rich", "typer", "click")
IMPORTS = {
    "dingo": ("import dingo", "dingo.App()"),
    "stdlib": ("import concurrent.futures, asyncio", "concurrent.futures.ThreadPoolExecutor(2)"),
}


def check(total, expected):
    if total != expected:
        raise RuntimeError(f"the results sum up to {total}, not to {expected}")


def sum_of(jobs):
    """Sum up what add(i, i) returns for i below `jobs`."""
    return jobs * (jobs - 1)


def resident():
    """Count the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def burst(pool, jobs):
    pool.burst(WARM_UP)
    start = time.perf_counter()
    total = pool.burst(jobs)
    seconds = time.perf_counter() - start
    check(total, sum_of(jobs))
    return {"per_second": jobs / seconds}


def callers(pool, jobs):
    pool.burst(WARM_UP)
    windows = jobs // (CALLERS * CALLER_WINDOW)
    with ThreadPoolExecutor(CALLERS) as threads:
        start = time.perf_counter()
        running = [threads.submit(_caller, pool, windows) for _ in range(CALLERS)]
        total = sum(caller.result() for caller in running)
        seconds = time.perf_counter() - start
    check(total, CALLERS * windows * sum_of(CALLER_WINDOW))
    return {"per_second": CALLERS * windows * CALLER_WINDOW / seconds}


def _caller(pool, windows):
    return sum(pool.burst(CALLER_WINDOW) for _ in range(windows))


def latency(pool, jobs):
    pool.latencies(WARM_UP)
    times, total = pool.latencies(jobs)
    check(total, sum_of(jobs))
    times.sort()
    return {"p50": times[jobs // 2] / 1e3, "p99": times[jobs * 99 // 100] / 1e3}


def gather(pool, jobs):
    pool.gather(GATHER_WIDTH, GATHER_WIDTH)
    start = time.perf_counter()
    total = pool.gather(jobs, GATHER_WIDTH)
    seconds = time.perf_counter() - start
    check(total, sum_of(jobs))
    return {"per_second": jobs / seconds}


def memory(pool, jobs):
    GATE.set()
    pool.burst(WARM_UP)
    GATE.clear()
    handles = [None] * jobs
    submit = pool.submit
    before = resident()
    for i in range(jobs):
        handles[i] = submit(i, i)
    after = resident()
    GATE.set()
    check(sum(map(pool.read, handles)), sum_of(jobs))
    return {"bytes": (after - before) / jobs}


def steadiness(pool, jobs):
    windows = jobs // STEADY_WINDOW
    for window in range(1, windows + 1):
        check(pool.burst(STEADY_WINDOW), sum_of(STEADY_WINDOW))
        if window == windows // 10:
            early = resident()
    late = resident()
    return {"early": early / 2**20, "late": late / 2**20, "growth": (late - early) / 2**20}


def imports(contestant, interpreters):
    """Time the import inside fresh interpreters: the start of Python itself is not counted."""
    statement, creation = IMPORTS[contestant]
    _fresh(statement, creation)
    figures = {
        "import": statistics.median(_fresh(statement)["ms"] for _ in range(interpreters)),
        "ready": statistics.median(_fresh(statement, creation)["ms"] for _ in range(interpreters)),
    }
    if contestant != "dingo":
        return figures, ""
    found = _fresh(statement)["unwanted"]
    note = f"`{statement}` imports none of {', '.join(UNWANTED)}"
    if found:
        note = f"`{statement}` imports {', '.join(found)}"
    return figures | {"unwanted": len(found)}, note


def _fresh(*statements):
    """Run the statements in a new interpreter that has imported nothing beyond its own start."""
    code = "\n".join(
        (
            "import sys, time",
            f"sys.path.insert(0, {str(ROOT)!r})",
            "start = time.perf_counter()",
            *statements,
            "ms = (time.perf_counter() - start) * 1e3",
            f"found = [name for name in {UNWANTED!r} if name in sys.modules]",
            "import json, os",
            "print(json.dumps({'ms': ms, 'unwanted': found}), flush=True)",
            "os._exit(0)",
        ),
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{'; '.join(statements)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


KINDS = {
    "burst": burst,
    "callers": callers,
    "latency": latency,
    "gather": gather,
    "memory": memory,
    "steadiness": steadiness,
}


def run(measure, contestant, *, quick):
    jobs = measure.jobs_of(contestant, quick=quick)
    if measure.kind == "imports":
        figures, note = imports(contestant, jobs)
        return {"figures": figures, "note": note}
    options = {"function": gated_add} if measure.kind == "memory" else {}
    try:
        pool = POOLS[contestant](measure.workers, **options)
    except ModuleNotFoundError as error:
        if error.name in OPTIONAL:
            return {"skipped": f"{error.name} is not installed"}
        raise
    figures = KINDS[measure.kind](pool, jobs)
    pool.close()
    return {"figures": figures, "note": pool.note}


def main():
    parser = argparse.ArgumentParser(description="Run one measure of one contestant.")
    parser.add_argument("measure", choices=BY_NAME)
    parser.add_argument("contestant")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls")
    options = parser.parse_args()
    measure = BY_NAME[options.measure]
    if options.contestant not in measure.contestants:
        parser.error(f"{measure.name} is run by {', '.join(measure.contestants)}")
    sys.path.insert(0, str(ROOT))
    print(json.dumps(run(measure, options.contestant, quick=options.quick)), flush=True)


if __name__ == "__main__":
    main()
