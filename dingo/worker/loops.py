"""LoopPool: an event loop on a thread of its own, for `async def` tasks, thousands at once.

A running task can really be stopped here: cancellation and time limits cancel its asyncio task.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.blocking import here
from dingo.events import Level, Origin
from dingo.job import Fault
from dingo.message.report import Code, Status
from dingo.worker.attempt import Attempt, failed, without_our_frame
from dingo.worker.context import on_loop

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

    from dingo.events import Hub
    from dingo.job import Job


# How long a task may take to end that was stopped because its time is over (seconds). One that swallows its
# cancellation or cleans up for longer ends TIMEOUT as in a thread: its function runs on, unseen.
STOPPING_SECONDS = 5.0


class LoopPool:
    """`count` event loops, each on its own thread, that share the calls put here."""

    kind = "async"
    ranked = False
    priority: int | None = None
    remote = False

    def __init__(self, name: str, count: int, hub: Hub) -> None:
        self.name = name
        self.count = count
        self.closed = False
        self._hub = hub
        self._lines = [_Line(f"{name}-{number}", hub) for number in range(count)]
        self._next = 0

    def __repr__(self) -> str:
        """Name and size."""
        return f"<LoopPool {self.name}: {self.count} loops>"

    def put(self, job: Job) -> None:
        """Have a call run on the next loop."""
        self._next = number = (self._next + 1) % self.count
        self._lines[number].put(job)

    def rank(self) -> None:
        """Nothing waits here for its turn: all that come run at once."""

    def resize(self, count: int) -> None:
        """Use `count` loops: more start now; those too many get no more calls, and end with the pool."""
        for number in range(len(self._lines), count):
            self._lines.append(_Line(f"{self.name}-{number}", self._hub))
        self.count = count

    def interrupt(self, job: Job) -> None:
        """Stop a call that runs here."""
        for line in self._lines:
            line.interrupt(job)

    def hold(self, manager: contextlib.AbstractAsyncContextManager[Any]) -> tuple[Any, Callable[[], object]]:
        """Enter a context manager on the first loop. Returns its value and what leaves it; both block."""
        return self._lines[0].hold(manager)

    def wait_idle(self, until: float | None) -> None:
        """Wait until nothing runs or waits here, or until that moment (time.monotonic)."""
        for line in self._lines:
            line.wait_idle(until)

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
        self._over = False
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

    def hold(self, manager: contextlib.AbstractAsyncContextManager[Any]) -> tuple[Any, Callable[[], object]]:
        entered: concurrent.futures.Future[tuple[Any, asyncio.Event]] = concurrent.futures.Future()

        async def live() -> None:  # entered and left in one task, as cancel scopes need it
            leave = asyncio.Event()
            async with manager as value:
                entered.set_result((value, leave))
                await leave.wait()

        life = asyncio.run_coroutine_threadsafe(live(), self.loop)
        life.add_done_callback(lambda life: None if entered.done() else entered.set_exception(life.exception()))
        value, leave = entered.result()

        def end() -> None:
            self._call(leave.set)
            life.result()

        return value, end

    def wait_idle(self, until: float | None) -> None:
        idle = asyncio.run_coroutine_threadsafe(self._idle(), self.loop)
        try:
            idle.result(None if until is None else max(0.0, until - monotonic()))
        except TimeoutError:
            idle.cancel()

    async def _idle(self) -> None:
        while self.jobs or self.tasks:
            await (asyncio.wait(self.tasks.values()) if self.tasks else asyncio.sleep(0))

    def stop(self) -> None:
        self._stopping = True
        self._call(self._end_if_idle)

    def _call(self, fn: Callable[..., object], *args: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(fn, *args)
        except RuntimeError:  # the loop has ended; whoever closes it looks through what is left
            return

    def _live(self) -> None:
        here.forbidden, here.hub = True, self._hub
        asyncio.set_event_loop(self.loop)
        self._hub.emit(Origin.WORKER, Level.INFO, "worker.started", f"event loop {self.thread.name} started")
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._clean_up())
        finally:
            self.loop.close()
            self._hub.emit(Origin.WORKER, Level.INFO, "worker.stopped", f"event loop {self.thread.name} stopped")

    async def _clean_up(self) -> None:
        """End what tasks have left behind on the loop."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self.loop.shutdown_asyncgens()
        await self.loop.shutdown_default_executor()

    def _begin(self) -> None:
        if self._over:
            return  # whoever put it here sees that the pool is closed
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
            self._over = True
            self.loop.stop()

    async def _run(self, job: Job) -> None:
        try:
            on_loop.set(job)
            attempt = Attempt.begin(job, lambda attempt: self._call(self._stop_attempt, attempt))
            if attempt is not None:
                await self._invoke(job, attempt)
        except BaseException as error:  # of dingo's own: the call must have its report
            self._hub.emit(
                Origin.WORKER, Level.ERROR, "worker.failed", f"an error in dingo on {self.thread.name}",
                {"error": error}, error=error,
            )  # fmt: skip
            fault = Fault(Code.EXCEPTION, error)
            if job.finish(Status.FAILURE, fault):
                failed(job, fault)
        finally:
            if self.tasks.get(job) is asyncio.current_task():  # else it runs again beside a task that did not stop
                del self.tasks[job]
            if self._stopping:
                self._end_if_idle()

    async def _invoke(self, job: Job, attempt: Attempt) -> None:
        try:
            value = await job._plan.run(*attempt.args, **(job._kwargs or {}))
        except BaseException as error:
            if not attempt.stopping:
                attempt.fail(without_our_frame(error))
                return
        else:
            if not attempt.stopping:
                attempt.succeed(value)
                return
        if attempt.left:
            attempt.returned()
        else:
            attempt.stopped()

    def _stop_attempt(self, attempt: Attempt) -> None:
        if attempt.claim():
            attempt.stopping = True
            self._cancel(attempt.job)
            self.loop.call_later(STOPPING_SECONDS, self._leave, attempt, self.tasks.get(attempt.job))

    def _leave(self, attempt: Attempt, task: asyncio.Task[None] | None) -> None:
        """End the call of a task that does not stop."""
        if task is not None and not task.done():
            attempt.left = True
            attempt.out_of_time("its task does not stop")
