"""Turn the rounds of a run into rows (median, range, ratio, target), and rows into text, Markdown, JSON.

Nothing runs here, nothing is printed: `local.py` does both.
"""

import statistics
from dataclasses import asdict, dataclass

HEADINGS = ("contestant", "figure", "calls", "median", "min - max", "ratio", "target", "reached")
RIGHT = {"calls", "median", "min - max", "ratio"}


@dataclass(frozen=True)
class Row:
    """One figure of one contestant over all rounds; `reached` is None where there is nothing to judge."""

    measure: str
    contestant: str
    figure: str
    unit: str
    calls: int
    median: float | None = None
    low: float | None = None
    high: float | None = None
    ratio: float | None = None
    target: str = ""
    reached: bool | None = None
    problem: str = ""


def rows_of(measure, outcomes, *, quick):
    """Make the rows of one measure from {contestant: [outcome of each round]}."""
    medians = {}
    for contestant, rounds in outcomes.items():
        for metric in measure.metrics:
            values = _values(rounds, metric.key)
            if values:
                medians[contestant, metric.key] = statistics.median(values)
    rows = []
    for contestant, rounds in outcomes.items():
        judged = contestant == measure.contestants[0]
        calls = measure.jobs_of(contestant, quick=quick)
        problem = next((text for outcome in rounds if (text := _problem(outcome))), "")
        if problem:
            rows.append(Row(measure.name, contestant, "", "", calls, problem=problem))
            continue
        for metric in measure.metrics:
            values = _values(rounds, metric.key)
            if not values:
                continue
            median = medians[contestant, metric.key]
            base = medians.get((measure.baseline, metric.key))
            ratio = median / base if base else None
            target = metric.target if judged else None
            rows.append(
                Row(
                    measure=measure.name,
                    contestant=contestant,
                    figure=metric.title,
                    unit=metric.unit,
                    calls=calls,
                    median=median,
                    low=min(values),
                    high=max(values),
                    ratio=ratio,
                    target=str(target) if target else "",
                    reached=target.reached(median, ratio) if target else None,
                ),
            )
    return rows


def notes_of(outcomes):
    """Collect the last note of each contestant, or why it has no figures."""
    notes = []
    for contestant, rounds in outcomes.items():
        said = [text for outcome in rounds if (text := _problem(outcome) or outcome.get("note"))]
        if said:
            notes.append(f"{contestant}: {said[-1]}")
    return notes


def text(measure, rows, notes):
    """Lay one measure out in aligned columns."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    laid_out = [
        "  ".join(
            cell.rjust(width) if heading in RIGHT else cell.ljust(width)
            for cell, width, heading in zip(line, widths, HEADINGS, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(
        (
            f"{measure.name}: {measure.title}",
            *(f"  {line}" for line in laid_out),
            *(f"  {note}" for note in notes),
        )
    )


def verdict(rows):
    """Say in one line how many targets were reached, and what was not."""
    judged = [row for row in rows if row.target]
    reached = sum(row.reached is True for row in judged)
    missed = [f"{row.measure} {row.figure}" for row in judged if row.reached is False]
    crashed = [f"{row.measure} {row.contestant}" for row in rows if row.problem.startswith("crashed")]
    line = f"{reached} of {len(judged)} targets reached"
    if missed:
        line += f"; not reached: {', '.join(missed)}"
    if crashed:
        line += f"; crashed: {', '.join(crashed)}"
    return line


def markdown(facts, date, rounds, sections, summary):
    """Write the page that is kept beside the JSON; `sections` holds (measure, rows, notes) triples."""
    lines = [
        "# Local benchmark",
        "",
        f"Run on {date}, {rounds} rounds; each figure is the median of the rounds.",
        "",
        *(f"- {name}: {fact}" for name, fact in facts.items()),
        "",
        f"{summary}.",
    ]
    for measure, rows, notes in sections:
        baseline = f" Ratios are to {measure.baseline}." if measure.baseline else ""
        lines += [
            "",
            f"## {measure.name}",
            "",
            f"{measure.title[0].upper()}{measure.title[1:]}.{baseline}",
            "",
        ]
        lines += [f"| {' | '.join(HEADINGS)} |", f"|{'|'.join(_rule(heading) for heading in HEADINGS)}|"]
        lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
        for note in notes:
            lines += ["", f"{note}."]
    return "\n".join(lines) + "\n"


def document(facts, date, options, sections, outcomes):
    """Build the content of the JSON file: the rows, and every round they were made from."""
    return {
        "date": date,
        "options": options,
        "machine": facts,
        "measures": [
            {
                "name": measure.name,
                "title": measure.title,
                "workers": measure.workers,
                "baseline": measure.baseline,
                "rows": [asdict(row) for row in rows],
                "rounds": outcomes[measure.name],
            }
            for measure, rows, _notes in sections
        ],
    }


def number(value, unit):
    """Print a figure with as many digits as its unit deserves."""
    digits = {"calls/s": 0, "bytes/call": 0, "modules": 0}.get(unit, 1)
    return f"{value:,.{digits}f}"


def _values(rounds, key):
    return [outcome["figures"][key] for outcome in rounds if key in outcome.get("figures", {})]


def _problem(outcome):
    if "skipped" in outcome:
        return f"skipped: {outcome['skipped']}"
    if "crashed" in outcome:
        return f"crashed: {outcome['crashed'].strip().splitlines()[-1]}"
    return ""


def _cells(row):
    calls = f"{row.calls:,}"
    if row.problem:
        return (row.contestant, row.problem.partition(":")[0], calls, "-", "-", "-", "-", "-")
    return (
        row.contestant,
        row.figure,
        calls,
        f"{number(row.median, row.unit)} {row.unit}",
        f"{number(row.low, row.unit)} - {number(row.high, row.unit)}",
        "-" if row.ratio is None else f"{row.ratio:.2f} x",
        row.target or "-",
        _reached(row),
    )


def _reached(row):
    if row.reached is None:
        return "no baseline" if row.target else "-"
    return "yes" if row.reached else "NO"


def _rule(heading):
    return "---:" if heading in RIGHT else "---"
