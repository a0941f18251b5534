"""huey: call the task, then the result."""

import huey as library

from peers import place
from peers.calling import Caller as _Caller

if place.NAME.endswith("sqlite"):
    huey = library.SqliteHuey(filename=place.URL.removeprefix("sqlite:///"))
else:
    huey = library.RedisHuey(url=place.URL, notify_result=True)


@huey.task()
def add(a, b):
    return a + b


@huey.task()
def tally(job):
    place.mark(job)  # nothing is kept of a task that returns None


class Caller(_Caller):
    """The verbs."""

    def submit(self, i):
        """Put one task into the queue."""
        return add(i, i)

    def read(self, handle):
        """Block on Redis, which is told of results; poll SQLite each millisecond: it tells nobody."""
        return handle.get(blocking=True, timeout=60, backoff=1, max_delay=0.001)

    def send(self, i):
        """Put one task into the queue."""
        tally(i)
