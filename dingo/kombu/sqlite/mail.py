"""Reports in the file: on their way to who waits for them, and kept for who asks."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any

from dingo.kombu.sqlite.rows import write

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from dingo.contracts import ReportEnvelope

_INTO = "INTO reports (reply, id, name, final, until, frame) {rows}"


def post(connection: sqlite3.Connection, reports: Iterable[ReportEnvelope], *, newest: bool = False) -> None:
    """Write reports into the file, within a transaction.

    The first final one of a name and id is kept; `newest`: the last, for these are the reports of the calls that are
    there now. Whichever is kept, all go to who waits for them.
    """
    now = time()
    rows = [(one.reply, one.id, one.name, int(one.final), now + one.keep, one.frame) for one in reports]
    written = write(connection, f"INSERT OR IGNORE {_INTO}", rows)
    if written < len(rows):
        _post_again(connection, rows, newest=newest)


def _post_again(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], *, newest: bool) -> None:
    """Write what was left out, as an earlier report of that name and id is kept."""
    for row in rows:
        reply, id, name, final, until, frame = row
        if not final:
            continue
        old = "SELECT seq, frame, until < ? FROM reports WHERE id = ? AND name = ? AND final = 1"
        seq, written, over = connection.execute(old, (time(), id, name)).fetchone()
        if written == frame:
            continue
        if newest or over:
            connection.execute("UPDATE reports SET final = 0 WHERE seq = ?", (seq,))
        write(connection, f"INSERT {_INTO}", [(reply, id, name, int(newest or over), until, frame)])
