"""Tasks with a state: a bound method and a closure.

Any callable is a task. A name with one worker of its own runs one call at a time, in the order they were
made, so the state needs no lock. Other names go on in their own workers meanwhile.

Run:
    python examples/local/stateful_worker.py

Prints:
    balance: 10000
    statement: opened, +100, -30
    ids: ['inv-1', 'inv-2', 'inv-3']
"""

from collections.abc import Callable

import dingo


class Account:
    """Not thread-safe at all: it reads, then writes."""

    def __init__(self) -> None:
        self.balance = 0
        self.lines = ["opened"]

    def deposit(self, amount: int) -> int:
        before = self.balance
        self.balance = before + amount
        return self.balance

    def note(self, line: str) -> None:
        self.lines.append(line)


def numbering(prefix: str) -> Callable[[], str]:
    """Return a function that counts."""
    last = 0

    def next_id() -> str:
        nonlocal last
        last += 1
        return f"{prefix}-{last}"

    return next_id


app = dingo.App()
account = Account()
app.register("deposit", account.deposit)
app.register("note", account.note)
app.register("next_id", numbering("inv"))

with app:
    app.allocate("deposit", 1)
    app.allocate("note", 1)
    app.allocate("next_id", 1)

    deposits = app.call_many("deposit", [(1,)] * 10_000)
    dingo.wait(deposits)
    print("balance:", account.balance)

    dingo.wait(app.call_many("note", [("+100",), ("-30",)]))
    print("statement:", ", ".join(account.lines))

    print("ids:", [result.result() for result in app.call_many("next_id", [()] * 3)])
