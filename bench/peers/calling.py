"""The loops that time a caller, the same for all; only the verbs differ."""

import asyncio
from time import perf_counter


class Caller:
    """A library that is called from a thread.

    `submit(i)` sends add(i, i) and returns a handle, `read(handle)` waits for its value, `send(i)` sends tally(i),
    whose result nobody wants.
    """

    def submit(self, i):
        """Send add(i, i); return a handle."""
        raise NotImplementedError

    def read(self, handle):
        """Wait for the value of a handle."""
        raise NotImplementedError

    def send(self, i):
        """Send tally(i)."""
        raise NotImplementedError

    def flush(self):
        """Wait until the broker has all that was sent, as far as the library can tell."""

    def close(self):
        """Let go of the connections."""

    def burst(self, jobs):
        """Send all one by one, then read all; return the sum of the values and the seconds it took."""
        start = perf_counter()
        submit, read = self.submit, self.read
        handles = [submit(i) for i in range(jobs)]
        total = sum(map(read, handles))
        return total, perf_counter() - start

    def latencies(self, jobs):
        """Send and read one at a time; return the sum of the values and the seconds of each."""
        submit, read = self.submit, self.read
        times, total = [], 0
        for i in range(jobs):
            start = perf_counter()
            total += read(submit(i))
            times.append(perf_counter() - start)
        return total, times

    def enqueue(self, jobs, first=0):
        """Send jobs without wanting a result; return the seconds until the broker has them."""
        send = self.send
        start = perf_counter()
        for i in range(first, first + jobs):
            send(i)
        self.flush()
        return perf_counter() - start


class AsyncCaller(Caller):
    """A library that is called from an event loop, with up to IN_FLIGHT calls in flight where many are made."""

    IN_FLIGHT = 100

    def __init__(self):
        self.runner = asyncio.Runner()
        self.runner.run(self.open())

    async def open(self):
        """Connect."""

    async def shut(self):
        """Let go of the connections."""

    def close(self):
        """Let go of the connections, then of the loop."""
        self.runner.run(self.shut())
        self.runner.close()

    def burst(self, jobs):
        """Send all, many in flight, then read all; return the sum of the values and the seconds it took."""
        return self.runner.run(self._burst(jobs))

    async def _burst(self, jobs):
        start = perf_counter()
        handles = await self._windows(self.submit, range(jobs))
        total = sum(await self._windows(self.read, handles))
        return total, perf_counter() - start

    async def _windows(self, verb, subjects):
        done = []
        for first in range(0, len(subjects), self.IN_FLIGHT):
            done += await asyncio.gather(*map(verb, subjects[first : first + self.IN_FLIGHT]))
        return done

    def latencies(self, jobs):
        """Send and read one at a time; return the sum of the values and the seconds of each."""
        return self.runner.run(self._latencies(jobs))

    async def _latencies(self, jobs):
        times, total = [], 0
        for i in range(jobs):
            start = perf_counter()
            total += await self.read(await self.submit(i))
            times.append(perf_counter() - start)
        return total, times

    def enqueue(self, jobs, first=0):
        """Send jobs one after the other without wanting a result; return the seconds it took."""
        return self.runner.run(self._enqueue(jobs, first))

    async def _enqueue(self, jobs, first):
        start = perf_counter()
        for i in range(first, first + jobs):
            await self.send(i)
        return perf_counter() - start
