"""Without a server: dingo over an SQLite file against huey's SqliteHuey, in one run.

What it measures: a caller process sends jobs `add(i, i)` one by one and collects every result from one worker
process with 4 threads. dingo acknowledges after the run and flushes every commit to the disk (`synchronous=FULL`,
survives a power cut); huey takes a job out of the file before it runs it (a killed worker loses it) and is
configured as its documentation does (`fsync=False`). Each contestant has its own processes and its own file; the
rounds take turns.

Run:
    python bench/sqlite.py [--rounds 3] [--jobs 20000]

Prints a table: jobs per second (median of the rounds), and the time of a single call on an idle queue.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

DINGO_TASKS = """
import dingo
app = dingo.App()
@app.task
def add(a: int, b: int) -> int:
    return a + b
"""
DINGO_CALLER = """
import json, sys, time
from jobs import app
count = int(sys.argv[1])
with app:
    app.call("add", 1, 2).result(30)
    began = time.perf_counter()
    results = [app.call("add", i, i) for i in range(count)]
    assert sum(result.result(120) for result in results) == count * (count - 1)
    seconds = time.perf_counter() - began
    times = []
    for _ in range(300):
        one = time.perf_counter()
        app.call("add", 1, 2).result(30)
        times.append(time.perf_counter() - one)
print(json.dumps({"rate": count / seconds, "p50": sorted(times)[150], "p99": sorted(times)[297]}))
"""
HUEY_TASKS = """
from huey import SqliteHuey
huey = SqliteHuey(filename="jobs.db")
@huey.task()
def add(a, b):
    return a + b
"""
HUEY_CALLER = """
import json, sys, time
from jobs import add
count = int(sys.argv[1])
add(1, 2)(blocking=True)
began = time.perf_counter()
results = [add(i, i) for i in range(count)]
assert sum(result(blocking=True, backoff=1, max_delay=0.005) for result in results) == count * (count - 1)
seconds = time.perf_counter() - began
times = []
for _ in range(50):
    one = time.perf_counter()
    add(1, 2)(blocking=True, backoff=1, max_delay=0.001)
    times.append(time.perf_counter() - one)
print(json.dumps({"rate": count / seconds, "p50": sorted(times)[25], "p99": sorted(times)[49]}))
"""
HUEY_WORKER = [sys.executable, "-m", "huey.bin.huey_consumer", "jobs.huey", "-w", "4", "-k", "thread", "-d", "0.001",
               "-m", "0.01", "-q"]  # fmt: skip
DINGO_WORKER = [sys.executable, "-m", "dingo", "worker", "jobs:app", "-c", "4"]

# A slow peer sends fewer jobs: a rate needs no more.
CONTESTANTS = {
    "dingo": (DINGO_TASKS, DINGO_CALLER, DINGO_WORKER, 1.0),
    "huey SqliteHuey": (HUEY_TASKS, HUEY_CALLER, HUEY_WORKER, 0.1),
}


def measure(name: str, jobs: int) -> dict[str, float]:
    """Run one contestant once, in a folder of its own."""
    tasks, caller, worker, share = CONTESTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.py").write_text(tasks)
        environment = {**os.environ, "DINGO_BROKER": f"sqlite:///{folder}/dingo.db", "PYTHONPATH": folder}
        serving = subprocess.Popen(
            worker, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            done = subprocess.run(
                [sys.executable, "-c", caller, str(int(jobs * share))],
                cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=300,
            )  # fmt: skip
        finally:
            serving.terminate()
            serving.wait()
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="dingo over SQLite against huey's SqliteHuey.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=20_000)
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds):
        for name in CONTESTANTS:
            rounds[name].append(measure(name, options.jobs))
    medians = {name: {key: statistics.median(one[key] for one in several) for key in several[0]}
               for name, several in rounds.items()}  # fmt: skip
    print(f"{'':20}{'jobs/s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for name, figures in medians.items():
        print(f"{name:20}{figures['rate']:>10.0f}{figures['p50'] * 1e3:>10.2f}{figures['p99'] * 1e3:>10.2f}")
    ratio = medians["dingo"]["rate"] / medians["huey SqliteHuey"]["rate"]
    print(f"round trip: {ratio:.1f} x huey")


if __name__ == "__main__":
    main()
