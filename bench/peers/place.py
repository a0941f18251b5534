"""What a contestant's processes are told by the benchmark: where its server is, and where to mark which jobs ran."""

import mmap
import os
from functools import cache
from pathlib import Path

URL = os.environ["BENCH_URL"]  # the contestant's broker
REDIS = os.environ.get("BENCH_REDIS", "")  # where results go that the broker does not keep
NAME = os.environ["BENCH_CONTESTANT"]
MARKS = os.environ["BENCH_MARKS"]


@cache
def _marks():
    with Path(MARKS).open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def mark(job):
    """Set a job's byte in the file that the benchmark looks at: so it sees what has run without asking anybody."""
    _marks()[job] = 1
