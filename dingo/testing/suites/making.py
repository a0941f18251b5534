"""What the suites need of an implementation, and share."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from dingo.contracts import Envelope, ReportEnvelope
from dingo.message.frame import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator


# Long enough for the slowest broker, short enough that a broken one is noticed (seconds).
PATIENCE = 20.0


class Broker(Protocol):
    """What a suite needs of an implementation: fresh components of one broker, opened by the suite."""

    def producer(self) -> Any:
        """Make a Producer."""

    def worker(self) -> Any:
        """Make what is Consumer and Reporter in one."""

    def store(self) -> Any:
        """Make a Store."""


class Backend(Protocol):
    """The same of a backend that may be no broker."""

    def reporter(self) -> Any:
        """Make a Reporter."""

    def store(self) -> Any:
        """Make a Store."""


def envelope(id: str = "1", *, name: str = "add", queue: str = "default", **fields: Any) -> Envelope:
    """Make a task to send."""
    return Envelope(queue, id, name, f"frame of {id}".encode(), **fields)


def report(id: str = "1", *, reply: str = "me", final: bool = True, frame: bytes | None = None) -> ReportEnvelope:
    """Make a report to send."""
    return ReportEnvelope(reply, id, "add", frame or f"report of {id}".encode(), final, 60.0)


def opened(broker: Any) -> Iterator[Any]:
    """Yield what makes and opens a component of a kind; close all of them in the end."""
    parts: list[Any] = []

    def make(kind: str) -> Any:
        part = getattr(broker, kind)()
        part.open(lambda *_args: None)
        parts.append(part)
        return part

    yield make
    for part in parts:
        part.close()


class Suite:
    """What the suites of brokers and backends share."""

    @pytest.fixture
    def made(self) -> Any:
        """Return what makes the components under test."""
        raise NotImplementedError

    @pytest.fixture
    def parts(self, made: Any) -> Any:
        """Open components of a kind, and close them after the test."""
        yield from opened(made)

    def collect(self, store: Any, count: int, reply: str = "me") -> list[bytes]:
        """Collect until so many reports have come."""
        frames: list[bytes] = []
        until = time.monotonic() + PATIENCE
        while len(frames) < count and time.monotonic() < until:
            for pack in store.collect(reply, 1.0):
                frames += unpack(pack)
        return frames

    def test_a_waiting_collect_returns_when_it_is_woken(self, parts: Any) -> None:
        """`wake` ends the wait of the receiver thread."""
        store = parts("store")
        waiting = threading.Thread(target=store.collect, args=("me", PATIENCE * 3), daemon=True)
        waiting.start()
        until = time.monotonic() + PATIENCE
        while waiting.is_alive() and time.monotonic() < until:
            store.wake()
            waiting.join(0.05)
        assert not waiting.is_alive()
