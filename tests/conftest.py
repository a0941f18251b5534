"""What all tests share."""

from __future__ import annotations

import threading

import pytest
from databases import memcached, mongodb, mysql, postgresql
from rabbit import amqp_node, launch_shared, running_node

import dingo

__all__ = ["amqp_node", "memcached", "mongodb", "mysql", "postgresql"]  # fixtures: one server of a kind for all tests

PATIENCE = 10.0  # how long a test waits for a fact before it fails


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


@pytest.fixture(scope="session")
def rabbit_node():
    """A RabbitMQ to be killed, and started again."""
    with running_node() as node:
        yield node


def pytest_collection_finish(session):
    """RabbitMQ takes some seconds to start: let it, while the tests that do not need it run."""
    if not session.config.option.collectonly and any("amqp" in item.name for item in session.items):
        launch_shared(session.config)
