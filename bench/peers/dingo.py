"""dingo, by `app.call` and `result.result()`; in one statement by `call_many` and `map`."""

from time import perf_counter

import dingo
from peers import place
from peers.calling import Caller as _Caller

QUORUM = place.NAME.endswith("quorum")
# A queue of its own, as that of the same name is there already and is of the other type. A million calls are more than
# may be open.
app = dingo.App(
    f"{place.URL}?queue_type=quorum" if QUORUM else place.URL,
    config=dingo.Config(queue="quorum" if QUORUM else "default", when_full="wait"),
)


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task(ignore_report=True)
def tally(job: int) -> None:
    place.mark(job)


class Caller(_Caller):
    """The verbs."""

    def submit(self, i):
        """Call by the task, as the manual does."""
        return add.call(i, i)

    def read(self, handle):
        """Wait as a Future waits."""
        return handle.result(60)

    def send(self, i):
        """Call a task that ignores its report."""
        tally.call(i)

    def flush(self):
        """Wait for the broker's confirmations."""
        if not app.flush(120):
            raise RuntimeError("not all calls were sent within 120 s")

    def close(self):
        """Close the app."""
        app.close(10)

    def call_many(self, jobs):
        """Make all calls in one statement, a result for each."""
        start = perf_counter()
        total = sum(result.result(60) for result in add.call_many([(i, i) for i in range(jobs)]))
        return total, perf_counter() - start

    def map(self, jobs):
        """Map over two ranges."""
        start = perf_counter()
        total = sum(add.map(range(jobs), range(jobs), timeout=60))
        return total, perf_counter() - start
