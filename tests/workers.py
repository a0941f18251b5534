"""Worker processes for tests: `dingo worker`, as anybody would start it."""

import contextlib
import os
import subprocess
import sys


@contextlib.contextmanager
def worker_processes(place, *, stderr=subprocess.DEVNULL, **environment):
    """Give what starts a worker of the app in `place/shop.py`; all of them are killed in the end."""
    started = []

    def start(*options, ready=True):
        worker = subprocess.Popen(
            [sys.executable, "-m", "dingo", "worker", "shop:app", "-c", "4", "-l", "ERROR", *options],
            cwd=place, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
        started.append(worker)
        if ready:
            assert worker.stdout.readline().startswith("ready ")
        return worker

    try:
        yield start
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()
