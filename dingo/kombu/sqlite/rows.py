"""Many rows in one statement.

For each step of a statement Python's `sqlite3` lets go of the interpreter and takes it again, which beside threads that
compute takes up to 5 ms (`sys.getswitchinterval`): a thousand rows that are written one by one keep the file locked
for as long as those go on. A statement with a thousand rows is one step, and half the work.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

# How many rows a statement has, as coins have values: any number is made up of few, and few are to be kept prepared.
SIZES = (1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)


@cache
def _statement(template: str, width: int, size: int) -> str:
    row = f"({','.join('?' * width)})"
    return template.replace("{rows}", f"VALUES {','.join([row] * size)}")


def portions(rows: Sequence[Sequence[Any]]) -> Iterator[tuple[int, list[Any]]]:
    """Part rows into `SIZES`: yield how many there are in a part, and their values one behind the other."""
    first = 0
    for size in SIZES:
        while len(rows) - first >= size:
            yield size, list(chain.from_iterable(rows[first : first + size]))
            first += size


def statements(template: str, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, list[Any]]]:
    """Yield statements that take all rows together, with their values; `{rows}` in the template stands for rows."""
    for size, values in portions(rows):
        yield _statement(template, len(rows[0]), size), values


def write(connection: sqlite3.Connection, template: str, rows: Sequence[Sequence[Any]]) -> int:
    """Carry out a statement for all rows, within a transaction; return how many were changed."""
    return sum(connection.execute(statement, values).rowcount for statement, values in statements(template, rows))
