"""dingo where a `concurrent.futures.Executor` is asked for.

`app.as_executor()` is a real Executor: pass it to whatever takes one. Functions need no registration,
nothing is checked or carried, and futures hold the original exceptions.

Run:
    python examples/local/executor_dropin.py

Prints:
    [1, 4, 9]
    ZeroDivisionError
    asyncio: 1024
    named workers: dingo-convert-0
"""

import asyncio
import concurrent.futures
import threading

import dingo

app = dingo.App()


@app.task
def convert(text: str) -> str:
    return text.upper()


def squares(executor: concurrent.futures.Executor, numbers: list[int]) -> list[int]:
    """A function written for any executor."""
    futures = [executor.submit(pow, number, 2) for number in numbers]
    concurrent.futures.wait(futures)
    return [future.result() for future in futures]


async def power_of_two(executor: concurrent.futures.Executor) -> int:
    return await asyncio.get_running_loop().run_in_executor(executor, pow, 2, 10)


with app:
    with app.as_executor() as executor:  # shutting the executor down leaves the app open
        print(squares(executor, [1, 2, 3]))
        print(type(executor.submit(lambda: 1 // 0).exception()).__name__)
        print("asyncio:", asyncio.run(power_of_two(executor)))

    app.allocate("convert", 1)
    with app.as_executor("convert") as executor:  # the same threads that serve this name
        print("named workers:", executor.submit(lambda: threading.current_thread().name).result())
