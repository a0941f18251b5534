"""What dingo must withstand, in full: faults are made while jobs are done, and what is lost or wrong is counted.

The scenarios are those of `tests/scenarios.py`, which `make test` runs in small. Every server is a private one on a
free port, and every killed process one that this started. A job may run twice where its worker or its server was
killed before it could report; what ran twice without that is `unexplained`.

Run:
    python bench/chaos.py [--broker sqlite redis amqp] [--only TEXT] [--jobs 50000] [--kills 20]

Prints a line per scenario and broker. Exits with 1 if anything was lost, wrong, unexplained or otherwise amiss.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import rabbit
import scenarios
from ground import BROKERS, Ground
from scenarios import NotPossibleError, Outcome

Scenario = tuple[str, tuple[str, ...], tuple[str, ...], Callable[[Ground], Outcome]]
SERVERS = ("redis", "amqp")
# RabbitMQ looks once a minute, unless it is told otherwise, who keeps a message for too long.
IMPATIENT = ("consumer_timeout = 10000\n", "{rabbit, [{channel_tick_interval, 1000}]}")
FORGETFUL = ("--appendonly", "no")


def scenarios_of(jobs: int, kills: int) -> list[Scenario]:
    """Each with a name, its brokers, the server's options, and what is done."""
    return [
        ("worker", BROKERS, (), lambda ground: scenarios.kill_workers(ground, jobs, kills)),
        ("caller", BROKERS, (), lambda ground: scenarios.kill_caller(ground, 1000)),
        ("restart", SERVERS, (), lambda ground: scenarios.restart_broker(ground, 20_000, 5)),
        ("freeze", BROKERS, (), scenarios.freeze_worker),
        ("hole worker", SERVERS, (), lambda ground: scenarios.black_hole(ground, worker=True)),
        ("hole caller", SERVERS, (), lambda ground: scenarios.black_hole(ground, worker=False)),
        ("drop", SERVERS, (), lambda ground: scenarios.drop_connections(ground, 200)),
        ("timeout", ("amqp",), IMPATIENT, lambda ground: scenarios.long_tasks(ground, 12, 30.0)),
        ("empty", ("redis",), FORGETFUL, lambda ground: scenarios.empty_broker(ground, 5000)),
        ("memory", ("redis",), FORGETFUL, lambda ground: scenarios.full_memory(ground, 5000)),
        ("disk", ("sqlite",), (), lambda ground: scenarios.full_disk(ground, 500)),
        ("lock", ("sqlite",), (), lambda ground: scenarios.locked_file(ground, 500, 40.0)),
        ("read-only", ("sqlite",), (), scenarios.read_only),
        ("writes", ("sqlite",), (), lambda ground: scenarios.killed_writers(ground, range(1, 61))),
        ("versions", BROKERS, (), lambda ground: scenarios.two_versions(ground, 100, 10.0)),
        ("clock", BROKERS, (), lambda ground: scenarios.stepped_clocks(ground, 80, (3600, 0, -3600, 0))),
        ("many", BROKERS, (), lambda ground: scenarios.many_at_once(ground, 100_000)),
    ]


def missing(broker: str) -> bool:
    """Whether its server is not installed here."""
    return (broker == "redis" and shutil.which("redis-server") is None) or (
        broker == "amqp" and rabbit.server() is None
    )


COLUMNS = "{:<22} {:<7} {:>7} {:>6} {:>5} {:>6} {:>6} {:>12} {:>8}  {}"


def show(one: Outcome) -> None:
    """Print a line."""
    said = "; ".join([*one.amiss, *([one.figures] if one.figures else [])])
    verdict = "" if one.good else "BAD "
    print(COLUMNS.format(
        one.scenario, one.broker, one.jobs, one.faults, one.lost, one.wrong, one.twice, one.unexplained,
        f"{one.seconds:.1f}", verdict + said,
    ), flush=True)  # fmt: skip


def run(broker: str, options: tuple[str, ...], scenario: Callable[[Ground], Outcome]) -> Outcome | str:
    """Run one scenario on a ground of its own; why it was left out, if it was."""
    if missing(broker):
        return "the server is not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with Ground(broker, Path(folder), options=options) as ground:
                return scenario(ground)
        except NotPossibleError as error:
            return str(error)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make faults while jobs are done.")
    parser.add_argument("--broker", nargs="+", default=list(BROKERS), choices=BROKERS)
    parser.add_argument("--only", default="", help="only scenarios with this in their name")
    parser.add_argument("--jobs", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    chosen = [one for one in scenarios_of(options.jobs, options.kills) if options.only in one[0]]
    if not chosen:
        names = ", ".join(name for name, *_ in scenarios_of(0, 0))
        parser.error(f"no scenario has {options.only!r} in its name; there are {names}")
    logging.getLogger("dingo").setLevel(logging.CRITICAL)  # the faults are made on purpose
    good, left_out = True, 0
    print(
        COLUMNS.format("scenario", "broker", "jobs", "faults", "lost", "wrong", "twice", "unexplained", "seconds", "")
    )
    for name, brokers, server, scenario in chosen:
        for broker in brokers:
            if broker not in options.broker:
                continue
            outcome = run(broker, server, scenario)
            if isinstance(outcome, str):
                print(f"{name:<22} {broker:<7} left out: {outcome}")
                left_out += 1
            else:
                show(outcome)
                good = good and outcome.good
    print("nothing lost, nothing wrong" if good else "NOT GOOD", f"({left_out} left out)" if left_out else "")
    return 0 if good else 1


if __name__ == "__main__":
    os.environ.pop("DINGO_BROKER", None)
    raise SystemExit(main())
