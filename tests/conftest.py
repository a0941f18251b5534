"""What all tests share."""

from __future__ import annotations

import re
import signal
import threading

import pytest
from databases import memcached, mongodb, mysql, postgresql
from rabbit import amqp_node, rabbit_node
from servers import counting_url, own_redis, redis_server, sqs_server, sqs_url

import dingo

# pytest parses what is imported, and Python 3.11 cannot parse in two threads at once (gh-106905): what many threads
# would import with their first calls is imported here.
import dingo.worker.loops

__all__ = [  # fixtures: one server of a kind for all tests of a process
    "amqp_node", "counting_url", "memcached", "mongodb", "mysql", "own_redis", "postgresql", "rabbit_node",
    "redis_server", "sqs_server", "sqs_url",
]  # fmt: skip

PATIENCE = 60.0  # how long a test waits for a fact before it fails; on a busy machine facts take their time


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background jobs, and in what they start
    signal.signal(signal.SIGINT, signal.default_int_handler)


def text_of(value):
    """The text of a parameter, the same in every process: those that share the tests compare their names."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(str, value))})"
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.fixture
def app():
    """A local app with two workers, closed at the end whatever still runs."""
    app = dingo.App("local", config=dingo.Config(workers=2))
    yield app
    app.close(timeout=5, drain=False)


@pytest.fixture
def single():
    """A local app with one worker."""
    app = dingo.App("local", config=dingo.Config(workers=1))
    yield app
    app.close(timeout=5, drain=False)


@pytest.fixture
def gate():
    """An event that tasks wait for; set at the end of the test, so that nothing hangs."""
    event = threading.Event()
    yield event
    event.set()


def dingo_threads():
    """The threads of dingo that live now."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("dingo-")]


@pytest.fixture(autouse=True)
def nothing_left_running():
    """No test leaves a thread of dingo behind."""
    before = set(dingo_threads())
    yield
    for thread in set(dingo_threads()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} was left running"


@pytest.fixture
def make_app():
    """Make local apps with the given configuration, closed at the end whatever still runs."""
    apps = []

    def make(**config):
        apps.append(dingo.App("local", config=dingo.Config(**config)))
        return apps[-1]

    yield make
    for app in apps:
        app.close(timeout=5, drain=False)
