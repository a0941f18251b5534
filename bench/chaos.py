"""Kill workers while they work, and count what is lost and what is run twice.

Two worker processes do the jobs; one after the other gets SIGKILL, at once and without a word, and another takes its
place. Every result is checked. A job may be run twice (its worker died before it could report), never lost.

Run:
    python bench/chaos.py [--broker sqlite redis] [--jobs 50000] [--kills 20]

Redis runs as a private server of its own, on a free port. Prints a line per broker; exits with 1 if anything was lost.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import dingo

TASKS = """
import os, time
import dingo

app = dingo.App(config=dingo.Config(lease_seconds=5.0))
_runs = os.open("runs.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

@app.task
def double(number: int) -> int:
    os.write(_runs, b"%d\\n" % number)
    return number * 2
"""


def start_redis(place: Path) -> tuple[subprocess.Popen[bytes] | None, str]:
    """Start a private server, and wait until it listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return server, f"redis://127.0.0.1:{port}/0"


def start_worker(place: Path, url: str) -> subprocess.Popen[str]:
    """Start a worker process, and wait until it is ready."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "jobs:app", "--broker", url, "-c", "4", "-l", "ERROR"],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("ready"), "the worker does not start"
    return worker


def run(broker: str, jobs: int, kills: int) -> bool:
    """Run one broker's part. Whether nothing was lost and every value was right."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "jobs.py").write_text(TASKS)
        server, url = start_redis(place) if broker == "redis" else (None, f"sqlite:///{place}/jobs.db")
        workers = [start_worker(place, url) for _ in range(2)]
        app = dingo.App(url, config=dingo.Config(lease_seconds=5.0))
        app.register("double", lambda number: None)
        began = time.monotonic()
        try:
            with app:
                results = []
                for kill in range(kills):  # the work comes in parts, so that every kill meets some
                    results += app.call_many("double", [(n,) for n in range(len(results), jobs * (kill + 1) // kills)])
                    dingo.wait(results[-jobs // kills :], timeout=0.05)
                    workers.pop(0).kill()
                    workers.append(start_worker(place, url))
                wrong = sum(not result.wait(120) or result.result() != 2 * n for n, result in enumerate(results))
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()
            if server is not None:
                server.terminate()
                server.wait()
        runs = Counter((place / "runs.txt").read_text().split())
    twice = sum(runs.values()) - len(runs)
    print(
        f"{broker}: {jobs} jobs, {kills} workers killed, lost or wrong {wrong}, run twice {twice}, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    return wrong == 0 and len(runs) == jobs


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill workers while they work.")
    parser.add_argument("--broker", nargs="+", default=["sqlite", "redis"], choices=["sqlite", "redis"])
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    good = True
    for broker in options.broker:
        if broker == "redis" and shutil.which("redis-server") is None:
            print("redis: left out, redis-server is not installed")
            continue
        good = run(broker, options.jobs, options.kills) and good
    return 0 if good else 1


if __name__ == "__main__":
    os.environ.pop("DINGO_BROKER", None)
    raise SystemExit(main())
