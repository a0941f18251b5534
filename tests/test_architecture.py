"""What may be imported where, and what importing dingo costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dingo

ROOT = Path(dingo.__file__).parent

SUITES = ("making", "backend", "broker", "ledger", "herald", "parts")

# Each third-party package has one door.
DOORS = {
    "watchfiles": {"cli/reload.py"},
    "janus": {"channel.py"},
    "typeguard": {"marshaller/correction.py"},
    "cloudpickle": {"marshaller/pickle.py", "worker/child/cargo.py"},
    "msgpack": {"marshaller/msgpack.py"},
    "yaml": {"config/files.py"},
    "pytest": {"testing/plugin.py"} | {f"testing/suites/{one}.py" for one in SUITES},
    "redis": {"kombu/redis/server.py", "kombu/redis/line.py"},
    "amqp": {f"kombu/amqp/{one}.py" for one in ("connection", "errors", "properties", "plain")},
    "kombu": {f"kombu/{one}.py" for one in ("filesystem", "transports", "stock/part", "stock/place", "stock/queues")},
    "sqlalchemy": {"store/sql.py", "store/postgresql.py", "store/mysql.py"},
    "psycopg": {"store/postgresql.py"},
    "pymysql": {"store/mysql.py"},
    "pymemcache": {"store/memcache.py"},
    "pymongo": {"store/mongodb.py"},
    "bson": {"store/mongodb.py"},
}


def _imports():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                continue
            for name in names:
                yield str(path.relative_to(ROOT)), name.partition(".")[0]


def test_each_third_party_package_is_imported_behind_its_own_door_only():
    strangers = {
        (file, package)
        for file, package in _imports()
        if package not in sys.stdlib_module_names and package != "dingo" and file not in DOORS.get(package, ())
    }
    assert strangers == set()


def test_nothing_is_ever_decompressed_and_pickles_are_read_in_two_places_only():
    """Of what a broker brings, an inflated body would be a bomb; a pickle runs code."""
    unpackers = {"zlib", "gzip", "bz2", "lzma", "zstandard", "zipfile", "tarfile", "brotli", "marshal", "shelve"}
    assert {(file, package) for file, package in _imports() if package in unpackers} == set()
    pickles = {file for file, package in _imports() if package in {"pickle", "cloudpickle"}}
    assert pickles == {"marshaller/pickle.py", "worker/child/cargo.py"}


def _loaded_by(code):
    """Which modules a program has loaded by its end, beyond those of its start."""
    code = f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_dingo_imports_no_broker_no_web_and_no_command_line_library():
    assert _loaded_by("import dingo").isdisjoint(
        {"kombu", "amqp", "redis", "janus", "typeguard", "cloudpickle", "rich", "click", "argparse", "yaml", "msgpack"}
    )


def test_a_local_call_imports_nothing_that_only_brokers_event_loops_and_processes_need():
    loaded = _loaded_by(
        """
import dingo

app = dingo.App("local")

@app.task
def add(a: int, b: int) -> int:
    return a + b

with app:
    assert app.call("add", 2, 3).result(timeout=30) == 5
"""
    )
    assert "dingo.bridge.local" in loaded
    assert loaded.isdisjoint({"asyncio", "socket", "ssl", "subprocess", "multiprocessing", "json", "hashlib", "uuid"})
    assert loaded.isdisjoint({"dingo.contracts", "dingo.kombu", "dingo.bridge.remote", "dingo.bridge.serving"})
    assert loaded.isdisjoint({"dingo.worker.loops", "dingo.worker.processes", "dingo.message.frame", "dingo.aio"})


@pytest.mark.parametrize(
    ("url", "needs"), [("redis://host", {"redis"}), ("amqp://host", {"amqp"}), ("memory://", set())]
)
def test_a_process_imports_only_the_client_of_its_broker(url, needs):
    code = f"import dingo.kombu; dingo.kombu.producer({url!r}); dingo.kombu.worker({url!r}); dingo.kombu.store({url!r})"
    assert _loaded_by(code) & {"redis", "amqp", "kombu", "sqlite3"} == needs
