"""The contestants over brokers: which there are, how their workers are started, their settings and promises.

Each library has a module here that its worker imports for the tasks, and the caller for a `Caller`. Nothing of the
libraries is imported by this table.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ARQ = ROOT / ".venv-arq" / "bin" / "python"  # it does not take the redis-py of the others


@dataclass(frozen=True)
class Peer:
    """One contestant; `share` is the part of a measure's jobs it makes: slow ones make fewer."""

    name: str
    broker: str
    package: str
    command: tuple[str, ...]
    settings: str
    guarantee: str
    share: float = 0.2

    @property
    def module(self) -> str:
        """The name of its module here."""
        return f"peers.{self.package}"

    @property
    def python(self) -> str:
        """The interpreter that has the library."""
        return str(ARQ) if self.package == "arq" else sys.executable


_DINGO = ("-m", "dingo", "worker", "peers.dingo:app", "-c", "4")
_CELERY = ("-m", "celery", "-A", "peers.celery", "worker", "-P", "threads", "-c", "4", "-l", "ERROR",
           "--without-gossip", "--without-mingle", "-n", "bench{number}@%h")  # fmt: skip
_DRAMATIQ = ("-m", "dramatiq", "peers.dramatiq", "-p", "1", "-t", "4")
_TASKIQ = ("-m", "taskiq", "worker", "peers.taskiq:broker", "--workers", "1", "--log-level", "ERROR")
_HUEY = ("-m", "huey.bin.huey_consumer", "peers.huey.huey", "-w", "4", "-k", "thread", "-q")
_RQ = ("-c", "from rq.cli import main; main()", "worker", "-w", "rq.worker.SimpleWorker", "--quiet", "bench")
_ARQ = ("-c", "from arq.cli import cli; cli()", "peers.arq.WorkerSettings")
_SAQ = ("-m", "saq", "peers.saq.settings", "--quiet")

_LATE = "at least once: acknowledged after the run"
_LEASED = f"{_LATE}, reports and acknowledgement in one step"

PEERS = {
    peer.name: peer
    for peer in (
        Peer("dingo redis", "redis", "dingo", _DINGO, "4 threads, nothing packed", _LEASED, share=1.0),
        Peer("dingo amqp", "amqp", "dingo", _DINGO, "4 threads, nothing packed",
             f"{_LATE}; publishing confirmed, classic queues, messages persistent, reports too",
             share=1.0),
        Peer("dingo amqp quorum", "amqp", "dingo", _DINGO, "4 threads, nothing packed, `?queue_type=quorum`",
             f"{_LATE}; publishing confirmed, quorum queues, messages persistent, reports too",
             share=1.0),
        Peer("dingo sqlite", "sqlite", "dingo", _DINGO, "4 threads, nothing packed, synchronous=FULL",
             f"{_LEASED}, on the disk", share=1.0),
        Peer("celery redis", "redis", "celery", _CELERY, "4 threads, results in Redis",
             "at most once: acknowledged before the run; a kill between the two steps of the take loses a job",
             share=0.1),
        Peer("celery amqp", "amqp", "celery", _CELERY, "4 threads, rpc:// results",
             "at most once: acknowledged before the run; publishing not confirmed, classic queues, messages persistent",
             share=0.1),
        Peer("dramatiq redis", "redis", "dramatiq", _DRAMATIQ, "4 threads, results in Redis", _LATE),
        Peer("dramatiq amqp", "amqp", "dramatiq", _DRAMATIQ, "4 threads, results in Redis",
             f"{_LATE}; publishing not confirmed, classic queues, messages persistent"),
        Peer("dramatiq amqp confirmed", "amqp", "dramatiq", _DRAMATIQ,
             "4 threads, results in Redis, confirm_delivery=True",
             f"{_LATE}; publishing confirmed, classic queues, messages persistent"),
        Peer("taskiq list", "redis", "taskiq", _TASKIQ, "ListQueueBroker, async task, results in Redis",
             "at most once: taken out before the run", share=0.15),
        Peer("taskiq stream", "redis", "taskiq", _TASKIQ, "RedisStreamBroker, async task, results in Redis", _LATE,
             share=0.15),
        Peer("taskiq amqp", "amqp", "taskiq", _TASKIQ, "AioPikaBroker, async task, results in Redis",
             f"{_LATE}; publishing confirmed, quorum queues, messages persistent", share=0.1),
        Peer("huey redis", "redis", "huey", _HUEY, "RedisHuey, 4 threads, notify_result=True",
             "at most once: taken out before the run"),
        Peer("huey sqlite", "sqlite", "huey", (*_HUEY, "-d", "0.001", "-m", "0.01"),
             "SqliteHuey, 4 threads, fsync=False, polls each 1 to 10 ms", "at most once: taken out before the run",
             share=0.1),
        Peer("rq", "redis", "rq", _RQ, "SimpleWorker (no fork), one job at a time",
             "moved to a registry before the run; found failed after a kill, not run again", share=0.025),
        Peer("arq", "redis", "arq", _ARQ, "max_jobs=10, poll_delay=0.005, async task",
             "at least once: deleted after the run", share=0.1),
        Peer("saq", "redis", "saq", _SAQ, "concurrency=10, async task",
             "acknowledged after the run; after a kill found and aborted, run again only with retries", share=0.1),
    )
}  # fmt: skip


def rivals(*brokers: str) -> tuple[str, ...]:
    """Name all contestants on these brokers, dingo first."""
    names = [peer.name for peer in PEERS.values() if peer.broker in brokers]
    return tuple(sorted(names, key=lambda name: not name.startswith("dingo")))
