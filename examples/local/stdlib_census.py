"""A real job: a census of the Python standard library, with progress, events and a comparison.

Every module of the running interpreter's standard library is parsed (`ast`, `symtable`) in dingo's workers:
one call for each package, which makes one call for each of its modules and says how far it is. Modules that
cannot be parsed fail, and the event stream says so while the rest goes on. Then the same function runs over
the same files in a plain ThreadPoolExecutor, and the totals must be the same.

Run:
    python examples/local/stdlib_census.py              # or: make demo
    python examples/local/stdlib_census.py --limit 100  # the first 100 modules only

Needs rich, for the display: pip install 'dingo-tasks[demo]'
"""

import argparse
import ast
import os
import symtable
import sys
import sysconfig
import tempfile
import threading
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

import dingo

STDLIB = Path(sysconfig.get_path("stdlib"))
WORKERS = min(4, os.cpu_count() or 1)
PACKAGE_SIZE = 40  # modules in one call; larger packages are counted in parts
TOP = 10

app = dingo.App(config=dingo.Config(workers=WORKERS))
console = Console(highlight=False)


# --- the tasks ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Module:
    """What there is to say about one module."""

    name: str
    lines: int
    functions: int
    classes: int
    names: int
    longest: str
    longest_lines: int


@dataclass(frozen=True, slots=True)
class Package:
    """A package, or a part of a large one: the modules that could be parsed, and how many could not."""

    name: str
    modules: list[Module]
    failures: int


@app.task
def survey(path: Path, name: str) -> Module:
    """Parse one module and count. Raises SyntaxError and the like: dingo reports them."""
    with tokenize.open(path) as file:
        source = file.read()
    functions = classes = longest_lines = 0
    longest = "-"
    for node in statements(ast.parse(source, name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > longest_lines:
                longest, longest_lines = node.name, lines
        elif isinstance(node, ast.ClassDef):
            classes += 1
    names = count_names(symtable.symtable(source, name, "exec"))
    return Module(name, source.count("\n"), functions, classes, names, longest, longest_lines)


def statements(module: ast.Module) -> Iterator[ast.AST]:
    """Go over all statements: functions and classes are never inside anything else."""
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting.extend(getattr(node, block, ()))


def count_names(table: symtable.SymbolTable) -> int:
    """Count the names of a scope and of all scopes in it."""
    return len(table.get_identifiers()) + sum(count_names(child) for child in table.get_children())


@app.task
def survey_package(context: dingo.Context, name: str, modules: list[tuple[Path, str]]) -> Package:
    """Survey the modules of one package, each in a call of its own.

    Waiting for them in here costs no worker: the waiting thread runs calls of its own pool meanwhile.
    """
    counted = []
    calls = survey.call_many(modules)
    for number, call in enumerate(dingo.as_completed(calls), 1):
        context.progress(number, len(calls), name)
        if call.exception() is None:
            counted.append(call.result())
    return Package(name, counted, len(calls) - len(counted))


# --- what there is to survey ----------------------------------------------------------------------------


def standard_library(limit: int | None) -> list[tuple[Path, str]]:
    """Return all modules of the standard library: path and dotted name."""
    installed = {"site-packages", "dist-packages"}
    paths = sorted(path for path in STDLIB.rglob("*.py") if installed.isdisjoint(path.parts))
    return [(path, dotted(path.relative_to(STDLIB))) for path in paths[:limit]]


def dotted(path: Path) -> str:
    """Turn `email/mime/__init__.py` into `email.mime`."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def broken_modules(directory: Path) -> list[tuple[Path, str]]:
    """Write a few files that nobody can parse."""
    sources = {"unclosed": b"print((1)\n", "indented": b"if True:\npass\n", "encoded": b"# coding: uft-8\n"}
    for name, source in sources.items():
        (directory / f"{name}.py").write_bytes(source)
    return [(directory / f"{name}.py", f"broken.{name}") for name in sources]


def packages(modules: list[tuple[Path, str]]) -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    """Divide modules by package, large packages into parts."""
    groups: dict[str, list[tuple[Path, str]]] = {}
    for path, name in modules:
        package, dot, _ = name.partition(".")
        groups.setdefault(package if dot else "(top level)", []).append((path, name))
    for package, group in groups.items():
        for start in range(0, len(group), PACKAGE_SIZE):
            yield package, group[start : start + PACKAGE_SIZE]


# --- the census, with dingo -----------------------------------------------------------------------------


def census(modules: list[tuple[Path, str]]) -> tuple[list[Module], int]:
    """Count all in dingo's workers and show how far they are. Returns the modules and how many failed."""
    counted: list[Module] = []
    failures = 0
    with Display(len(modules)) as display:
        calls = [survey_package.call(*package).on_progress(display.show) for package in packages(modules)]
        for call in dingo.as_completed(calls):
            package = call.result()
            display.hide(call.id)
            counted += package.modules
            failures += package.failures
    return counted, failures


class Display:
    """A bar for all modules and one for each package in work. Shows nothing where stdout is no terminal."""

    def __init__(self, total: int) -> None:
        self.lock = threading.Lock()
        self.bars = Progress(
            TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self.all = self.bars.add_task("[bold]all modules", total=total)
        self.done: dict[str, float] = {}
        self.bar_of: dict[str, TaskID] = {}

    def __enter__(self) -> "Display":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def show(self, report: dingo.Report) -> None:
        """Take a progress report. dingo calls this from its threads."""
        progress = report.progress
        if progress is None:
            return
        with self.lock:
            self.done[report.id] = progress.done
            self.bars.update(self.all, completed=sum(self.done.values()))
            if report.id not in self.bar_of:
                self.bar_of[report.id] = self.bars.add_task(f"  {progress.message}", total=progress.total)
            self.bars.update(self.bar_of[report.id], completed=progress.done)

    def hide(self, id: str) -> None:
        """Take the bar of a package away."""
        with self.lock:
            bar = self.bar_of.pop(id, None)
            if bar is not None:
                self.bars.remove_task(bar)


def tell(events: Iterable[dingo.Event]) -> None:
    """Print events as they come, until the app closes."""
    for event in events:
        failure = event.payload["failure"]
        message = failure.message.replace(f"{STDLIB}{os.sep}", "")
        text = f"{event.level.name} {event.code} {failure.type}: {message}"
        console.print(text, style="yellow", markup=False, no_wrap=True, overflow="ellipsis")


# --- the same without dingo -----------------------------------------------------------------------------


def plain_census(modules: list[tuple[Path, str]]) -> tuple[list[Module], int]:
    """Count all with the standard library's thread pool: no progress, no events, failures by hand."""

    def one(module: tuple[Path, str]) -> Module | None:
        try:
            return survey(*module)  # the plain function, called here
        except Exception:
            return None

    with ThreadPoolExecutor(WORKERS) as executor:
        outcomes = list(executor.map(one, modules))
    counted = [outcome for outcome in outcomes if outcome is not None]
    return counted, len(outcomes) - len(counted)


# --- what came out --------------------------------------------------------------------------------------


def totals(counted: list[Module], failures: int) -> dict[str, int]:
    """Add everything up."""
    names = [field.name for field in fields(Module) if field.type is int and field.name != "longest_lines"]
    return {
        "modules": len(counted),
        "not parsed": failures,
        **{name: sum(getattr(module, name) for module in counted) for name in names},
    }


def show_top(counted: list[Module]) -> None:
    """Print the modules with the most lines."""
    table = Table(title=f"The {TOP} longest modules", title_justify="left")
    table.add_column("module", no_wrap=True, max_width=28)
    table.add_column("lines", justify="right", min_width=6)
    table.add_column("functions", justify="right", min_width=9)
    table.add_column("the longest, in lines", no_wrap=True, max_width=27)
    for module in sorted(counted, key=lambda module: (-module.lines, module.name))[:TOP]:
        longest = f"{module.longest_lines:>4} {module.longest}"
        table.add_row(module.name, f"{module.lines:,}", f"{module.functions:,}", longest)
    console.print(table)


def compare(mine: dict[str, int], seconds: float, theirs: dict[str, int], their_seconds: float) -> bool:
    """Print both totals side by side. Returns whether they are the same."""
    table = Table(title="The same work twice", title_justify="left")
    table.add_column("")
    table.add_column("dingo", justify="right")
    table.add_column("ThreadPoolExecutor", justify="right")
    for name, number in mine.items():
        table.add_row(name, f"{number:,}", f"{theirs[name]:,}")
    table.add_row("seconds", f"{seconds:.2f}", f"{their_seconds:.2f}")
    console.print(table)
    console.print(f"Totals are {'identical' if mine == theirs else 'DIFFERENT'}.")
    console.print(
        "Threads of one interpreter take turns at such work, so neither can be much faster. What dingo adds "
        "is that you see it happen; what that costs is the difference in seconds."
    )
    return mine == theirs


def main() -> int:
    parser = argparse.ArgumentParser(description="A census of the standard library in dingo's workers.")
    parser.add_argument("--limit", type=int, metavar="N", help="survey the first N modules only")
    modules = standard_library(parser.parse_args().limit)
    warnings.simplefilter("ignore")  # old test files have much to be warned of
    megabytes = sum(len(path.read_bytes()) for path, _ in modules) / 1e6  # also warms the disk's cache
    console.print(f"Python {sys.version.split()[0]}: {len(modules)} modules, {megabytes:.1f} MB, {WORKERS} workers")

    with tempfile.TemporaryDirectory() as directory:
        with app:
            listener = threading.Thread(target=tell, args=(app.listen(level=dingo.Level.WARNING),))
            listener.start()
            start = perf_counter()
            counted, failures = census(modules)
            seconds = perf_counter() - start
            if not failures:
                console.print("All of them could be parsed: adding three files that are broken on purpose.")
                broken = broken_modules(Path(directory))
                modules += broken
                more, failures = census(broken)
                counted += more
        listener.join()

        start = perf_counter()
        plain, plain_failures = plain_census(modules)
        plain_seconds = perf_counter() - start

    show_top(counted)
    same = compare(totals(counted, failures), seconds, totals(plain, plain_failures), plain_seconds)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
