"""The census of the standard library again, on worker processes, one of which is killed in the middle.

The tasks are those of `examples/local/stdlib_census.py`, not a line of them changed. Here the app is connected to
an SQLite file, and two processes started with `dingo worker` do the work. When a third of it is done, one of them
gets SIGKILL: it can say nothing and clean up nothing. The other takes over what it had, and at the end the
results are compared with the number of calls: lost ones, and ones that were run twice.

Run:
    python examples/distributed/census_survives_a_kill.py               # the second act of: make demo
    python examples/distributed/census_survives_a_kill.py --limit 200   # fewer modules

Needs rich, for the display: pip install 'dingo-tasks[demo]'
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).parent.parent / "local"))

from stdlib_census import app, standard_library

import dingo

HERE = Path(__file__).parent
console = Console(highlight=False)


def start_worker(place: Path, url: str) -> subprocess.Popen[str]:
    """Start a worker process and wait until it says that it is ready."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "census_workers:app", "--broker", url, "-l", "ERROR"],
        cwd=HERE,
        env={**os.environ, "CENSUS_STARTS": str(place / "starts.txt")},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("ready")
    return worker


def main() -> int:
    """Send, kill, count. Returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(description="A census that survives the death of a worker.")
    parser.add_argument("--limit", type=int, help="count at most so many modules")
    modules = standard_library(parser.parse_args().limit)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        url = f"sqlite:///{place}/census.db"
        app.connect(url, role="caller")
        workers = [start_worker(place, url) for _ in range(2)]
        try:
            answered = count_with_a_kill(modules, workers)
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()
        starts = Counter((place / "starts.txt").read_text().split())
    again = sum(starts.values()) - len(starts)
    console.print(f"calls made {len(modules)}, answered {answered}, lost {len(modules) - answered}, run twice {again}")
    return 0 if answered == len(modules) else 1


def count_with_a_kill(modules: list[tuple[Path, str]], workers: list[subprocess.Popen[str]]) -> int:
    """Return how many calls were answered, with a value or with the error of a module that cannot be parsed."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    answered, began = 0, perf_counter()
    with app, Progress(*columns, console=console) as progress:
        bar = progress.add_task("two worker processes", total=len(modules))
        results = [app.call("survey", path, name) for path, name in modules]
        for result in dingo.as_completed(results):
            answered += result.status in (dingo.Status.SUCCESS, dingo.Status.FAILURE)
            progress.update(bar, completed=answered)
            if answered == len(modules) // 3:
                workers[0].kill()
                progress.console.print(f"process {workers[0].pid} killed with SIGKILL after {answered} answers")
                progress.update(bar, description="one worker process")
    console.print(f"all done in {perf_counter() - began:.1f} s")
    return answered


if __name__ == "__main__":
    raise SystemExit(main())
