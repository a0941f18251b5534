"""celery: `delay` and `get`."""

import celery

from peers import place
from peers.calling import Caller as _Caller

app = celery.Celery("bench", broker=place.URL, backend="rpc://" if place.NAME.endswith("amqp") else place.URL)
app.conf.update(broker_connection_retry_on_startup=True)


@app.task
def add(a, b):
    return a + b


@app.task(ignore_result=True)
def tally(job):
    place.mark(job)


class Caller(_Caller):
    """The verbs."""

    def submit(self, i):
        """Send one call."""
        return add.delay(i, i)

    def read(self, handle):
        """Wait for a result; the callbacks of its backend bring it."""
        return handle.get(timeout=60)

    def send(self, i):
        """Send one call whose result is ignored."""
        tally.delay(i)

    def close(self):
        """Close the pools of connections."""
        app.close()
