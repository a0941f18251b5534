"""Checkups: what can be wrong with a broker, and what to do about it. `dingo doctor` prints it.

Each looks as an operator would, changes nothing, and leaves nothing behind: the probe message goes over a queue of its
own, which is deleted afterwards.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dingo.contracts import Envelope, ReportEnvelope, Settlement
from dingo.errors import BrokerUnavailable, NotAttached
from dingo.kombu import urls
from dingo.message.frame import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dingo.config import Config

OK, NOTE, WARNING, WRONG = "ok", "note", "warning", "wrong"
# How long a probe message may take (seconds), how far a server's clock may be off, and how slow an answer may be.
PROBE_SECONDS = 10.0
CLOCK_SECONDS = 5.0
SLOW_SECONDS = 1.0
# Below so much room on a disk something will soon go wrong (bytes).
ROOM = 100 * 1024 * 1024
_ON_A_NETWORK = {"nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "glusterfs", "ceph"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is ("ok", "note", "warning", "wrong"), what was seen, and what to do about it."""

    check: str
    verdict: str
    seen: str
    advice: str = ""


def checkup(url: str, config: Config, queues: Iterable[str]) -> Iterator[Finding]:
    """Look at a broker. Raises BrokerUnavailable, BadConfig."""
    bare = url.removeprefix("dingo+")
    scheme = urlsplit(bare).scheme
    looks: dict[str, Callable[[str, Config, Iterable[str]], Iterator[Finding]]] = {
        "redis": _redis, "rediss": _redis, "amqp": _amqp, "amqps": _amqp, "sqlite": _sqlite,
    }  # fmt: skip
    if scheme not in looks:
        yield Finding("broker", NOTE, f"{scheme} goes by kombu's own transport: its server is not looked into")
        return
    yield from looks[scheme](bare, config, queues)
    yield _round_trip(bare, config, _CLEANERS[scheme])


def _round_trip(url: str, config: Config, clean: Callable[[str, str, Config], None]) -> Finding:
    """Send a probe over a queue of its own, claim it, and collect its report."""
    queue = f"dingo-doctor-{os.urandom(6).hex()}"
    parts = [urls.producer(url, config), urls.worker(url, config), urls.store(url, config)]
    producer, worker, store = parts
    probe = Envelope(queue, queue, "dingo.doctor", b"probe", reply=f"reply.{queue}")
    began = monotonic()
    try:
        for part in parts:
            part.open(lambda *_: None)
        producer.send([probe])
        (delivery,) = _until(lambda wait: worker.claim((queue,), 1, wait), "claimed")
        worker.settle([Settlement(delivery, reports=[ReportEnvelope(probe.reply, queue, probe.name, b"well", True)])])
        (pack,) = _until(lambda wait: store.collect(probe.reply, wait), "reported")
        taken = monotonic() - began
        if list(unpack(pack)) != [b"well"]:
            return Finding("round trip", WRONG, "what came back is not what was sent", "look for what is in between")
    except _TooSlowError as error:
        return Finding("round trip", WRONG, f"a probe was not {error} within {PROBE_SECONDS:.0f} s", "see its log")
    finally:
        for part in parts:
            with suppress(BrokerUnavailable):
                part.close()
        clean(url, queue, config)
    verdict = WARNING if taken > SLOW_SECONDS else OK
    advice = "a broker far away, or busy: calls will wait for it" if verdict == WARNING else ""
    return Finding("round trip", verdict, f"a probe went there and back in {taken * 1000:.0f} ms", advice)


class _TooSlowError(Exception):
    """What was waited for has not come."""


def _until(step: Callable[[float], list[Any]], what: str) -> list[Any]:
    until = monotonic() + PROBE_SECONDS
    while monotonic() < until:
        if came := step(0.5):
            return came
    raise _TooSlowError(what)


def _clock(server: float, before: float) -> Finding:
    off = server - (before + time()) / 2
    if abs(off) <= CLOCK_SECONDS:
        return Finding("clock", OK, f"within {max(abs(off), 0.1):.1f} s of the server's")
    advice = "run NTP on both: eta, delay and expires are reckoned here and kept there"
    return Finding("clock", WARNING, f"{abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} the server's", advice)


# -- Redis ------------------------------------------------------------------------------------------------


def _redis(url: str, config: Config, queues: Iterable[str]) -> Iterator[Finding]:
    from dingo.kombu.redis.server import Server  # noqa: PLC0415 - on demand

    server = Server(url, config.connect_timeout_seconds)
    try:
        server.open(lambda *_: None)
        with server.errors():
            info = server.client.info()
        yield Finding("broker", OK, f"Redis {info.get('redis_version')} answers")
        before = time()
        seconds, micros = server.do("TIME")
        yield _clock(int(seconds) + int(micros) / 1e6, before)
        yield from _redis_settings(info)
        yield from (_redis_queue(server, queue) for queue in queues)
    finally:
        server.close()


def _redis_settings(info: dict[str, Any]) -> Iterator[Finding]:
    policy, most = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    if most and policy != "noeviction":
        advice = "CONFIG SET maxmemory-policy noeviction"
        yield Finding(
            "eviction", WRONG, f"maxmemory-policy is {policy}: calls are thrown out when memory is full", advice
        )
    elif most and int(info.get("used_memory", 0)) > 0.9 * most:
        yield Finding("memory", WARNING, "more than 90 % of maxmemory is used", "raise maxmemory, or drain the queues")
    else:
        yield Finding("eviction", OK, f"nothing is thrown out ({policy})")
    if info.get("aof_enabled"):
        yield Finding("persistence", OK, "appendonly is on")
    else:
        advice = "CONFIG SET appendonly yes (and appendfsync always, to survive power cuts)"
        yield Finding("persistence", WARNING, "appendonly is off: a restart of the server loses calls", advice)


def _redis_queue(server: Any, queue: str) -> Finding:
    prefix = f"dingo:{{{queue}}}:"
    streams = server.do("SMEMBERS", prefix + "streams")
    here = sum(int(server.do("XLEN", stream)) for stream in streams)
    return _queue(queue, f"{here} wait or run, {int(server.do('ZCARD', prefix + 'later'))} are delayed")


def _clean_redis(url: str, queue: str, config: Config) -> None:
    from dingo.kombu.redis.server import Server  # noqa: PLC0415 - on demand

    server = Server(url, config.connect_timeout_seconds)
    prefix = f"dingo:{{{queue}}}:"
    try:
        streams = server.do("SMEMBERS", prefix + "streams")
        server.do("SREM", "dingo:queues", prefix)
        server.do("DEL", *streams, *(prefix + one for one in ("streams", "levels", "later", "held", "starts", "bell")))
        server.do("DEL", f"dingo:reply:reply.{queue}", f"dingo:end:{queue}")
    finally:
        server.close()


# -- RabbitMQ ---------------------------------------------------------------------------------------------


def _amqp(url: str, config: Config, queues: Iterable[str]) -> Iterator[Finding]:
    from dingo.kombu.amqp.address import Address  # noqa: PLC0415 - on demand
    from dingo.kombu.amqp.plain import message, plain_connection, speaking  # noqa: PLC0415 - on demand

    address = Address.of(url)
    alarms: list[str] = []
    with speaking(address):
        connection = plain_connection(address, config.connect_timeout_seconds, blocked=alarms.append)
        try:
            about = connection.server_properties
            yield Finding("broker", OK, f"{about.get('product', 'the server')} {about.get('version', '?')} answers")
            connection.channel().basic_publish(message(b""), "", f"dingo.reply.{os.urandom(6).hex()}")
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.5)  # an alarm is told to who publishes
        finally:
            connection.collect()
    if alarms:
        advice = "rabbitmq-diagnostics alarms: make room on its disk or in its memory"
        yield Finding("alarms", WRONG, f"the server takes no messages: {alarms[0]}", advice)
    else:
        yield Finding("alarms", OK, "the server takes messages")
    for queue in queues:
        yield _amqp_queue(address, queue, config)


def _amqp_queue(address: Any, queue: str, config: Config) -> Finding:
    from dingo.kombu.amqp.errors import NotFound  # noqa: PLC0415 - on demand
    from dingo.kombu.amqp.plain import plain_connection, speaking  # noqa: PLC0415 - on demand
    from dingo.kombu.amqp.queues import PRIORITIES, task_queue  # noqa: PLC0415 - on demand

    waiting = consumers = 0
    known = False
    with speaking(address):
        connection = plain_connection(address, config.connect_timeout_seconds)
        try:
            for priority in PRIORITIES:
                with suppress(NotFound):  # which closes the channel
                    found = connection.channel().queue_declare(task_queue(queue, priority), passive=True)
                    known = True
                    waiting += found.message_count
                    consumers = max(consumers, found.consumer_count)
        finally:
            connection.collect()
    return _queue(queue, f"{waiting} wait, {consumers} workers consume" if known else "nobody has used it yet")


def _clean_amqp(url: str, queue: str, config: Config) -> None:
    from dingo.kombu.amqp.address import Address  # noqa: PLC0415 - on demand
    from dingo.kombu.amqp.plain import plain_connection, speaking  # noqa: PLC0415 - on demand
    from dingo.kombu.amqp.queues import PRIORITIES, reply_queue, task_queue  # noqa: PLC0415 - on demand

    address = Address.of(url)
    with speaking(address):
        connection = plain_connection(address, config.connect_timeout_seconds)
        try:
            channel = connection.channel()
            for priority in PRIORITIES:
                channel.queue_delete(task_queue(queue, priority))
            channel.queue_delete(reply_queue(queue))
        finally:
            connection.collect()


# -- SQLite -----------------------------------------------------------------------------------------------


def _sqlite(url: str, config: Config, queues: Iterable[str]) -> Iterator[Finding]:
    from dingo.kombu.sqlite.database import Database  # noqa: PLC0415 - on demand

    del config
    database = Database(urls.path_of(url))
    connection = database.connect()
    try:
        with database.errors():
            (version,) = connection.execute("SELECT sqlite_version()").fetchone()
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            with database.writing(connection):
                pass
        yield Finding("broker", OK, f"SQLite {version} opens {database.path} and can write to it")
        if mode == "wal":
            yield Finding("journal", OK, "the file is in WAL mode")
        else:
            yield Finding(
                "journal", WRONG, f"the file is in {mode} mode", "another program has changed it: use another file"
            )
        yield from _sqlite_disk(database.path)
        for queue in queues:
            with database.errors():
                counts = dict(
                    connection.execute(
                        "SELECT state, count(*) FROM tasks WHERE queue = ? GROUP BY state", (queue,)
                    ).fetchall()
                )
            waiting, delayed, running = (counts.get(state, 0) for state in range(3))
            yield _queue(queue, f"{waiting} wait, {delayed} are delayed, {running} run")
    finally:
        connection.close()


def _sqlite_disk(path: Path) -> Iterator[Finding]:
    kind = _file_system(path)
    if kind in _ON_A_NETWORK:
        advice = "put it on a local disk, or use redis:// or amqp:// for many machines"
        yield Finding("disk", WRONG, f"the file is on {kind}: network file systems do not lock as SQLite needs", advice)
    room = shutil.disk_usage(path.parent).free
    if room < ROOM:
        yield Finding("disk", WARNING, f"only {room // 2**20} MiB are free on the disk of the file", "make room")
    elif kind not in _ON_A_NETWORK:
        yield Finding("disk", OK, f"a local file system ({kind or 'unknown'}), {room // 2**30} GiB free")


def _file_system(path: Path) -> str:
    """Return what kind of file system a file is on, where Linux tells."""
    found = ("", "")
    with suppress(OSError):
        for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, place, kind, *_ = line.split(" ")
            if path.is_relative_to(place.replace("\\040", " ")) and len(place) >= len(found[0]):
                found = (place, kind)
    return found[1]


def _clean_sqlite(url: str, queue: str, config: Config) -> None:
    """The probe's report goes with its time; nothing else is left."""


def _queue(name: str, seen: str) -> Finding:
    return Finding(f"queue {name}", OK, seen)


_CLEANERS: dict[str, Callable[[str, str, Config], None]] = {
    "redis": _clean_redis, "rediss": _clean_redis, "amqp": _clean_amqp, "amqps": _clean_amqp, "sqlite": _clean_sqlite,
}  # fmt: skip


def backend_checkup(url: str, config: Config) -> Finding:
    """Look whether a backend of its own answers. Raises BrokerUnavailable, BadConfig."""
    store = urls.store(url, config)
    store.open(lambda *_: None)
    began = monotonic()
    try:
        store.fetch("dingo.doctor", "dingo.doctor")
    except NotAttached as error:
        return Finding("backend", NOTE, str(error))
    finally:
        store.close()
    return Finding("backend", OK, f"the store of results answers in {(monotonic() - began) * 1000:.0f} ms")
