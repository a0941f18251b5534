"""Tasks that do not know where they run: in the process of their caller, or on many machines.

Run: see caller.py
"""

import dingo

app = dingo.App()


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def count(context: dingo.Context, words: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        counts[word] = counts.get(word, 0) + 1
        context.progress(number, len(words))
    return counts
