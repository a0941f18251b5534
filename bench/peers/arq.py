"""arq: `enqueue_job` and `job.result`. Both sides poll: each 5 ms here, half a second by default."""

import arq
from arq.connections import RedisSettings

from peers import place
from peers.calling import AsyncCaller

POLL = 0.005


async def add(_context, a, b):
    return a + b


async def tally(_context, job):
    place.mark(job)


class WorkerSettings:
    """What arq's worker reads."""

    functions = (add, arq.worker.func(tally, keep_result=0))
    redis_settings = RedisSettings.from_dsn(place.URL)
    poll_delay = POLL
    max_jobs = 10


class Caller(AsyncCaller):
    """The verbs."""

    async def open(self):
        """Make the pool of connections."""
        self.pool = await arq.create_pool(RedisSettings.from_dsn(place.URL))

    async def shut(self):
        """Close it."""
        await self.pool.close()

    async def submit(self, i):
        """Enqueue one job."""
        return await self.pool.enqueue_job("add", i, i)

    async def read(self, handle):
        """Poll for its result."""
        return await handle.result(timeout=60, poll_delay=POLL)

    async def send(self, i):
        """Enqueue one job whose result is not kept."""
        await self.pool.enqueue_job("tally", i)
