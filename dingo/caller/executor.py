"""Executor: dingo's pools as a `concurrent.futures.Executor`, for everything that takes one."""

from __future__ import annotations

import concurrent.futures
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from dingo.blocking import away
from dingo.message.report import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.job import Job
    from dingo.plan import Plan


class Future(concurrent.futures.Future[Any]):
    """The future of a submitted function. It carries the original value or exception."""

    _job: Job | None = None  # set when it has been sent

    def cancel(self) -> bool:
        """Withdraw the function; False when it runs or has run."""
        if super().cancelled():
            return True
        job = self._job
        return job is not None and job.start() is not None and job._plan.cancel(job)

    def running(self) -> bool:
        """Whether the function runs now."""
        return not self.done() and self._job is not None and self._job.started

    def result(self, timeout: float | None = None) -> Any:
        """As in the standard library; in a worker thread the pool stands in meanwhile."""
        if self.done():
            return super().result()
        with away():
            return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As in the standard library; in a worker thread the pool stands in meanwhile."""
        if self.done():
            return super().exception()
        with away():
            return super().exception(timeout)

    def end(self, job: Job) -> None:
        """Take over how the job ended."""
        if job._status is Status.SUCCESS:
            self.set_result(job._value)
        elif job._status is Status.CANCELLED or job._value.error is None:  # withdrawn, or the app was closed
            super().cancel()
            self.set_running_or_notify_cancel()
        else:
            self.set_exception(job._value.error)


def _apply(fn: Any, args: Any, kwargs: Any) -> Any:
    return fn(*args, **kwargs)


class Executor(concurrent.futures.Executor):
    """Runs functions in an app's pools. Shutting it down ends it alone, not the app."""

    def __init__(self, make_plan: Callable[[Callable[..., Any], str | None], Plan], name: str | None) -> None:
        self._make_plan = make_plan
        self._name = name
        self._plan = make_plan(_apply, name)
        self._lock = threading.Lock()
        self._futures: set[Future] = set()
        self._shut_down = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run `fn(*args, **kwargs)` and return its future. Raises RuntimeError after a shutdown, AppClosed."""
        future = Future()
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._futures.add(future)
        try:
            if self._plan.bridge.closed:  # and the app was opened anew since
                self._plan = self._make_plan(_apply, self._name)
            future._job = job = self._plan.send((fn, args, kwargs), {})
        except BaseException:
            self._futures.discard(future)
            raise
        if not job.watch(latch=partial(self._ended, future, job)):
            self._ended(future, job)
        return future

    def _ended(self, future: Future, job: Job) -> None:
        with self._lock:
            self._futures.discard(future)
        future.end(job)

    @property
    def _max_workers(self) -> int:
        """How many functions run at once: what dask and others read of an executor, in lack of a public name."""
        return self._plan.pool.count

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more; wait for what was submitted."""
        with self._lock:
            self._shut_down = True
            futures = set(self._futures)
        if cancel_futures:
            for future in futures:
                future.cancel()
        if wait:
            with away():
                concurrent.futures.wait(futures)
