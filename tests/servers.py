"""Private servers for tests: each listens on a free port of its own, keeps its files in a place of its own, and
ends with the tests. The machine's own servers are never touched."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time

import pytest

PATIENCE = 60.0  # how long a server may take to answer (seconds)
# None of those of outgoing connections: one of these may have the port before its server, or between two starts of it,
# and who asks in vain for a port of theirs may get himself. Ten thousand above each is another, for a Redis cluster.
PORTS = range(12_000, 22_000)


def free_port() -> int:
    """A port that nobody listens on, and that no other process that runs tests takes: who has it holds it for UDP."""
    while True:
        address = ("127.0.0.1", random.choice(PORTS))
        with socket.socket() as listening, socket.socket(type=socket.SOCK_DGRAM) as claim:
            with contextlib.suppress(OSError):
                listening.bind(address)
                claim.bind(address)
                claim.detach()  # open until this process ends
                return address[1]


class RedisServer:
    """A redis-server that can be killed and started again on the same port and files."""

    def __init__(self, place, *options: str) -> None:
        self.place = place
        self.options = options
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.place), "--save", "",
             *map(str, self.options)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process.poll() is None, "redis-server ended at once"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.02)  # between two looks: nothing tells when it listens

    def _answers(self) -> bool:
        """Whether it serves. That it wants a password or TLS is an answer too, that it loads its files is not."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as one:
                one.sendall(b"PING\r\n")
                return not one.recv(100).startswith(b"-LOADING")
        except OSError:
            return False

    def flush(self) -> None:
        """Throw out everything it holds."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def need(binary: str) -> None:
    """Skip where a server is not installed; in CI that is a failure."""
    if shutil.which(binary) is None:
        reason = f"{binary} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory):
    """A Redis that all tests of the session share; it keeps nothing."""
    need("redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "no")
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def counting_url(request, tmp_path):
    """An empty broker that can count: an SQLite file, and then a Redis."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    server = request.getfixturevalue("redis_server")
    server.flush()
    return server.url


@pytest.fixture
def own_redis(tmp_path):
    """Make a Redis for one test, with the given options."""
    need("redis-server")
    servers = []

    def make(*options: str) -> RedisServer:
        servers.append(RedisServer(tmp_path, *options))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def sqs_server(tmp_path_factory):
    """The port of a server that answers as SQS does, by moto; in memory."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    port = free_port()
    log = tmp_path_factory.mktemp("sqs") / "moto.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    until = time.monotonic() + PATIENCE
    while not _listens(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, "moto does not answer"
        time.sleep(0.05)  # between two looks: nothing tells when it listens
    yield port
    process.kill()
    process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def sqs_url(sqs_server):
    """A URL for one test: its queues are nobody else's."""
    return f"sqs://test:test@127.0.0.1:{sqs_server}?region=us-east-1&queue_name_prefix=t{time.monotonic_ns()}-"
