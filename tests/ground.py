"""The ground on which faults are made: a broker that can be killed, worker processes and callers.

Every task notes that it runs, and where, in one file; from that it is known afterwards what ran how often.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import rabbit
from servers import RedisServer

import dingo

BROKERS = ("sqlite", "redis", "amqp")
PATIENCE = 60.0  # how long a fact is waited for (seconds)
# RabbitMQ 3.10 writes the register of its quorum queues some seconds late: killed before, it has broken queues.
SETTLED = 6.0
_numbers = itertools.count()

TASKS = """
import os, threading, time
import dingo

app = dingo.App(config=dingo.Config(lease_seconds=float(os.environ.get("LEASE", 3)), grace_seconds=5.0))
_runs = os.open("runs.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(number):
    os.write(_runs, b"%d %d\\n" % (number, os.getpid()))


@app.task
def double(number: int) -> int:
    note(number)
    return number * 2


@app.task
def long(number: int, seconds: float) -> int:
    note(number)
    threading.Event().wait(seconds)  # libfaketime makes time.sleep fail
    return number * 2


@app.task
def gate(number: int, path: str) -> int:
    note(number)
    while not os.path.exists(path):
        time.sleep(0.01)
    return os.getpid()
"""


class Ground:
    """One broker with what belongs to it. `server`: one that runs already, and is not to be ended here."""

    def __init__(self, kind: str, place: Path, *, server: Any = None, options: tuple[str, ...] = ()) -> None:
        self.kind, self.place = kind, place
        self.queue = f"ground{next(_numbers)}"
        self._mine = server is None
        self.server = server
        if server is None and kind == "redis":
            self.server = RedisServer(place, *(options or ("--appendonly", "yes", "--appendfsync", "always")))
        elif server is None and kind == "amqp":
            self.server = rabbit.Node(*options)
        if self._mine and self.server is not None:
            self.server.start()
        self.url: str = self.server.url if self.server is not None else f"sqlite:///{place}/jobs.db"
        self.workers: list[subprocess.Popen[str]] = []
        self.killed: set[int] = set()
        self._apps: list[dingo.App] = []
        (place / "shop.py").write_text(TASKS)
        (place / "runs.txt").write_text("")

    def start_worker(self, *options: str, module: str = "shop", before: tuple[str, ...] = (), url: str = "",
                     ready: bool = True, **environment: str) -> subprocess.Popen[str]:  # fmt: skip
        """Start a worker process, and wait until it serves."""
        environment = {
            **os.environ, "DINGO_BROKER": url or self.url,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment,
        }  # fmt: skip
        worker = subprocess.Popen(
            [*before, sys.executable, "-m", "dingo", "worker", f"{module}:app", "-Q", self.queue, "-c", "4",
             "-l", "ERROR", *options],
            cwd=self.place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.workers.append(worker)
        if ready:
            assert worker.stdout is not None
            assert worker.stdout.readline().startswith("ready"), "the worker does not start"
        return worker

    def kill_worker(self, worker: subprocess.Popen[str]) -> None:
        """SIGKILL."""
        self.killed.add(worker.pid)
        self.end_worker(worker, signal.SIGKILL)

    def end_worker(self, worker: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        self.workers.remove(worker)
        worker.send_signal(number)
        worker.communicate(timeout=PATIENCE)

    def app(self, *, url: str = "", **config: Any) -> dingo.App:
        """An app that calls the tasks by name, closed with the ground."""
        config = {"queue": self.queue, "lease_seconds": 3.0, **config}
        app = dingo.App(url or self.url, config=dingo.Config(**config))
        app.register("double", lambda number: None)
        app.register("long", lambda number, seconds: None)
        app.register("gate", lambda number, path: None)
        self._apps.append(app)
        return app

    def apps(self) -> list[dingo.App]:
        """All that were made here."""
        return self._apps

    def runs(self) -> dict[int, list[int]]:
        """Of each number, the processes that ran it."""
        runs: dict[int, list[int]] = defaultdict(list)
        for line in (self.place / "runs.txt").read_text().splitlines():
            number, pid = line.split()
            runs[int(number)].append(int(pid))
        return runs

    def wait_for(self, fact: Any, patience: float = PATIENCE) -> bool:
        """Wait until it is so; whether it became so."""
        until = time.monotonic() + patience
        while not fact():
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """End everything."""
        for app in self._apps:
            app.close(5)
        for worker in list(self.workers):
            worker.send_signal(signal.SIGCONT)
            self.end_worker(worker, signal.SIGKILL)
        if self._mine and self.server is not None:
            self.server.kill()
            if self.kind == "amqp":
                self.server.remove()

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
