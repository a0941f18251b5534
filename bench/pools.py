"""One class per contestant: the same few verbs over each library's own idiom.

`submit(i, i)` returns a handle and `read(handle)` its value, both bound as directly as Python allows
(`functools.partial`, `operator.methodcaller`), so that the loops which time them add the same few
nanoseconds to everybody. A library that works in batches or in coroutines overrides `burst` instead.
Libraries are imported when their class is made: a contestant's process holds no other's modules.
"""

import asyncio
import threading
from functools import partial
from operator import methodcaller
from time import perf_counter_ns

GATE = threading.Event()


def add(a: int, b: int) -> int:
    return a + b


def gated_add(a: int, b: int) -> int:
    GATE.wait()
    return a + b


class Pool:
    """A contestant that is called from threads."""

    def __init__(self, workers, function=add):
        self.workers = workers
        self.function = function
        self.note = ""
        self.open()

    def open(self):
        """Import the library, start the workers, set `submit` and `read`."""
        raise NotImplementedError

    def close(self):
        """Stop the workers."""

    def burst(self, jobs):
        """Submit all, then read all; return the sum of the results."""
        submit = self.submit
        handles = [submit(i, i) for i in range(jobs)]
        return sum(map(self.read, handles))

    def latencies(self, jobs):
        """Call and read one at a time; return the nanoseconds of each and the sum of the results."""
        submit, read = self.submit, self.read
        times, total = [], 0
        for i in range(jobs):
            start = perf_counter_ns()
            value = read(submit(i, i))
            times.append(perf_counter_ns() - start)
            total += value
        return times, total


class AsyncPool(Pool):
    """A contestant that is awaited: `submit(i, i)` returns an awaitable."""

    def __init__(self, workers, function=add):
        self.runner = asyncio.Runner()
        super().__init__(workers, function)

    def close(self):
        """Close the event loop."""
        self.runner.close()

    def burst(self, jobs):
        """Submit all, then await each; return the sum of the results."""
        return self.runner.run(self._burst(jobs))

    async def _burst(self, jobs):
        submit = self.submit
        handles = [submit(i, i) for i in range(jobs)]
        total = 0
        for handle in handles:
            total += await handle
        return total

    def gather(self, jobs, width):
        """Gather `width` calls at a time; return the sum of the results."""
        return self.runner.run(self._gather(jobs, width))

    async def _gather(self, jobs, width):
        submit = self.submit
        total = 0
        for first in range(0, jobs, width):
            total += sum(await asyncio.gather(*[submit(i, i) for i in range(first, min(first + width, jobs))]))
        return total

    def latencies(self, jobs):
        """Await one call at a time; return the nanoseconds of each and the sum of the results."""
        return self.runner.run(self._latencies(jobs))

    async def _latencies(self, jobs):
        submit = self.submit
        times, total = [], 0
        for i in range(jobs):
            start = perf_counter_ns()
            value = await submit(i, i)
            times.append(perf_counter_ns() - start)
            total += value
        return times, total


class Dingo(Pool):
    """`app.call`, then `result.result()`."""

    def open(self):
        """Register the task and give it its threads."""
        import dingo

        name = self.function.__name__
        self.app = dingo.App()
        self.app.task(self.function)
        self.app.allocate(name, self.workers)
        self.submit = partial(self.app.call, name)
        self.read = methodcaller("result")

    def close(self):
        """Close the app."""
        self.app.close()


class DingoFeatured(Dingo):
    """The same calls, with the events read by a thread and the progress of each call monitored."""

    def open(self):
        """Register the task with its progress monitored, and start the thread that reads the events."""
        import dingo

        name = self.function.__name__
        self.app = dingo.App()
        self.app.task(monitor_progress=True)(self.function)
        self.app.allocate(name, self.workers)
        self.submit = partial(self.app.call, name)
        self.read = methodcaller("result")
        self.events = 0
        self.subscription = self.subscribe(dingo.Level.DEBUG)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def subscribe(self, level):
        """Listen with dingo's own limit of waiting events."""
        return self.app.listen(level=level)

    def _listen(self):
        for _event in self.subscription:
            self.events += 1

    def close(self):
        """Say how far the listener has come, then close the app, which ends the stream of events."""
        waiting, dropped = len(self.subscription), self.subscription.dropped
        self.note = f"{self.events:,} events read, {waiting:,} still waiting, {dropped:,} dropped"
        self.app.close()
        self.listener.join(timeout=10)


class DingoFeaturedLossless(DingoFeatured):
    """The same with room for every event, so that none is dropped when the listener is slower."""

    def subscribe(self, level):
        """Listen without a limit."""
        return self.app.listen(level=level, maxsize=0)


class DingoCallMany(Dingo):
    """`app.call_many`: one statement for all the calls, a result for each."""

    def burst(self, jobs):
        """Submit all in one statement, then read all."""
        return sum(map(self.read, self.app.call_many(self.function.__name__, [(i, i) for i in range(jobs)])))


class DingoMap(Dingo):
    """`app.map`: one statement for all the calls, the values in order."""

    def burst(self, jobs):
        """Map over two ranges."""
        return sum(self.app.map(self.function.__name__, range(jobs), range(jobs)))


class DingoAwait(AsyncPool):
    """`app.call` in a coroutine, then `await result`."""

    def open(self):
        """Register the task and give it its threads."""
        import dingo

        name = self.function.__name__
        self.app = dingo.App()
        self.app.task(self.function)
        self.app.allocate(name, self.workers)
        self.submit = partial(self.app.call, name)

    def close(self):
        """Close the app, then the event loop."""
        self.app.close()
        super().close()


class Executor(Pool):
    """`concurrent.futures.ThreadPoolExecutor`: `submit`, then `future.result()`."""

    def open(self):
        """Make the executor."""
        from concurrent.futures import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor(self.workers)
        self.submit = partial(self.executor.submit, self.function)
        self.read = methodcaller("result")

    def close(self):
        """Shut the executor down."""
        self.executor.shutdown()


class ExecutorMap(Executor):
    """`ThreadPoolExecutor.map`."""

    def burst(self, jobs):
        """Map over two ranges."""
        return sum(self.executor.map(self.function, range(jobs), range(jobs)))


class RunInExecutor(AsyncPool):
    """asyncio's `loop.run_in_executor` over a ThreadPoolExecutor."""

    def open(self):
        """Make the executor."""
        from concurrent.futures import ThreadPoolExecutor

        self.executor = ThreadPoolExecutor(self.workers)
        self.submit = partial(self.runner.get_loop().run_in_executor, self.executor, self.function)

    def close(self):
        """Shut the executor down, then close the event loop."""
        self.executor.shutdown()
        super().close()


class Multiprocessing(Pool):
    """`multiprocessing.pool.ThreadPool`: `apply_async`, then `get()`."""

    def open(self):
        """Make the pool."""
        from multiprocessing.pool import ThreadPool

        self.pool = ThreadPool(self.workers)
        self.read = methodcaller("get")

    def submit(self, a, b):
        """Submit one call."""
        return self.pool.apply_async(self.function, (a, b))

    def close(self):
        """Stop the threads."""
        self.pool.terminate()


class MultiprocessingStarmap(Multiprocessing):
    """`ThreadPool.starmap`, which cuts the calls into batches by its own rule."""

    def burst(self, jobs):
        """Map over pairs."""
        return sum(self.pool.starmap(self.function, [(i, i) for i in range(jobs)]))


class Joblib(Pool):
    """joblib's threading backend, with its own default batching."""

    def open(self):
        """Start the threads, which stay between bursts."""
        from joblib import Parallel, delayed

        self.call = delayed(self.function)
        self.parallel = Parallel(n_jobs=self.workers, backend="threading")
        self.parallel.__enter__()

    def close(self):
        """Stop the threads."""
        self.parallel.__exit__(None, None, None)

    def burst(self, jobs):
        """Hand all the calls over; joblib gives the list of values."""
        return sum(self.parallel(self.call(i, i) for i in range(jobs)))


class Huey(Pool):
    """huey's MemoryHuey with its own consumer: worker threads on an in-memory queue, polled each millisecond.

    Both sides of huey poll. Its default intervals (a tenth of a second and more) suit a server, not this
    comparison; a millisecond is the fastest that does not take the processor from the workers.
    """

    POLL = 0.001

    def open(self):
        """Start the consumer."""
        from huey import MemoryHuey

        self.huey = MemoryHuey(immediate=False)
        self.submit = self.huey.task()(self.function)
        self.read = methodcaller("get", blocking=True, max_delay=self.POLL)
        self.consumer = self.huey.create_consumer(
            workers=self.workers,
            periodic=False,
            initial_delay=self.POLL,
            max_delay=self.POLL,
            backoff=1.0,
        )
        self.consumer.start()

    def close(self):
        """Stop the consumer."""
        self.consumer.stop()


class Taskiq(AsyncPool):
    """taskiq's InMemoryBroker: `kiq` each call, wait for all, read each result.

    Every result is kept (its default keeps the last 100), or there would be none to read.
    """

    def open(self):
        """Make the broker."""
        from taskiq import InMemoryBroker

        self.broker = InMemoryBroker(sync_tasks_pool_size=self.workers, max_stored_results=-1)
        self.task = self.broker.task(self.function)

    async def submit(self, a, b):
        """Make one call and wait for its value."""
        handle = await self.task.kiq(a, b)
        await self.broker.wait_all()
        return (await handle.get_result()).return_value

    async def _burst(self, jobs):
        handles = [await self.task.kiq(i, i) for i in range(jobs)]
        await self.broker.wait_all()
        total = 0
        for handle in handles:
            total += (await handle.get_result()).return_value
        return total

    def close(self):
        """Stop the broker, then close the event loop."""
        self.runner.run(self.broker.shutdown())
        super().close()


POOLS = {
    "dingo": Dingo,
    "dingo-featured": DingoFeatured,
    "dingo-featured-lossless": DingoFeaturedLossless,
    "dingo-call_many": DingoCallMany,
    "dingo-map": DingoMap,
    "dingo-await": DingoAwait,
    "ThreadPoolExecutor": Executor,
    "ThreadPoolExecutor-map": ExecutorMap,
    "run_in_executor": RunInExecutor,
    "multiprocessing": Multiprocessing,
    "multiprocessing-starmap": MultiprocessingStarmap,
    "joblib": Joblib,
    "huey": Huey,
    "taskiq": Taskiq,
}
