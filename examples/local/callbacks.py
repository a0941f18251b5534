"""Callbacks: what to do when a call ends, at the caller or as a task of its own.

`on_ok`, `on_fail` and `on_progress` call a function of yours, exactly once (progress: each time), whether
you register it before or after the end. `on_success=` and `on_error=` call another task.

Run:
    python examples/local/callbacks.py

Prints:
    10 / 4 = 2.5
    1 / 0 failed: ZeroDivisionError
    report: mean is 2.5
    apology: float division by zero
"""

import threading

import dingo

app = dingo.App()
printed = threading.Semaphore(0)


def say(text: str) -> None:
    print(text)
    printed.release()


@app.task
def divide(a: float, b: float) -> float:
    return a / b


@app.task
def publish(mean: float, label: str) -> None:
    """Called with the result of `divide` before its own argument."""
    say(f"report: {label} is {mean}")


@app.task
def apologise(error: str) -> None:
    """Called with the text of the error."""
    say(f"apology: {error}")


with app:
    # At the caller. Callbacks run on a dingo thread, or at once if the call has ended.
    divide.call(10, 4).on_ok(lambda value: say(f"10 / 4 = {value}"))
    printed.acquire()
    divide.call(1, 0).on_fail(lambda failure: say(f"1 / 0 failed: {failure.type}"))
    printed.acquire()

    # As tasks of their own: they run in workers, wherever those are.
    divide.options(on_success=[publish.s("mean")]).call(10, 4)
    printed.acquire()
    divide.options(on_error=[apologise.s()]).call(1, 0)
    printed.acquire()
