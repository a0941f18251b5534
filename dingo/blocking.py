"""What a thread must say before it blocks.

A worker thread that waits for something else (another call's result, a channel) would take one worker away
from its pool, and a pool of one would then wait for itself for ever. So every blocking wait of dingo happens
inside `away()`: it tells the pool, which stands in with another thread meanwhile. Threads that are not
dingo's have no seat, and for them nothing happens.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dingo.job import Job


HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether one bytecode instruction runs at a time: several short steps of dingo are atomic only then."""


class Seat(Protocol):
    """A worker thread's place in its pool: what it runs now, and how to leave it for a while."""

    job: Job | None
    abandoned: bool

    def away(self) -> AbstractContextManager[None]:
        """Let the pool stand in for this thread while the context lasts."""

    def deadline_of(self, job: Job) -> float | None:
        """Return when a call that runs here runs out of time (seconds since the epoch), as far as the seat knows."""

    def help(self, job: Job) -> bool:
        """Run a call that waits in this thread's own pool, here and now; False if that cannot be."""


class _Here(threading.local):
    """`seat` is set once by each worker thread for itself; `forbidden` by each of dingo's event loops.

    `hub` is set by every thread of an app to the app's: closing the app waits for it, so it must not wait for that.
    """

    seat: Seat | None = None
    forbidden: bool = False
    hub: object = None


here = _Here()


def away_on_loop() -> AbstractContextManager[None]:
    """Stand in for a worker thread whose task runs an event loop of its own, while that awaits something."""
    return contextlib.nullcontext() if here.seat is None else here.seat.away()


def away() -> AbstractContextManager[None]:
    """Have the pool stand in for this thread; to be put around every wait (`with`).

    Raises RuntimeError on one of dingo's event loops: blocking it would stop every task on it.
    """
    if here.forbidden:
        raise RuntimeError(
            "this would block dingo's event loop and every task on it: in an async def task, `await` the result"
        )
    return contextlib.nullcontext() if here.seat is None else here.seat.away()
