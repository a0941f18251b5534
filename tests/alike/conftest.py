"""One suite, four ways: the same tasks and calls in local mode and over each broker.

The caller and the worker are two apps in this process (locally one), so that a test can hold a task by a gate and see
both ends. They are made once for each mode and module, and shared: a test registers tasks of its own, under names of
their own.
"""

import itertools
import threading
from dataclasses import dataclass

import pytest
from conftest import PATIENCE

import dingo
from dingo.bridge import heralding, refusing, serving
from dingo.kombu.abilities import Ability, abilities

MODES = ("local", "sqlite", "redis", "amqp")
# Nothing that a user does brings these about.
BROKEN = {f"{who}.failed" for who in ("worker", "consumer", "sender", "receiver", "keeper", "herald", "timer", "close")}

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Mode:
    """How calls get to their worker. `finds`: single calls can be looked up, and listed, after they were sent."""

    name: str
    url: str

    @property
    def local(self):
        return self.url == "local"

    @property
    def finds(self):
        return self.local or {Ability.FIND, Ability.LIST} <= abilities(self.url)


class Both:
    """The app that calls and the app that works."""

    def __init__(self, mode, *, queues=(), **config):
        config = {"workers": 4, "queue": f"alike{next(_numbers)}", "send_timeout_seconds": PATIENCE, **config}
        self.mode = mode
        self.caller = dingo.App(mode.url, config=dingo.Config(**config))
        self.worker = self.caller if mode.local else dingo.App(mode.url, config=dingo.Config(**config))
        self.queues = (config["queue"], *queues)
        self.errors = [app.listen(level=dingo.Level.ERROR) for app in {self.caller, self.worker}]

    def start(self):
        if not self.mode.local:
            self.worker.start_worker(self.queues)

    def task(self, fn, **options):
        """Register a function at both ends; the caller's Task. Its name is nobody else's."""
        name = f"{getattr(fn, '__name__', 'task')}-{next(_numbers)}"
        task = self.caller.register(name, fn, **options)
        if self.worker is not self.caller:
            self.worker.register(name, fn, **options)
        return task

    def close(self):
        self.caller.close(timeout=5, drain=False)
        self.worker.close(timeout=5, drain=False)
        broken = [event for errors in self.errors for event in errors if event.code in BROKEN]
        assert not broken, "something in dingo itself failed"


@pytest.fixture(scope="session", params=MODES)
def mode(request, mode_of):
    return mode_of(request.param)


@pytest.fixture(scope="session")
def mode_of(request, tmp_path_factory):
    """Make a mode by its name; its server is started when it is first asked for."""
    return lambda name: _mode(name, request, tmp_path_factory)


def _mode(name, request, tmp_path_factory):
    if name == "redis":
        return Mode(name, request.getfixturevalue("redis_server").url)
    if name == "amqp":
        return Mode(name, request.getfixturevalue("amqp_node").url)
    if name == "memory":
        return Mode(name, "memory://alike")
    if name == "filesystem":  # stands for kombu's own transports
        return Mode(name, f"filesystem://{tmp_path_factory.mktemp('alike')}")
    return Mode(name, "local" if name == "local" else f"sqlite:///{tmp_path_factory.mktemp('alike')}/jobs.db")


@pytest.fixture(scope="module")
def both(mode):
    """The two apps that all tests of a module share, in each mode. Their worker serves the queue "other" too."""
    both = Both(mode, queues=("other",))
    both.start()
    yield both
    both.close()


@pytest.fixture
def own(mode):
    """Make two apps for one test, not yet started: for what would change others."""
    made = []

    def make(**config):
        made.append(Both(mode, **config))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(scope="session", autouse=True)
def looked_for_often():
    """A worker asks often what it is to stop, and looks early at what it parked: many tests wait for that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "TEND", 0.05)
        patch.setattr(heralding, "LOOK", 0.05)
        patch.setattr(refusing, "PARK_FIRST", 0.1)
        yield


@pytest.fixture(autouse=True)
def nothing_left_running():
    """The shared apps keep their threads: what other tests are told of is not asked here."""


class Gate:
    """What a task waits in: it says when it has come there, and stays until it is let go."""

    def __init__(self):
        self.came, self.open = threading.Semaphore(0), threading.Event()

    def enter(self):
        self.came.release()
        assert self.open.wait(PATIENCE)

    def wait(self):
        """Wait until a task has come."""
        assert self.came.acquire(timeout=PATIENCE), "no task came to the gate"


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.open.set()
