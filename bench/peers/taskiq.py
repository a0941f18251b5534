"""taskiq: `kiq` and `wait_result`, which polls: each 5 ms here, a fifth of a second by default."""

import os

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend, RedisStreamBroker

from peers import place
from peers.calling import AsyncCaller

POLL = 0.005

if place.NAME.endswith("amqp"):
    from taskiq_aio_pika import AioPikaBroker

    broker = AioPikaBroker(place.URL)
else:
    broker = (ListQueueBroker if place.NAME.endswith("list") else RedisStreamBroker)(place.URL)
if os.environ.get("BENCH_RESULTS") != "off":  # a broker that has a result backend stores every result
    broker = broker.with_result_backend(RedisAsyncResultBackend(place.REDIS))


@broker.task
async def add(a: int, b: int) -> int:
    return a + b


@broker.task
async def tally(job: int) -> None:
    place.mark(job)


class Caller(AsyncCaller):
    """The verbs."""

    async def open(self):
        """Connect."""
        await broker.startup()

    async def shut(self):
        """Disconnect."""
        await broker.shutdown()

    async def submit(self, i):
        """Send one task."""
        return await add.kiq(i, i)

    async def read(self, handle):
        """Poll for its result."""
        return (await handle.wait_result(check_interval=POLL, timeout=60)).return_value

    async def send(self, i):
        """Send one task."""
        await tally.kiq(i)
