"""Turn the rounds of a run over brokers into tables and verdicts: text, Markdown, JSON.

Nothing runs here, nothing is printed: `brokers.py` does both.
"""

import operator
import statistics
from dataclasses import asdict, dataclass

from peers import PEERS

JUDGES = {"at least": operator.ge, "at most": operator.le}


@dataclass(frozen=True)
class Verdict:
    """A target, what it was held against, and whether it is reached (None: there was nothing to hold it against)."""

    measure: str
    figure: str
    contestant: str
    target: str
    value: float | None
    against: str
    reached: bool | None


def median_of(rounds, key):
    """Return the median of a figure over the rounds that have it, or None."""
    values = values_of(rounds, key)
    return statistics.median(values) if values else None


def values_of(rounds, key):
    """Return a figure of all rounds that have it."""
    return [outcome["figures"][key] for outcome in rounds if key in outcome.get("figures", {})]


def problem_of(rounds):
    """Say why a contestant has no figures in some round, or nothing."""
    for outcome in rounds:
        if "skipped" in outcome:
            return f"skipped: {outcome['skipped']}"
        if "crashed" in outcome:
            return f"crashed: {outcome['crashed'].strip().splitlines()[-1]}"
    return ""


def verdicts_of(measure, outcomes):
    """Hold the figures of a measure against its targets."""
    metrics = {metric.key: metric for metric in measure.metrics}
    return [_verdict(measure, metrics[target.key], target, outcomes) for target in measure.targets]


def _verdict(measure, metric, target, outcomes):
    value = median_of(outcomes.get(target.contestant, ()), target.key)
    name = ""
    if target.against:
        others = {one: median_of(outcomes.get(one, ()), target.key) for one in target.against}
        others = {one: figure for one, figure in others.items() if figure}
        best = min if metric.less_is_better else max
        name = best(others, key=others.get, default="")
        value = value / others[name] if value is not None and name else None
    limit = f"{target.sense} {target.limit:g} {target.unit}"
    if target.against:
        limit += f" {target.whom}"
    reached = None if value is None else JUDGES[target.sense](value, target.limit)
    return Verdict(measure.name, metric.title, target.contestant, limit, value, name, reached)


def lines_of(measure, outcomes, *, quick):
    """Lay out a table: its heading, then a line for each contestant."""
    yield ("contestant", "jobs", *(metric.title for metric in measure.metrics))
    for name, rounds in outcomes.items():
        jobs = f"{measure.jobs_of(name, quick=quick):,}"
        if problem := problem_of(rounds):
            yield (name, jobs, problem.partition(":")[0], *("-" for _ in measure.metrics[1:]))
        else:
            yield (name, jobs, *(_cell(rounds, metric) for metric in measure.metrics))


def _cell(rounds, metric):
    values = values_of(rounds, metric.key)
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{metric.digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{metric.digits}f}-{max(values):,.{metric.digits}f})"


def notes_of(outcomes, note):
    """Say what is to be known beside a table."""
    problems = [f"{name} {problem}" for name, rounds in outcomes.items() if (problem := problem_of(rounds))]
    return [note, *problems] if note else problems


def say(verdict):
    """Put a verdict in words."""
    mark = {True: "reached", False: "NOT REACHED", None: "not judged"}[verdict.reached]
    value = "-" if verdict.value is None else f"{verdict.value:.2f}"
    against = f" ({verdict.against})" if verdict.against else ""
    return f"{verdict.contestant}, {verdict.figure}: {value}{against}, {verdict.target}: {mark}"


def text(measure, outcomes, verdicts, notes, *, quick):
    """Write a measure for a terminal."""
    lines = list(lines_of(measure, outcomes, quick=quick))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  " + "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]  # fmt: skip
    said = [f"  {line}" for line in (*map(say, verdicts), *notes)]
    return "\n".join((f"{measure.name}: {measure.title}", *table, *said))


def summary_of(sections):
    """Say in one line how many targets were reached."""
    judged = [one for section in sections for one in section.verdicts if one.reached is not None]
    missed = [f"{one.measure} {one.contestant} {one.figure}" for one in judged if not one.reached]
    line = f"{len(judged) - len(missed)} of {len(judged)} targets reached"
    return f"{line}; not reached: {', '.join(missed)}" if missed else line


@dataclass(frozen=True)
class Section:
    """A measure with all that came of it."""

    measure: object
    outcomes: dict
    verdicts: list
    notes: list


def markdown(facts, date, options, sections):
    """Write the page that is kept beside the JSON."""
    lines = ["# Benchmark over brokers", "", f"Run on {date}, {options['rounds']} rounds", ""]
    lines[2] += ", a quick one with fewer jobs." if options["quick"] else "."
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += ["", f"{summary_of(sections)}.", "", "## Contestants", ""]
    lines += ["| contestant | settings | guarantee |", "|---|---|---|"]
    present = {name for section in sections for name in section.outcomes}
    lines += [f"| {one.name} | {one.settings} | {one.guarantee} |" for one in PEERS.values() if one.name in present]
    for section in sections:
        lines += ["", f"## {section.measure.name}", "", f"{section.measure.title}.", ""]
        heading, *rows = lines_of(section.measure, section.outcomes, quick=options["quick"])
        lines += [f"| {' | '.join(heading)} |", f"|---|{'---:|' * (len(heading) - 1)}"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines += ["", *(f"- {say(verdict)}" for verdict in section.verdicts)]
        for note in section.notes:
            lines += ["", f"{note}."]
    return "\n".join(lines) + "\n"


def document(facts, date, options, sections):
    """Build the content of the JSON file: the verdicts, and every round they were made from."""
    return {
        "date": date,
        "options": options,
        "machine": facts,
        "contestants": {one.name: {"settings": one.settings, "guarantee": one.guarantee} for one in PEERS.values()},
        "measures": [
            {
                "name": section.measure.name,
                "title": section.measure.title,
                "verdicts": [asdict(verdict) for verdict in section.verdicts],
                "notes": section.notes,
                "rounds": section.outcomes,
            }
            for section in sections
        ],
    }
