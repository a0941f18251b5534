"""Waiting for many results: `wait`, `as_completed` and `gather`."""

from __future__ import annotations

import concurrent.futures
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Self, TypeVar

from dingo.blocking import here
from dingo.channel import Channel
from dingo.errors import ResultTimeout
from dingo.message.report import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dingo.caller.result import Result

R = TypeVar("R")


class DoneAndNotDone(NamedTuple, Generic[R]):
    """What `wait` returns: the results that have ended and those that have not."""

    done: set[Result[R]]
    not_done: set[Result[R]]


def wait(results: Iterable[Result[R]], timeout: float | None = None,
         return_when: Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"] = "ALL_COMPLETED",
         ) -> DoneAndNotDone[R]:  # fmt: skip
    """Wait for many results, as `concurrent.futures.wait` does; `timeout` in seconds.

    Raises ValueError for an unknown `return_when`.
    """
    if return_when not in ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"):
        raise ValueError(f"return_when is ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, not {return_when!r}")
    several = set(results)
    ended: set[Result[R]] = set()
    completed = as_completed(several, timeout)
    try:
        for result in completed:
            ended.add(result)
            if return_when == "FIRST_COMPLETED" or (
                return_when == "FIRST_EXCEPTION" and result.status is Status.FAILURE
            ):
                break
    except ResultTimeout:
        pass
    done = {result for result in several if result.done()}
    return DoneAndNotDone(done, several - done)


class Completed(Generic[R]):
    """Results in the order they end: `for` in a thread, `async for` on an event loop."""

    _left = 0

    def __init__(self, results: Iterable[Result[R]], timeout: float | None) -> None:
        self._results = list(dict.fromkeys(results))
        self._until = None if timeout is None else monotonic() + timeout
        self._timeout = timeout
        self._channel: Channel[Result[R]] = Channel()
        self._ended = [(result, partial(self._channel.put, result)) for result in self._results]
        for result, latch in self._ended:
            if not result.watch(latch=latch):
                latch()
        self._left = len(self._results)
        self._looked_at = 0  # how many of them it has tried to run itself

    def __iter__(self) -> Self:
        """Return itself: as of a generator, there is no second round."""
        return self

    def __next__(self) -> Result[R]:
        """Return the next that ends. Raises ResultTimeout when the time is over."""
        if not self._left:
            raise StopIteration
        self._help()
        try:
            result = self._channel.get(self._time_left())
        except TimeoutError:
            raise self._out_of_time() from None
        self._left -= 1
        return result

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Result[R]:
        """Return the next that ends. Raises ResultTimeout when the time is over."""
        if not self._left:
            raise StopAsyncIteration
        import asyncio  # noqa: PLC0415 - whoever comes here has it

        try:
            async with asyncio.timeout(self._time_left()):
                result = await self._channel.aget()
        except TimeoutError:
            raise self._out_of_time() from None
        self._left -= 1
        return result

    def __del__(self) -> None:
        """Leave no trace at the calls when the loop over them was left early."""
        for result, latch in self._ended if self._left else ():
            result.unwatch(latch=latch)

    def _time_left(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - monotonic())

    def _help(self) -> None:
        """In a worker thread: run one of them here, if none has ended and one waits in this thread's pool."""
        if here.seat is None or len(self._channel) or self._until is not None:
            return
        while self._looked_at < len(self._results):
            result = self._results[self._looked_at]
            self._looked_at += 1
            if not result.started and here.seat.help(result):
                return

    def _out_of_time(self) -> ResultTimeout:
        return ResultTimeout(f"{self._left} of {len(self._results)} results had not ended within {self._timeout} s")


def as_completed(results: Iterable[Result[R]], timeout: float | None = None) -> Completed[R]:
    """Iterate over results in the order they end, with `for` or `async for`; `timeout` in seconds for all."""
    return Completed(results, timeout)


async def gather(*results: Result[Any], return_exceptions: bool = False) -> list[Any]:
    """Await many results and return their values in order.

    The first failure is raised (the other calls go on), or with `return_exceptions` stands in the list.
    """
    if not return_exceptions:
        async for result in as_completed(results):
            await result  # which raises the first failure, whichever call it is of
        return [await result for result in results]
    values: list[Any] = []
    for result in results:
        try:
            values.append(await result)
        except (Exception, concurrent.futures.CancelledError) as error:
            values.append(error)
    return values
