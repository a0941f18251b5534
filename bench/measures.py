"""What is measured, who takes part, and the target of each figure.

Nothing runs here: `local.py` reads the table to know which processes to start, `contestants.py` to know
what to do inside one, and `report.py` to judge the figures.
"""

from dataclasses import dataclass, field

QUICK_DIVISOR = 10


@dataclass(frozen=True)
class Target:
    """A limit on a figure (`of="value"`) or on its ratio to the baseline's (`of="ratio"`)."""

    sense: str
    limit: float
    of: str = "ratio"
    unit: str = "x"

    def __str__(self) -> str:
        return f"{self.sense} {self.limit:g} {self.unit}".strip()

    def reached(self, value: float, ratio: float | None) -> bool | None:
        """Whether the target is reached, or None if there is no baseline to compare with."""
        judged = value if self.of == "value" else ratio
        if judged is None:
            return None
        return judged >= self.limit if self.sense == "at least" else judged <= self.limit


@dataclass(frozen=True)
class Metric:
    """One figure that a contestant hands back."""

    key: str
    title: str
    unit: str
    target: Target | None = None


@dataclass(frozen=True)
class Measure:
    """One comparison: the first contestant is judged against the targets, `baseline` gives the ratios."""

    name: str
    title: str
    kind: str
    contestants: tuple[str, ...]
    baseline: str | None
    metrics: tuple[Metric, ...]
    jobs: int
    workers: int = 2
    fewer: dict[str, int] = field(default_factory=dict)

    def jobs_of(self, contestant: str, *, quick: bool) -> int:
        """How many calls this contestant makes: slow ones make fewer, all make fewer in a quick run."""
        jobs = self.fewer.get(contestant, self.jobs)
        return max(jobs // QUICK_DIVISOR, 10) if quick else jobs


def _at_least(times: float) -> Target:
    return Target("at least", times)


def _at_most(times: float) -> Target:
    return Target("at most", times)


def _throughput(target: Target | None = None) -> tuple[Metric, ...]:
    return (Metric("per_second", "throughput", "calls/s", target),)


PEERS = ("ThreadPoolExecutor", "run_in_executor", "multiprocessing", "joblib", "huey", "taskiq")

MEASURES = (
    Measure(
        name="burst-2",
        title="add(i, i) submitted one by one, then all results read; 2 workers",
        kind="burst",
        contestants=("dingo", *PEERS),
        baseline="ThreadPoolExecutor",
        metrics=_throughput(_at_least(10)),
        jobs=100_000,
        fewer={"taskiq": 20_000},
    ),
    Measure(
        name="burst-10",
        title="add(i, i) submitted one by one, then all results read; 10 workers",
        kind="burst",
        contestants=("dingo", *PEERS),
        baseline="ThreadPoolExecutor",
        metrics=_throughput(_at_least(10)),
        jobs=100_000,
        workers=10,
        fewer={"taskiq": 20_000},
    ),
    Measure(
        name="burst-featured",
        title="the burst with a DEBUG event listener read by a thread and progress monitored; 2 workers",
        kind="burst",
        contestants=("dingo-featured", "dingo-featured-lossless", "ThreadPoolExecutor"),
        baseline="ThreadPoolExecutor",
        metrics=_throughput(_at_least(4)),
        jobs=100_000,
    ),
    Measure(
        name="burst-map",
        title="the burst in one statement: map, starmap, call_many; 2 workers",
        kind="burst",
        contestants=("dingo-map", "dingo-call_many", "ThreadPoolExecutor-map", "multiprocessing-starmap"),
        baseline="ThreadPoolExecutor-map",
        metrics=_throughput(),
        jobs=100_000,
    ),
    Measure(
        name="callers-4",
        title="4 calling threads, each submitting 50 calls and reading them, over and over; 2 workers",
        kind="callers",
        contestants=("dingo", "ThreadPoolExecutor", "multiprocessing"),
        baseline="ThreadPoolExecutor",
        metrics=_throughput(_at_least(4)),
        jobs=80_000,
    ),
    Measure(
        name="latency",
        title="from call to result, one call at a time; 2 workers",
        kind="latency",
        contestants=("dingo", "ThreadPoolExecutor", "multiprocessing", "huey", "taskiq"),
        baseline="ThreadPoolExecutor",
        metrics=(
            Metric("p50", "latency p50", "µs", _at_most(1.0)),
            Metric("p99", "latency p99", "µs", _at_most(1.1)),
        ),
        jobs=5_000,
        fewer={"huey": 1_000},
    ),
    Measure(
        name="await-burst",
        title="add(i, i) submitted one by one in a coroutine, then each awaited; 2 workers",
        kind="burst",
        contestants=("dingo-await", "run_in_executor", "taskiq"),
        baseline="run_in_executor",
        metrics=_throughput(_at_least(10)),
        jobs=50_000,
        fewer={"taskiq": 20_000},
    ),
    Measure(
        name="await-gather",
        title="asyncio.gather of 1,000 calls, over and over; 2 workers",
        kind="gather",
        contestants=("dingo-await", "run_in_executor"),
        baseline="run_in_executor",
        metrics=_throughput(_at_least(2)),
        jobs=30_000,
    ),
    Measure(
        name="await-latency",
        title="from call to result in a coroutine, one call at a time; 2 workers",
        kind="latency",
        contestants=("dingo-await", "run_in_executor", "taskiq"),
        baseline="run_in_executor",
        metrics=(
            Metric("p50", "latency p50", "µs", _at_most(1.0)),
            Metric("p99", "latency p99", "µs"),
        ),
        jobs=5_000,
    ),
    Measure(
        name="memory",
        title="resident memory per pending call, the 2 workers blocked on a gate",
        kind="memory",
        contestants=("dingo", "ThreadPoolExecutor", "multiprocessing", "huey"),
        baseline="ThreadPoolExecutor",
        metrics=(Metric("bytes", "memory", "bytes/call", _at_most(0.7)),),
        jobs=100_000,
    ),
    Measure(
        name="steadiness",
        title="windows of 1,000 calls: resident memory after the first tenth, at the end, and the growth",
        kind="steadiness",
        contestants=("dingo",),
        baseline=None,
        metrics=(
            Metric("early", "after the first tenth", "MB"),
            Metric("late", "at the end", "MB"),
            Metric("growth", "growth", "MB", Target("at most", 5, of="value", unit="MB")),
        ),
        jobs=1_000_000,
    ),
    Measure(
        name="import",
        title="import in a fresh interpreter, and import plus a first pool (median of 10)",
        kind="imports",
        contestants=("dingo", "stdlib"),
        baseline="stdlib",
        metrics=(
            Metric("import", "import", "ms", _at_most(2)),
            Metric("ready", "import and create", "ms"),
            Metric("unwanted", "unwanted modules", "modules", Target("at most", 0, of="value", unit="")),
        ),
        jobs=10,
    ),
)

BY_NAME = {measure.name: measure for measure in MEASURES}
