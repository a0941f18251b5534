"""What is measured over brokers, who takes part, and what dingo's figures must reach.

Nothing runs here: `brokers.py` reads the tables to know what to run, and `standings.py` to judge the figures.
"""

from dataclasses import dataclass, field

from peers import PEERS, rivals

QUICK_DIVISOR = 10


@dataclass(frozen=True)
class Metric:
    """One figure of a contestant."""

    key: str
    title: str
    digits: int = 0
    less_is_better: bool = False


@dataclass(frozen=True)
class Target:
    """A limit on a figure of a contestant: on itself, or on its ratio to the best of others."""

    contestant: str
    key: str
    sense: str
    limit: float
    against: tuple[str, ...] = ()
    whom: str = "the best peer"
    unit: str = "x"


@dataclass(frozen=True)
class Measure:
    """One comparison. `peers_share` is the part of the jobs that a peer makes, on top of its own."""

    name: str
    title: str
    kind: str
    contestants: tuple[str, ...]
    metrics: tuple[Metric, ...]
    targets: tuple[Target, ...] = ()
    jobs: int = 20_000
    peers_share: float = 1.0
    rounds: int | None = None
    quick_divisor: int = field(default=QUICK_DIVISOR)

    def jobs_of(self, name, *, quick):
        """How many jobs this contestant makes: slow ones make fewer, all make fewer in a quick run."""
        share = PEERS[name].share * (1.0 if name.startswith("dingo") else self.peers_share)
        jobs = max(int(self.jobs * share), 1)
        return max(jobs // self.quick_divisor, min(jobs, 100)) if quick else jobs


BROKERS = {"redis": "Redis", "amqp": "RabbitMQ", "sqlite": "SQLite"}
DINGO = {broker: f"dingo {broker}" for broker in BROKERS}


def peers_of(broker, *libraries):
    """Name the peers on a broker, of these libraries or of all."""
    return tuple(
        name
        for name in rivals(broker)
        if not name.startswith("dingo") and (not libraries or PEERS[name].package in libraries)
    )


_ROUND_TRIP = (
    Metric("per_second", "jobs/s"),
    Metric("p50", "p50 ms", 2, less_is_better=True),
    Metric("p99", "p99 ms", 2, less_is_better=True),
    Metric("cpu", "CPU s / 10k", 2, less_is_better=True),
    Metric("cpu_caller", "caller", 2, less_is_better=True),
    Metric("cpu_worker", "worker", 2, less_is_better=True),
    Metric("cpu_server", "server", 2, less_is_better=True),
)
_AT_LEAST = {
    "redis": (
        (12, peers_of("redis", "huey", "dramatiq", "saq", "taskiq"), "the best of huey, dramatiq, saq, taskiq"),
        (35, peers_of("redis", "celery"), "celery"),
    ),
    "amqp": ((10, peers_of("amqp", "dramatiq"), "dramatiq"), (18, peers_of("amqp", "celery"), "celery")),
    "sqlite": ((25, peers_of("sqlite", "huey"), "SqliteHuey"),),
}


def _round_trip(broker):
    dingo, peers = DINGO[broker], peers_of(broker)
    return Measure(
        name=f"round-trip-{broker}",
        title=f"{BROKERS[broker]}: jobs sent one by one, all results collected; then one at a time on an idle queue",
        kind="round trip",
        contestants=rivals(broker),
        metrics=_ROUND_TRIP,
        targets=(
            *(Target(dingo, "per_second", "at least", times, names, whom) for times, names, whom in _AT_LEAST[broker]),
            Target(dingo, "p50", "at most", 1, peers),
            Target(dingo, "p99", "at most", 1, peers),
            Target(dingo, "cpu", "at most", 0.25, peers),
        ),
    )


def _drain(broker, times=None):
    dingo, peers = DINGO[broker], peers_of(broker)
    return Measure(
        name=f"drain-{broker}",
        title=f"{BROKERS[broker]}: jobs sent by single calls while no worker takes any, then run; results off",
        kind="drain",
        contestants=rivals(broker),
        metrics=(Metric("enqueue", "enqueued/s"), Metric("one", "1 worker jobs/s"), Metric("two", "2 workers jobs/s")),
        targets=(
            Target(dingo, "enqueue", "at least", 3, peers),
            *(Target(dingo, key, "at least", times, peers) for key in ("one", "two") if times),
        ),
        peers_share=0.5,
    )


def _delayed(broker):
    return Measure(
        name=f"delay-{broker}",
        title=f"{BROKERS[broker]}: the round trip with 1 ms of network between everybody and the servers",
        kind="delayed",
        contestants=rivals(broker),
        metrics=(Metric("per_second", "jobs/s"),),
        targets=(Target(DINGO[broker], "per_second", "at least", 6, peers_of(broker)),),
        peers_share=0.15,
    )


MEASURES = (
    *map(_round_trip, BROKERS),
    _drain("redis", 6),
    _drain("amqp", 3),
    _drain("sqlite"),
    *map(_delayed, ("redis", "amqp")),
    Measure(
        name="bulk",
        title="dingo's round trip call by call, by `call_many` and by `map`",
        kind="bulk",
        contestants=tuple(DINGO.values()),
        metrics=(
            Metric("burst", "single jobs/s"),
            Metric("call_many", "call_many jobs/s"),
            Metric("map", "map jobs/s"),
            Metric("call_many_ratio", "call_many : single", 2),
            Metric("map_ratio", "map : single", 2),
        ),
        targets=tuple(
            Target(dingo, key, "at least", 3) for dingo in DINGO.values() for key in ("call_many_ratio", "map_ratio")
        ),
    ),
    Measure(
        name="start",
        title="from the start of a worker's process until it has run the job that waited for it",
        kind="start",
        contestants=rivals(*BROKERS),
        metrics=(Metric("seconds", "s", 2, less_is_better=True),),
        targets=tuple(Target(dingo, "seconds", "at most", 0.3, unit="s") for dingo in DINGO.values()),
        jobs=1,
    ),
    Measure(
        name="idle",
        title="worker processes that have run some jobs and wait for more, all at the same time",
        kind="idle",
        contestants=rivals(*BROKERS),
        metrics=(
            Metric("cpu", "% CPU", 2, less_is_better=True),
            Metric("resident", "RSS MB", 1, less_is_better=True),
        ),
        targets=tuple(
            target
            for dingo in DINGO.values()
            for target in (
                Target(dingo, "cpu", "at most", 0.5, unit="%"),
                Target(dingo, "resident", "at most", 45, unit="MB"),
            )
        ),
        jobs=1,
        rounds=1,
    ),
    Measure(
        name="million",
        title="claims, one at a time, from a queue of 2,000 and from one of 1,000,000; the caller's memory meanwhile",
        kind="million",
        contestants=tuple(DINGO.values()),
        metrics=(
            Metric("enqueue", "enqueued/s"),
            Metric("growth", "caller grows MB", less_is_better=True),
            Metric("short_p50", "p50 µs", less_is_better=True),
            Metric("short_p99", "p99 µs", less_is_better=True),
            Metric("long_p50", "p50 µs of 1M", less_is_better=True),
            Metric("long_p99", "p99 µs of 1M", less_is_better=True),
            Metric("p99_ratio", "p99 ratio", 2, less_is_better=True),
        ),
        targets=tuple(
            target
            for dingo in DINGO.values()
            for target in (
                Target(dingo, "p99_ratio", "at most", 3),
                Target(dingo, "growth", "at most", 300, unit="MB"),
            )
        ),
        jobs=1_000_000,
        rounds=1,
    ),
)
