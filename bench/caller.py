"""The caller's process of one contestant: reads a command a line, answers with a line of JSON.

    python bench/caller.py MODULE

`burst N`, `call_many N`, `map N` and `latencies N` check the sum of the results: nobody wins by dropping work.
`stage.py` starts this with the environment that `peers/place.py` reads, and ends it by closing its standard input.
"""

import importlib
import json
import os
import sys
from pathlib import Path


def check(total, jobs):
    if total != jobs * (jobs - 1):
        raise RuntimeError(f"the results sum up to {total}, not to {jobs * (jobs - 1)}")


def peak():
    """Count the bytes of this process that were in memory at the most."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def answer(caller, verb, *numbers):
    """Carry out one command."""
    if verb in {"burst", "call_many", "map"}:
        total, seconds = getattr(caller, verb)(*numbers)
        check(total, *numbers)
        return {"seconds": seconds}
    if verb == "latencies":
        total, times = caller.latencies(*numbers)
        check(total, *numbers)
        return {"times": times}
    if verb == "enqueue":
        return {"seconds": caller.enqueue(*numbers), "peak": peak()}
    if verb == "memory":
        return {"peak": peak()}
    raise ValueError(f"unknown command {verb!r}")


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    caller = importlib.import_module(sys.argv[1]).Caller()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        verb, *numbers = line.split()
        print(json.dumps(answer(caller, verb, *map(int, numbers))), file=answers, flush=True)
    caller.close()


if __name__ == "__main__":
    main()
