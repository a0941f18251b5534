"""saq: `enqueue`, then poll as its `map` does: each 5 ms here, half a second by default.

`refresh(until_complete=...)` would listen instead, but misses what ends between its look and its listening.
"""

import asyncio

import saq

from peers import place
from peers.calling import AsyncCaller

POLL = 0.005

queue = saq.Queue.from_url(place.URL)


async def add(_context, *, a, b):
    return a + b


async def tally(_context, *, job):
    place.mark(job)


settings = {"queue": queue, "functions": [add, tally], "concurrency": 10}


class Caller(AsyncCaller):
    """The verbs."""

    async def open(self):
        """Connect."""
        await queue.connect()

    async def shut(self):
        """Disconnect."""
        await queue.disconnect()

    async def submit(self, i):
        """Enqueue one job."""
        return await queue.enqueue("add", a=i, b=i)

    async def read(self, handle):
        """Poll for its result."""
        await handle.refresh()
        while not handle.completed:
            await asyncio.sleep(POLL)
            await handle.refresh()
        if handle.status != saq.Status.COMPLETE:
            raise RuntimeError(f"a job of saq is {handle.status.value}: {handle.error}")
        return handle.result

    async def send(self, i):
        """Enqueue one job whose result is not kept."""
        await queue.enqueue("tally", job=i, ttl=-1)
