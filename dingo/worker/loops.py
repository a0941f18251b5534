"""LoopPool: an event loop on a thread of its own, for `async def` tasks, thousands at once.

A running task can really be stopped here: cancellation and time limits cancel its asyncio task.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.blocking import here
from dingo.events import Level, Origin
from dingo.worker.attempt import Attempt
from dingo.worker.context import on_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from dingo.events import Hub
    from dingo.job import Job


class LoopPool:
    """`count` event loops, each on its own thread, that share the calls put here."""

    ranked = False

    def __init__(self, name: str, count: int, hub: Hub) -> None:
        self.name = name
        self.count = count
        self.closed = False
        self._lines = [_Line(f"{name}-{number}", hub) for number in range(count)]
        self._next = 0

    def __repr__(self) -> str:
        """Name and size."""
        return f"<LoopPool {self.name}: {self.count} loops>"

    def put(self, job: Job) -> None:
        """Have a call run on the next loop."""
        self._next = (self._next + 1) % len(self._lines)
        self._lines[self._next].put(job)

    def rank(self) -> None:
        """Nothing waits here for its turn: all that come run at once."""

    def resize(self, count: int) -> None:
        """Not for loops: one serves thousands. Raises ValueError for another count."""
        if count != self.count:
            raise ValueError("an async pool is not resized: allocate another, or limit it with max_concurrency")

    def interrupt(self, job: Job) -> None:
        """Stop a call that runs here."""
        for line in self._lines:
            line.interrupt(job)

    def enter(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the first loop and return its value; blocks the calling thread."""
        return self._lines[0].run(coroutine)

    @property
    def threads(self) -> int:
        """How many loop threads it has now."""
        return sum(line.thread.is_alive() for line in self._lines)

    def waiting(self) -> list[Job]:
        """Take out all calls that no loop has looked at."""
        return [job for line in self._lines for job in line.take_all()]

    def peek(self) -> list[Job]:
        """Return all calls that no loop has looked at yet."""
        return [job for line in self._lines for job in tuple(line.jobs)]

    def running(self) -> list[Job]:
        """Return the calls that run now."""
        return [job for line in self._lines for job in tuple(line.tasks)]

    def stop(self) -> None:
        """Tell the loops to end when nothing runs any more."""
        for line in self._lines:
            line.stop()

    def join(self, until: float | None) -> bool:
        """Wait for the loops to end, or until that moment (time.monotonic); whether they have."""
        mine = threading.current_thread()
        for line in self._lines:
            if line.thread is not mine:
                line.thread.join(None if until is None else max(0.0, until - monotonic()))
        return not any(line.thread.is_alive() and line.thread is not mine for line in self._lines)


class _Line:
    """One loop and its thread. `put` is for any thread; everything else happens on the loop."""

    def __init__(self, name: str, hub: Hub) -> None:
        self._hub = hub
        self.jobs: deque[Job] = deque()
        self._armed = True
        self._stopping = False
        self.tasks: dict[Job, asyncio.Task[None]] = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._live, name=f"dingo-{name}", daemon=True)
        self.thread.start()

    def put(self, job: Job) -> None:
        self.jobs.append(job)
        if self._armed:  # the loop is woken once for all that come while it sleeps
            self._armed = False
            self._call(self._begin)

    def take_all(self) -> list[Job]:
        jobs = []
        while self.jobs:
            jobs.append(self.jobs.popleft())
        return jobs

    def interrupt(self, job: Job) -> None:
        self._call(self._cancel, job)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def stop(self) -> None:
        self._stopping = True
        self._call(self._end_if_idle)

    def _call(self, fn: Callable[..., object], *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop has ended; whoever closes it looks through what is left
            return

    def _live(self) -> None:
        here.forbidden = True
        asyncio.set_event_loop(self.loop)
        self._hub.emit(Origin.WORKER, Level.INFO, "worker.started", f"event loop {self.thread.name} started")
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()
            self._hub.emit(Origin.WORKER, Level.INFO, "worker.stopped", f"event loop {self.thread.name} stopped")

    def _begin(self) -> None:
        self._armed = True
        while self.jobs:
            job = self.jobs.popleft()
            task = self.loop.create_task(self._run(job))
            self.tasks[job] = task
        self._end_if_idle()

    def _cancel(self, job: Job) -> None:
        task = self.tasks.get(job)
        if task is not None:
            task.cancel()

    def _end_if_idle(self) -> None:
        if self._stopping and not self.tasks and not self.jobs:
            self.loop.stop()

    async def _run(self, job: Job) -> None:
        try:
            attempt = Attempt.begin(job, lambda attempt: self._call(self._stop_attempt, attempt))
            if attempt is not None:
                on_loop.set(job)
                await self._invoke(job, attempt)
        finally:
            self.tasks.pop(job, None)
            if self._stopping:
                self._end_if_idle()

    async def _invoke(self, job: Job, attempt: Attempt) -> None:
        try:
            value = await job._plan.run(*attempt.args, **(job._kwargs or {}))
        except BaseException as error:
            if attempt.stopping:
                attempt.stopped()
                return
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next
            attempt.fail(error)
        else:
            if attempt.stopping:
                attempt.stopped()
            else:
                attempt.succeed(value)

    def _stop_attempt(self, attempt: Attempt) -> None:
        if attempt.claim():
            attempt.stopping = True
            self._cancel(attempt.job)
