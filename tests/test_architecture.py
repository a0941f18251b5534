"""What may be imported where, and what importing dingo costs."""

import ast
import subprocess
import sys
from pathlib import Path

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
    "yaml": {"config.py"},
    "pytest": {"testing/plugin.py"} | {f"testing/suites/{one}.py" for one in SUITES},
    "redis": {"kombu/redis/server.py", "kombu/redis/line.py"},
    "amqp": {"kombu/amqp.py"},
    "kombu": {"kombu/stock.py", "kombu/filesystem.py", "kombu/transports.py"},
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


def test_importing_dingo_imports_no_broker_no_web_and_no_command_line_library():
    code = "import sys, dingo; print(*{name.partition('.')[0] for name in sys.modules})"
    modules = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert modules.isdisjoint(
        {"kombu", "amqp", "redis", "janus", "typeguard", "cloudpickle", "rich", "click", "argparse", "yaml", "msgpack"}
    )
