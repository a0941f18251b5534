"""Where a contest over a broker takes place: private servers, worker processes, a caller process; what they use.

The servers are those of the tests. They are started when the first contestant needs them, shared by all contestants
of a run, and emptied between two of them.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 120  # how long jobs may take to run that nobody waits for (seconds)
ANSWER_SECONDS = 400  # how long a caller may take for a command

sys.path.insert(0, str(ROOT / "tests"))


class Crash(Exception):
    """A process of a contestant ended, or did not do what it was told in time."""


# -- what processes use ------------------------------------------------------------------------------------


def family(pid):
    """List a process and all that descend from it."""
    members, parents = [pid], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents.setdefault(int(_stat(entry.name)[1]), []).append(int(entry.name))
    for member in members:
        members += parents.get(member, ())
    return members


def cpu(pid):
    """Count the seconds of processor time that a process, its descendants and its dead children have used."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += sum(map(int, _stat(member)[11:15]))
    return total / TICK


def resident(pid):
    """Count the bytes that a process and its descendants have in memory."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1]) * PAGE
    return total


def _stat(pid):
    """Read the fields of /proc/PID/stat after the name: state, parent, ..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


# -- servers -----------------------------------------------------------------------------------------------


class Servers:
    """The private servers of a run, started when they are asked for."""

    def __init__(self, place):
        self.place = place
        self._redis = self._rabbit = None

    @property
    def redis(self):
        """A Redis that keeps nothing on the disk."""
        if self._redis is None:
            from servers import RedisServer

            self._redis = RedisServer(self.place, "--appendonly", "no")
            self._redis.start()
        return self._redis

    @property
    def rabbit(self):
        """A RabbitMQ node."""
        if self._rabbit is None:
            from rabbit import Node

            self._rabbit = Node()
            self._rabbit.start()
        return self._rabbit

    def pids(self, broker):
        """Name the server processes that a contestant on this broker uses."""
        started = {"redis": [self.redis], "amqp": [self.rabbit, self.redis]}.get(broker, [])
        return [server.process.pid for server in started]

    def empty(self):
        """Throw out what a contestant left in Redis; in RabbitMQ those that end well leave nothing."""
        if self._redis is not None:
            self._redis.flush()

    def renew(self):
        """End the servers, after a crash: the next contestant finds new ones."""
        if self._redis is not None:
            self._redis.kill()
        if self._rabbit is not None:
            self._rabbit.remove()
        self._redis = self._rabbit = None


class Delay:
    """A proxy in front of a server, as a process of its own."""

    def __init__(self, port, milliseconds):
        command = [sys.executable, str(HERE / "delay.py"), str(port), "--milliseconds", str(milliseconds)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def close(self):
        """End it."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


# -- a contestant's processes ------------------------------------------------------------------------------


class Stage:
    """One contestant's processes, in a folder of their own, over the servers of the run."""

    def __init__(self, peer, servers, *, marks=1, results=True, delay=None):
        self.peer = peer
        self.servers = servers
        self._folder = tempfile.TemporaryDirectory(prefix="dingo-bench-")
        self.place = Path(self._folder.name)
        self._delays = []
        self._processes = []
        self.caller = None
        environment = self._environment(delay)
        self.environment = {**environment, "BENCH_RESULTS": "on" if results else "off"}
        self.marks = self.place / "marks"
        self.marks.write_bytes(bytes(marks))

    def _environment(self, delay):
        """Say where everything is, by way of a slow network if there is to be one."""
        urls = {"BENCH_URL": f"sqlite:///{self.place / 'jobs.db'}"}
        if self.peer.broker != "sqlite":
            urls["BENCH_REDIS"] = urls["BENCH_URL"] = self._url(self.servers.redis, delay)
        if self.peer.broker == "amqp":
            urls["BENCH_URL"] = self._url(self.servers.rabbit, delay)
        # Compiled modules are kept: installed libraries have theirs, and a checkout shall not be worse off.
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("DINGO_", "PYTHONDONTWRITE"))}
        return {
            **clean, **urls, "BENCH_CONTESTANT": self.peer.name, "BENCH_MARKS": str(self.place / "marks"),
            "PYTHONPATH": f"{HERE}:{ROOT}", "DINGO_BROKER": urls["BENCH_URL"], "RQ_REDIS_URL": urls["BENCH_URL"],
        }  # fmt: skip

    def _url(self, server, delay):
        if delay is None:
            return server.url
        self._delays.append(Delay(server.port, delay))
        return server.url.replace(f":{server.port}/", f":{self._delays[-1].port}/")

    def start_worker(self):
        """Start a worker process in a group of its own, so that all of it can be stopped at once.

        `{number}` in its command makes a name of it, where a library wants one.
        """
        worker = subprocess.Popen(
            [self.peer.python, *(part.format(number=len(self._processes)) for part in self.peer.command)],
            cwd=self.place, env=self.environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._said("worker"),
        )  # fmt: skip
        self._processes.append(worker)
        return worker

    def start_caller(self):
        """Start the caller's process, and wait until it is ready."""
        self.caller = subprocess.Popen(
            [self.peer.python, str(HERE / "caller.py"), self.peer.module], cwd=self.place, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said("caller"), text=True,
            start_new_session=True,
        )  # fmt: skip
        self._processes.append(self.caller)
        self._answer()

    def tell(self, verb, *numbers):
        """Give the caller's process a command; return its answer."""
        with contextlib.suppress(BrokenPipeError):
            print(verb, *numbers, file=self.caller.stdin, flush=True)
        return self._answer()

    def _answer(self):
        if not select.select([self.caller.stdout], [], [], ANSWER_SECONDS)[0]:
            raise Crash(f"the caller of {self.peer.name} does not answer: {self.said('caller')}")
        line = self.caller.stdout.readline()
        if not line:
            raise Crash(f"the caller of {self.peer.name} ended: {self.said('caller')}")
        return json.loads(line)

    def _said(self, who):
        return (self.place / f"{who}.said").open("ab")

    def said(self, who):
        """Return the end of what a process wrote to its standard error."""
        return (self.place / f"{who}.said").read_text(errors="replace")[-2000:]

    # -- jobs whose results nobody wants ---------------------------------------------------------------------

    def marked(self, first, jobs):
        """Count the jobs of those from the first that have run."""
        return self.marks.read_bytes()[first : first + jobs].count(1)

    def wait_for_marks(self, first, jobs, *, enough=None):
        """Wait until these jobs, or enough of them, have run."""
        until = time.perf_counter() + PATIENCE
        while (marked := self.marked(first, jobs)) < (jobs if enough is None else enough):
            if time.perf_counter() > until:
                raise Crash(f"{marked} of {jobs} jobs of {self.peer.name} ran: {self.said('worker')}")
            time.sleep(0.001)

    # -- the end ---------------------------------------------------------------------------------------------

    def close(self):
        """End all processes of this contestant, whatever they do."""
        if self.caller is not None:
            with contextlib.suppress(BrokenPipeError):
                self.caller.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.caller.wait(15)
            self.caller.stdout.close()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for delay in self._delays:
            delay.close()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_failure):
        self.close()
