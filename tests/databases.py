"""Private databases for tests: like those in servers.py, each on a free port, with its files in a place of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from servers import free_port

PATIENCE = 60.0


def find(*names: str) -> str | None:
    """Where a server's binary is, also where Debian hides it."""
    for name in names:
        places = [
            shutil.which(name),
            f"/usr/sbin/{name}",
            *sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))),
        ]
        for place in places:
            if place and os.access(place, os.X_OK):
                return str(place)
    return None


def need(*names: str) -> str:
    """The path of a binary. Skip where it is not installed; in CI that is a failure."""
    path = find(*names)
    if path is None:
        reason = f"{names[0]} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class _Server:
    """A server process that can be killed and started again on the same port and files."""

    user: str | None = None
    """Whom root becomes to start it: these servers do not run as root."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="dingo-db-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        if self.user is not None and os.getuid() == 0:
            try:
                entry = pwd.getpwnam(self.user)
            except KeyError:
                entry = pwd.getpwnam("nobody")
            self._as = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.home, entry.pw_uid, entry.pw_gid)
        else:
            self._as = {}
        # MariaDB begins with throwing out what lies there of others that are killed, or live.
        self._as["env"] = {**os.environ, "TMPDIR": str(self.home)}

    def _do(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self.home, capture_output=True, check=False, **self._as)
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-3000:]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), cwd=self.home, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, **self._as,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                said = (self.home / "output").read_text(errors="replace")[-3000:]
                self.kill()
                raise RuntimeError(f"the server did not start: {said}")
            time.sleep(0.02)  # between two looks: nothing tells when it listens

    def kill(self) -> None:
        """As a power cut would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.process = None

    def remove(self) -> None:
        """Kill it and delete its files."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)


class _Sql:
    """What tests do with the tables of either database."""

    def empty(self) -> None:
        """Throw out everything that dingo holds."""
        if self.do("SELECT table_name FROM information_schema.tables WHERE table_name = 'dingo_meta'"):
            self.do("DELETE FROM dingo_reports", "DELETE FROM dingo_results")

    def drop(self) -> None:
        """The same with the tables."""
        self.do("DROP TABLE IF EXISTS dingo_reports, dingo_results, dingo_meta")


class Postgresql(_Sql, _Server):
    user = "postgres"

    def __init__(self) -> None:
        self.binary = need("postgres")
        super().__init__()
        initdb = Path(self.binary).resolve().parent / "initdb"
        data = str(self.home / "data")
        self._do(str(initdb), "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-locale", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://postgres:secret@127.0.0.1:{self.port}/postgres"

    def command(self) -> list[str]:
        settings = [
            f"port={self.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.home}",
            "shared_buffers=16MB", "max_connections=50", "fsync=off",  # the machine does not crash, only the server
        ]  # fmt: skip
        # A killed server leaves its shared memory and pid file behind, and takes them over when it starts again.
        return [self.binary, "-D", str(self.home / "data"), *(part for one in settings for part in ("-c", one))]

    def answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def do(self, *statements: str) -> list:
        """Carry out statements, each by itself; return the rows of the last."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


class Mysql(_Sql, _Server):
    user = "mysql"

    def __init__(self) -> None:
        self.binary = need("mariadbd", "mysqld")
        super().__init__()
        install = find("mariadb-install-db", "mysql_install_db")
        if install is not None:
            self._do(
                install, "--no-defaults", f"--datadir={self.home / 'data'}", "--auth-root-authentication-method=normal",
                "--skip-test-db", "--innodb-log-file-size=4M",
            )  # fmt: skip
        else:
            self._do(self.binary, "--no-defaults", "--initialize-insecure", f"--datadir={self.home / 'data'}")

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/jobs"

    def command(self) -> list[str]:
        return [
            self.binary, "--no-defaults", f"--datadir={self.home / 'data'}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.home / 'socket'}", f"--pid-file={self.home / 'pid'}",
            "--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=2", "--skip-log-bin",
        ]  # fmt: skip

    def answers(self) -> bool:
        import pymysql

        try:
            connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", connect_timeout=2)
        except pymysql.MySQLError:
            return False
        with connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS jobs")
        return True

    def do(self, *statements: str) -> list:
        """Carry out statements, each by itself; return the rows of the last."""
        import pymysql

        connection = pymysql.connect(host="127.0.0.1", port=self.port, user="root", database="jobs", autocommit=True)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())


class Memcached(_Server):
    user = "nobody"

    def __init__(self) -> None:
        self.binary = need("memcached")
        super().__init__()

    @property
    def url(self) -> str:
        return f"memcache://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [self.binary, "-l", "127.0.0.1", "-p", str(self.port), "-m", "64"]

    def empty(self) -> None:
        """Throw out everything it holds."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as one:
            one.sendall(b"flush_all\r\n")
            assert one.recv(100) == b"OK\r\n"

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as one:
            one.sendall(b"version\r\n")
            return one.recv(100).startswith(b"VERSION")
        return False


class Mongodb(_Server):
    """Not in Debian, so these tests are skipped where nobody has installed it, in CI too."""

    def __init__(self) -> None:
        self.binary = find("mongod")
        if self.binary is None:
            pytest.skip("mongod is not installed, and Debian has no package of it")
        super().__init__()
        (self.home / "data").mkdir()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/jobs"

    def command(self) -> list[str]:
        return [self.binary, "--dbpath", str(self.home / "data"), "--port", str(self.port), "--bind_ip", "127.0.0.1"]

    def empty(self) -> None:
        """Throw out everything it holds."""
        import pymongo

        with pymongo.MongoClient(self.url) as client:
            client.drop_database("jobs")

    def answers(self) -> bool:
        import pymongo

        with pymongo.MongoClient(self.url, serverSelectionTimeoutMS=1000) as client:
            try:
                return bool(client.admin.command("ping"))
            except pymongo.errors.PyMongoError:
                return False


def _running(kind):
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL that all tests of the session share."""
    yield from _running(Postgresql)


@pytest.fixture(scope="session")
def mysql():
    """A MariaDB (or MySQL) that all tests of the session share."""
    yield from _running(Mysql)


@pytest.fixture(scope="session")
def memcached():
    """A memcached that all tests of the session share."""
    yield from _running(Memcached)


@pytest.fixture(scope="session")
def mongodb():
    """A mongod that all tests of the session share."""
    yield from _running(Mongodb)
