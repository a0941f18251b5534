"""Compare dingo with the other task queues of Python, over the same servers, in one run.

    python bench/brokers.py [--quick] [--rounds N] [--only SUBSTRING] [--contestants NAME ...] [--output DIR]

Starts a Redis and a RabbitMQ of its own. Each contestant of each measure has a caller process and worker processes of
its own and the servers for itself; they take turns, all of them once, then all again. Prints a table for each measure
(the median of the rounds and their range) and dingo's ratios to the best peer with the targets. Writes the same to
DIR/brokers.md, and with every round to DIR/brokers.json. What is not installed is reported as skipped. The exit code
is 0 whatever the figures, and 1 if a contestant crashed.
"""

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import contests
import machine
import standings
from broker_measures import MEASURES
from peers import ARQ, PEERS
from stage import HERE, ROOT, Servers

PACKAGES = ("dingo-tasks", "kombu", "amqp", "redis", "hiredis", "celery", "dramatiq", "taskiq", "taskiq-redis",
            "taskiq-aio-pika", "huey", "rq", "saq")  # fmt: skip


def main():
    options = _options()
    measures = [measure for measure in MEASURES if options.only in measure.name]
    if not measures:
        names = ", ".join(measure.name for measure in MEASURES)
        sys.exit(f"no measure has {options.only!r} in its name; there are {names}")
    facts = machine.describe(PACKAGES)
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    sections = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dingo-bench-") as place:
        servers = Servers(Path(place))
        try:
            sections += [_section(measure, servers, options) for measure in measures]
        finally:
            servers.renew()
    print(f"\n{standings.summary_of(sections)}; {time.monotonic() - began:.0f} s")
    _write(options, facts, date, sections)
    return _complain(sections)


def _options():
    parser = argparse.ArgumentParser(description="Compare dingo with the other task queues of Python.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, one round: rougher figures")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: 3; quick: 1")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only measures with this in the name")
    parser.add_argument("--contestants", nargs="+", metavar="NAME", choices=PEERS, help="only these")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="DIR")
    options = parser.parse_args()
    if options.rounds is None:
        options.rounds = 1 if options.quick else 3
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


def _section(measure, servers, options):
    """Let the contestants of a measure run, print what came of it."""
    chosen = [name for name in measure.contestants if not options.contestants or name in options.contestants]
    outcomes = {name: [] for name in chosen}
    for turn in range(min(options.rounds, measure.rounds or options.rounds)):
        able = []
        for name in chosen:
            if why := missing(PEERS[name]):
                outcomes[name].append({"skipped": why})
            else:
                able.append(PEERS[name])
        for name, outcome in _turn(measure, able, servers, f"{turn + 1}/{options.rounds}", options):
            outcomes[name].append(outcome)
    note = contests.proxy_note(servers) if measure.kind == "delayed" and shutil.which("redis-server") else ""
    verdicts = standings.verdicts_of(measure, outcomes)
    notes = standings.notes_of(outcomes, note)
    print(f"\n{standings.text(measure, outcomes, verdicts, notes, quick=options.quick)}", flush=True)
    return standings.Section(measure, outcomes, verdicts, notes)


def missing(peer):
    """Say what a contestant would need, or nothing."""
    if peer.package == "arq":
        return "" if ARQ.exists() else f"it needs an older redis-py, in an environment of its own: {ARQ.parent.parent}"
    for module in {"taskiq": ("taskiq", "taskiq_redis", "taskiq_aio_pika")}.get(peer.package, (peer.package,)):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
    if peer.broker != "sqlite" and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    if peer.broker == "amqp":
        from rabbit import server

        return "" if server() else "rabbitmq-server is not installed"
    return ""


def _turn(measure, peers, servers, turn, options):
    """Let each contestant run once; yield what came of it."""
    if measure.kind == "idle":
        figures = _attempt(contests.idle, peers, servers, 1)
        for peer in peers:
            yield peer.name, figures if "crashed" in figures else {"figures": figures["figures"][peer.name]}
        return
    for peer in peers:
        if sys.stderr.isatty():
            print(f"\r\033[K{measure.name} {turn} {peer.name}", end="\r", file=sys.stderr, flush=True)
        jobs = measure.jobs_of(peer.name, quick=options.quick)
        yield peer.name, _attempt(contests.KINDS[measure.kind], peer, servers, jobs)


def _attempt(contest, who, servers, jobs):
    """Run a contest; a failure is the contestant's, and the next one gets new servers."""
    try:
        figures = contest(who, servers, jobs)
    except Exception as error:
        servers.renew()
        return {"crashed": f"{type(error).__name__}: {error}"}
    servers.empty()
    return {"figures": figures}


def _write(options, facts, date, sections):
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = {"quick": options.quick, "rounds": options.rounds, "only": options.only}
    document = standings.document(facts, date, chosen, sections)
    (options.output / "brokers.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (options.output / "brokers.md").write_text(standings.markdown(facts, date, chosen, sections))
    print(f"written: {options.output / 'brokers.json'}, {options.output / 'brokers.md'}")


def _complain(sections):
    """Print what the crashed contestants said; return the exit code."""
    code = 0
    for section in sections:
        for name, rounds in section.outcomes.items():
            said = next((outcome["crashed"] for outcome in rounds if "crashed" in outcome), None)
            if said:
                code = 1
                print(f"\n{section.measure.name} {name} crashed:\n{said.rstrip()}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
