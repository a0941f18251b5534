"""Closing an app: what runs, what is given up, and that every call hears of it.

Leaving `with app:` runs all that was accepted. `close(timeout=...)` gives it so many seconds. `drain=False`
runs only what has begun. Whatever cannot end is reported: FAILURE, code SHUTDOWN.

Run:
    python examples/local/shutdown.py

Prints:
    drained: [0, 1, 2, 3, 4]
    after 0.2 s: the running call FAILURE SHUTDOWN
    after 0.2 s: the waiting call FAILURE SHUTDOWN
    after 0.2 s: the delayed call FAILURE SHUTDOWN
    the function stopped when it was told
    refused: the app is closed: open it again (`with app:`) or make a new one
    opened again: 7
"""

import threading

import dingo

app = dingo.App()
stopped = threading.Event()


@app.task
def same(value: int) -> int:
    return value


@app.task
def endless(context: dingo.Context) -> None:
    """Work until nobody waits for it any more. A thread cannot be stopped from outside: it has to look."""
    pause = threading.Event()
    while not context.cancelled:
        pause.wait(0.01)
    stopped.set()


with app:
    accepted = [same.call(value) for value in range(5)]
print("drained:", [result.result() for result in accepted])

with app:
    app.allocate("endless", 1)
    running, waiting = endless.call(), endless.call()
    delayed = same.options(delay=3600).call(1)
    running.wait(until=dingo.Status.STARTED)
    app.close(timeout=0.2)

for what, report in {"running": running.last, "waiting": waiting.last, "delayed": delayed.last}.items():
    assert report.failure is not None
    print(f"after 0.2 s: the {what} call {report.status.name} {report.failure.code}")
print("the function", "stopped when it was told" if stopped.wait(5) else "runs on")

try:
    same.call(1)
except dingo.AppClosed as error:
    print("refused:", error)

with app:
    print("opened again:", same.call(7).result(timeout=5))
