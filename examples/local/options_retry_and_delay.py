"""Options: retries, delays, time limits, how many may run at once, and doing a thing only once.

Options belong to a task (`@app.task(retry=3)`) or to one call (`task.options(delay=5).call(...)`); those of
the call win, field by field. All times are in seconds. A wrong option is refused where it is written.

Run:
    python examples/local/options_retry_and_delay.py

Prints:
    worked at attempt 3
    gave up after attempt 2: ConnectionError: no route
    asked for another attempt: ready
    waited 0.1 s or more: True
    while it waits, it is called again: the same call
    too slow: TIMEOUT
    too late: EXPIRED
    most at once: 2
    option 'dealy' is unknown: did you mean 'delay'?
"""

import threading
import time
from typing import Any

import dingo

app = dingo.App()


@app.task(retry=dingo.Retry(max=3, backoff="exponential", base=0.01, on=(ConnectionError,)))
def download(context: dingo.Context, works_at: int) -> int:
    if context.attempt < works_at:
        raise ConnectionError("no route")
    return context.attempt


@app.task
def poll(context: dingo.Context) -> str:
    """Asking for another attempt needs no policy."""
    if context.attempt == 1:
        raise dingo.RetryLater("not ready", delay=0.01)
    return "ready"


@app.task
def now() -> float:
    return time.monotonic()


@app.task(unique=True)
def refresh(page: str) -> str:
    return page


@app.task
def wait_for(gate: threading.Event) -> None:
    gate.wait(5)


class Running:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = 0

    def visit(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.005)
        with self.lock:
            self.now -= 1


running = Running()
app.register("visit", running.visit, max_concurrency=2)


def failure_of(result: dingo.Result[Any]) -> dingo.Failure:
    result.wait()
    failure = result.last.failure
    assert failure is not None
    return failure


with app:
    print("worked at attempt", download.call(works_at=3).result())
    hopeless = download.options(retry=1).call(works_at=9)
    failure = failure_of(hopeless)
    print(f"gave up after attempt {hopeless.last.attempt}: {failure.type}: {failure.message}")
    print("asked for another attempt:", poll.call().result())

    start = time.monotonic()
    print("waited 0.1 s or more:", now.options(delay=0.1).call().result() - start >= 0.1)

    first, second = (refresh.options(delay=0.05).call("/news") for _ in range(2))
    print("while it waits, it is called again:", "the same call" if first.id == second.id else "two calls")

    gate = threading.Event()
    app.allocate("wait_for", 1)
    print("too slow:", failure_of(wait_for.options(timeout=0.05).call(gate)).code)

    blocked = wait_for.call(gate)  # the only worker of this name is busy ...
    expiring = wait_for.options(expires=0.01).call(gate)
    time.sleep(0.05)
    gate.set()  # ... until now, which is too late for the call that waited
    print("too late:", failure_of(expiring).code)

    dingo.wait(app.call_many("visit", [()] * 20))
    print("most at once:", running.most)

    try:
        now.options(dealy=5)  # type: ignore[call-arg]
    except dingo.BadOption as error:
        print(error)
