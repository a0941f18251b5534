"""What it costs to ask for more: options that a call turns out not to need, and thousands of async tasks at once.

    python bench/tasks.py                          # five rounds
    python bench/tasks.py --rounds 3               # rougher
    python bench/tasks.py --only options plain     # one contestant of one measure in this process, as JSON

Every contestant runs in a process of its own, and they take turns; a figure is the best of the rounds, for what else
the machine does only ever makes it worse, with the range beside it. Results are summed and checked.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

CALLS = 50_000
SLEEPERS = 10_000
OPTIONS = {
    "plain": {},
    "all four": {"retry": 3, "timeout": 30, "expires": 60, "priority": 6},
    "retry": {"retry": 3},
    "timeout": {"timeout": 30},
    "expires": {"expires": 60},
    "priority": {"priority": 6},
}


def add(a: int, b: int) -> int:
    return a + b


def burst(contestant):
    """Submit all, then read all; calls per second of the best of five."""
    import dingo

    with dingo.App("local") as app:
        app.register("add", add, **OPTIONS[contestant])
        app.allocate("add", 2)
        return max(_burst(app.call) for _ in range(5))


def _burst(call):
    start = time.perf_counter()
    total = sum([result.result() for result in [call("add", number, number) for number in range(CALLS)]])
    seconds = time.perf_counter() - start
    if total != CALLS * (CALLS - 1):
        raise RuntimeError(f"the results sum up to {total}")
    return CALLS / seconds


def sleepers(_contestant):
    """Have all sleep for a second at once; return the seconds until the last is done and the KB that each took."""
    import asyncio

    import dingo

    async def sleep(number: int) -> int:
        await asyncio.sleep(1)
        return number

    with dingo.App("local") as app:
        app.register("sleep", sleep)
        app.call("sleep", 0).result()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        total = sum(result.result() for result in app.call_many("sleep", [(number,) for number in range(SLEEPERS)]))
        seconds = time.perf_counter() - start
        if total != SLEEPERS * (SLEEPERS - 1) // 2:
            raise RuntimeError(f"the results sum up to {total}")
        return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / SLEEPERS


def in_own_process(measure, contestant):
    """Run one contestant in a fresh interpreter."""
    command = [sys.executable, __file__, "--only", measure, contestant]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def compare_options(rounds):
    """Print the throughput of calls with each option, and what it costs."""
    figures = {contestant: [] for contestant in OPTIONS}
    for _ in range(rounds):
        for contestant in OPTIONS:
            figures[contestant].append(in_own_process("options", contestant))
    print(f"\noptions: a burst of {CALLS:,} calls that need none of them")
    best = max(figures["plain"])
    for contestant, several in figures.items():
        cost = 1 - max(several) / best
        judged = f"  target <= 15 %: {'reached' if cost <= 0.15 else 'MISSED'}" if contestant == "all four" else ""
        print(f"  {contestant:10} {max(several):12,.0f} calls/s (from {min(several):,.0f})  cost {cost:6.1%}{judged}")


def compare_sleepers(rounds):
    """Print how long sleeping tasks take, and how much memory."""
    figures = [in_own_process("sleepers", "dingo") for _ in range(rounds)]
    seconds, kilobytes = min(one[0] for one in figures), min(one[1] for one in figures)
    print(f"\nsleepers: {SLEEPERS:,} async tasks that sleep for 1 s, at once in one worker")
    print(f"  done in {seconds:.2f} s  target <= 2.5 s: {'reached' if seconds <= 2.5 else 'MISSED'}")
    print(f"  {kilobytes:.2f} KB each  target <= 3 KB: {'reached' if kilobytes <= 3 else 'MISSED'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs=2, metavar=("MEASURE", "CONTESTANT"))
    options = parser.parse_args()
    if options.only:
        measure, contestant = options.only
        print(json.dumps((burst if measure == "options" else sleepers)(contestant)))
        return
    compare_options(options.rounds)
    compare_sleepers(min(options.rounds, 3))


if __name__ == "__main__":
    main()
