"""The first minute: register a function, have workers call it, read what comes back.

Run:
    python examples/local/quickstart.py

Prints:
    5
    [0, 2, 4, 6, 8]
    add(): argument 'a': expected int, got 'two' (str)
"""

import dingo

app = dingo.App()


@app.task
def add(a: int, b: int) -> int:
    return a + b


with app:
    result = app.call("add", 2, 3)  # returns at once
    print(result.result(timeout=5))
    print(list(app.map("add", range(5), range(5))))
    try:
        app.call("add", "two", 3)
    except dingo.BadArguments as error:  # refused before anything was sent
        print(error)
