"""Calls from asyncio: await a result, many results, or the reports of one.

Tasks may be plain functions (they run in threads) or `async def` (they run on dingo's own event loop,
thousands at once). The caller cannot tell the difference. Nothing here blocks the loop.

Run:
    python examples/local/async_caller.py

Prints:
    6
    [0, 1, 4, 9, 16]
    first to end: quick
    50 %
    100 %
    gave up waiting; the call goes on
    slow
"""

import asyncio

import dingo

app = dingo.App()


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
async def square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


@app.task
async def after(context: dingo.Context, seconds: float, word: str) -> str:
    await asyncio.sleep(seconds / 2)
    context.progress(50, 100)
    await asyncio.sleep(seconds / 2)
    context.progress(100, 100)
    return word


async def main() -> None:
    async with app:
        print(await total.call([1, 2, 3]))
        print(await dingo.gather(*(square.call(number) for number in range(5))))

        slow, quick = after.call(0.5, "slow"), after.call(0.0, "quick")
        async for result in dingo.as_completed([slow, quick]):
            print("first to end:", await result)
            break

        async for report in after.options(monitor_progress=True).call(0.01, "done").reports():
            if report.progress is not None:
                print(report.progress.done, "%")

        try:
            async with asyncio.timeout(0.01):
                await slow
        except TimeoutError:  # abandoning the wait never cancels the call
            print("gave up waiting; the call goes on")
        print(await slow)


asyncio.run(main())
