"""What the worker processes of `census_survives_a_kill.py` serve: the tasks of the local census, unchanged.

All it adds is a note of every start, so that the example can count what ran twice.

Run:
    dingo worker census_workers:app --broker sqlite:///census.db
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "local"))

from stdlib_census import app

import dingo

_starts = os.open(os.environ.get("CENSUS_STARTS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.before_task
def note(context: dingo.Context) -> None:
    """Note that a call starts. One write of a short line is not mixed with another process'."""
    os.write(_starts, f"{context.id}\n".encode())


__all__ = ["app"]
