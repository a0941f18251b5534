"""dramatiq: `send` and `get_result(block=True)`."""

import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from peers import place
from peers.calling import Caller as _Caller

if "amqp" in place.NAME:
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    broker = RabbitmqBroker(url=place.URL, confirm_delivery="confirmed" in place.NAME)
else:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=place.URL)
broker.add_middleware(Results(backend=RedisBackend(url=place.REDIS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def add(a, b):
    return a + b


@dramatiq.actor
def tally(job):
    place.mark(job)


class Caller(_Caller):
    """The verbs."""

    def submit(self, i):
        """Send one message."""
        return add.send(i, i)

    def read(self, handle):
        """Block on the result's key."""
        return handle.get_result(block=True, timeout=60_000)

    def send(self, i):
        """Send one message without a result."""
        tally.send(i)

    def close(self):
        """Close the connections."""
        broker.close()
