"""Compare dingo's process pool with `concurrent.futures.ProcessPoolExecutor`, two workers each.

    python bench/processes.py                      # three rounds: under a minute
    python bench/processes.py --rounds 1           # rougher
    python bench/processes.py --only burst dingo   # one measure of one contestant in this process, as JSON

Every contestant runs each measure in a process of its own, and they take turns; a figure is the median of the
rounds, with the range beside it. Results are summed and checked: a wrong sum is a crash, not a figure.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from operator import methodcaller

WORKERS = 2
CONTESTANTS = ("dingo", "ProcessPoolExecutor")


def same(number):
    return number


def spin(loops):
    """Compute for as long as so many turns of a loop take."""
    total = 0
    for number in range(loops):
        total += number
    return loops


def calibrated(seconds):
    """How many turns of `spin` take so long here and now."""
    loops = 10_000
    best = min(_timed(spin, loops) for _ in range(50))
    return int(loops * seconds / best)


def _timed(fn, *args):
    start = time.perf_counter()
    fn(*args)
    return time.perf_counter() - start


def open_dingo(function):
    import dingo

    app = dingo.App("local")
    app.register("task", function)
    app.allocate("task", WORKERS, pool="process")
    return partial(app.call, "task"), app.close


def open_executor(function):
    pool = ProcessPoolExecutor(WORKERS)
    return partial(pool.submit, function), pool.shutdown


OPEN = dict(zip(CONTESTANTS, (open_dingo, open_executor), strict=True))
read = methodcaller("result")


def throughput(submit, arguments):
    """Submit all, then read all; calls per second."""
    start = time.perf_counter()
    total = sum(map(read, [submit(one) for one in arguments]))
    seconds = time.perf_counter() - start
    if total != sum(arguments):
        raise RuntimeError(f"the results sum up to {total}, not to {sum(arguments)}")
    return len(arguments) / seconds


def latency(submit, arguments):
    """Call and read one at a time; the median in microseconds."""
    times = []
    for one in arguments:
        start = time.perf_counter()
        value = read(submit(one))
        times.append(time.perf_counter() - start)
        if value != one:
            raise RuntimeError(f"the result of {one} is {value}")
    return statistics.median(times) * 1e6


# name: title, unit, how, function, arguments from calibration, target of the ratio
MEASURES = {
    "burst": ("20,000 calls that do nothing", "calls/s", throughput, same, lambda _: list(range(20_000)), ">= 10"),
    "latency": ("call to result, median", "µs", latency, same, lambda _: list(range(3_000)), "<= 0.7"),
    "cpu-1ms": ("2,000 calls of 1 ms of computing", "calls/s", throughput, spin, lambda n: [n] * 2_000, ">= 1.15"),
    "cpu-100ms": ("40 calls of 100 ms of computing", "calls/s", throughput, spin, lambda n: [100 * n] * 40, ">= 1"),
}


def measure(name, contestant, loops):
    """Run one measure of one contestant here."""
    _, _, how, function, arguments, _ = MEASURES[name]
    submit, close = OPEN[contestant](function)
    throughput(submit, [1] * 200)  # start the workers
    figure = how(submit, arguments(loops))
    close()
    return figure


def in_own_process(name, contestant, loops):
    """Run one measure of one contestant in a fresh interpreter."""
    command = [sys.executable, __file__, "--only", name, contestant, "--loops", str(loops)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare(name, rounds, loops):
    """Print one measure of all contestants, and the ratio of dingo to the other."""
    title, unit, *_, target = MEASURES[name]
    figures = {contestant: [] for contestant in CONTESTANTS}
    for _ in range(rounds):
        for contestant in CONTESTANTS:
            figures[contestant].append(in_own_process(name, contestant, loops))
    medians = [statistics.median(figures[contestant]) for contestant in CONTESTANTS]
    ratio = medians[0] / medians[1]
    sign, limit = target.split()
    reached = ratio >= float(limit) if sign == ">=" else ratio <= float(limit)
    print(f"\n{name}: {title}")
    for contestant, median in zip(CONTESTANTS, medians, strict=True):
        low, high = min(figures[contestant]), max(figures[contestant])
        print(f"  {contestant:20} {median:12,.1f} {unit:8} ({low:,.1f} to {high:,.1f})")
    print(f"  ratio {ratio:.2f} x, target {target} x: {'reached' if reached else 'MISSED'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("MEASURE", "CONTESTANT"))
    parser.add_argument("--loops", type=int, default=0, help="turns of a loop that take 1 ms")
    options = parser.parse_args()
    loops = options.loops or calibrated(0.001)
    if options.only:
        print(json.dumps(measure(*options.only, loops)))
        return
    for name in MEASURES:
        compare(name, options.rounds, loops)


if __name__ == "__main__":
    main()
