"""Compare dingo with the other in-process pools, in one run on one machine.

    python bench/local.py [--quick] [--rounds N] [--only SUBSTRING] [--output DIR]

Each contestant of each measure runs in a process of its own, in turns: all of them once, then all of them
again, so that what else the machine does falls upon all alike. Prints a table for each measure: the median
of the rounds, their range, the ratio to the baseline (ThreadPoolExecutor, or its asyncio front
run_in_executor), the target and whether it is reached. Writes the same to DIR/local.md, and with every
round to DIR/local.json. A library that is not installed is reported as skipped. The exit code is 0
whatever the figures, and 1 if a contestant crashed.
"""

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import machine
import report
from measures import MEASURES

HERE = Path(__file__).resolve().parent
TIMEOUT = 300


def main():
    options = _options()
    measures = [measure for measure in MEASURES if options.only in measure.name]
    if not measures:
        names = ", ".join(measure.name for measure in MEASURES)
        sys.exit(f"no measure has {options.only!r} in its name; there are {names}")

    facts = machine.describe()
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))

    outcomes, sections = {}, []
    for measure in measures:
        outcomes[measure.name] = _contest(measure, options)
        rows = report.rows_of(measure, outcomes[measure.name], quick=options.quick)
        notes = report.notes_of(outcomes[measure.name])
        sections.append((measure, rows, notes))
        print(f"\n{report.text(measure, rows, notes)}", flush=True)

    summary = report.verdict([row for _, rows, _ in sections for row in rows])
    print(f"\n{summary}")
    _write(options, facts, date, sections, outcomes, summary)
    return _complain(outcomes)


def _options():
    parser = argparse.ArgumentParser(description="Compare dingo with the other in-process pools.")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls: rougher figures")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only measures with this in the name")
    parser.add_argument("--output", type=Path, default=HERE / "results", metavar="DIR")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    return options


def _contest(measure, options):
    """Let the contestants run in turns; return {contestant: [outcome of each round]}."""
    outcomes = {contestant: [] for contestant in measure.contestants}
    for turn in range(options.rounds):
        for contestant in measure.contestants:
            progress = f"{measure.name} {turn + 1}/{options.rounds} {contestant}"
            if sys.stderr.isatty():
                print(f"\r\033[K{progress}", end="", file=sys.stderr, flush=True)
            outcomes[contestant].append(_run(measure.name, contestant, quick=options.quick))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return outcomes


def _run(measure, contestant, *, quick):
    """Run one contestant once, in a process of its own."""
    command = [sys.executable, str(HERE / "contestants.py"), measure, contestant]
    if quick:
        command.append("--quick")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return {"crashed": f"not finished after {TIMEOUT} s"}
    if done.returncode:
        return {"crashed": done.stderr or f"exit code {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def _write(options, facts, date, sections, outcomes, summary):
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = {"quick": options.quick, "rounds": options.rounds, "only": options.only}
    document = report.document(facts, date, chosen, sections, outcomes)
    (options.output / "local.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    page = report.markdown(facts, date, options.rounds, sections, summary)
    (options.output / "local.md").write_text(page)
    print(f"written: {options.output / 'local.json'}, {options.output / 'local.md'}")


def _complain(outcomes):
    """Print what the crashed contestants said; return the exit code."""
    crashed = 0
    for measure, by_contestant in outcomes.items():
        for contestant, rounds in by_contestant.items():
            said = next((outcome["crashed"] for outcome in rounds if "crashed" in outcome), None)
            if said:
                crashed = 1
                print(f"\n{measure} {contestant} crashed:\n{said.rstrip()}", file=sys.stderr)
    return crashed


if __name__ == "__main__":
    sys.exit(main())
