"""From a URL to what is behind it: the only door to the transports.

`amqp://user:password@host/vhost` and `amqps://` (RabbitMQ, also over TLS), `redis://host` and `rediss://host` (over
TLS), `sqlite:///file.db` (durable, many processes, no server), and `memory://name` (one process, for tests) are
dingo's own, with or without `dingo+` before them. What else kombu knows (`sqs://`, `filesystem://` ...) goes by
`dingo.kombu.stock`.

Reporter and Store may also come from a result store, which is no broker: see `dingo.store.urls`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dingo.bridge.memory import MemoryHerald, MemoryProducer, MemoryStore, MemoryWorker, wire
from dingo.config import Config
from dingo.errors import BadConfig
from dingo.masking import mask_url, shown
from dingo.store import urls as stores

if TYPE_CHECKING:
    from collections.abc import Callable

_KNOWN = "amqp://host/vhost, redis://host:6379/0, sqlite:///file.db, memory://name, or any other that kombu knows"


# A worker is Consumer and Reporter in one; most are the Reporter too where the tasks go another way.
_WORKING = ("worker", "reporter")


def check(url: object) -> None:
    """Raise BadConfig for what cannot be a URL at all."""
    if not isinstance(url, str):
        raise BadConfig(f"a URL is a text such as 'redis://host:6379/0', not {shown(url)}")
    try:
        urlsplit(url)
    except ValueError as error:
        raise BadConfig(f"{mask_url(url)!r} is no URL: {error}") from None


def producer(url: str, config: Config | None = None) -> Any:
    """Make the Producer for a URL. Raises BadConfig."""
    return _maker(url)("producer", config or Config())


def worker(url: str, config: Config | None = None) -> Any:
    """Make what is Consumer and Reporter in one for a URL. Raises BadConfig."""
    return _maker(url)("worker", config or Config())


def keeps_apart(url: str) -> bool:
    """Whether results go to a store of their own, even where the broker has the same URL (mongodb)."""
    return stores.knows(url)


def reporter(url: str, config: Config | None = None) -> Any:
    """Make the Reporter for the URL of a backend: of a broker, what is its worker too. Raises BadConfig."""
    check(url)
    if stores.knows(url):
        return stores.reporter(url, config or Config())
    return _maker(url)("reporter", config or Config())


def store(url: str, config: Config | None = None) -> Any:
    """Make the Store for the URL of a backend. Raises BadConfig."""
    check(url)
    return stores.store(url, config or Config()) if stores.knows(url) else _maker(url)("store", config or Config())


def herald(url: str, config: Config | None = None) -> Any:
    """Make the Herald for a URL; None where that cannot carry what workers say of themselves. Raises BadConfig."""
    url = url.removeprefix("dingo+")
    parts = urlsplit(url)
    seconds = (config or Config()).connect_timeout_seconds
    if parts.scheme == "memory":
        return MemoryHerald(wire(parts.netloc + parts.path or "default"))
    if parts.scheme == "sqlite":
        from dingo.kombu.heralds.sqlite import SqliteHerald  # noqa: PLC0415 - on demand

        return SqliteHerald(path_of(url))
    if parts.scheme in {"amqp", "amqps"}:
        from dingo.kombu.heralds.amqp import AmqpHerald  # noqa: PLC0415 - on demand

        return AmqpHerald(url, seconds)
    if parts.scheme in {"redis", "rediss"}:
        from dingo.kombu.heralds.redis import RedisHerald  # noqa: PLC0415 - on demand

        return RedisHerald(url, seconds)
    return None


def _maker(url: str) -> Callable[[str, Config], Any]:
    check(url)
    url = url.removeprefix("dingo+")
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return lambda part, _config: _memory(part, parts.netloc + parts.path)
    if parts.scheme == "sqlite":
        return lambda part, config: _sqlite(part, path_of(url), config)
    if parts.scheme in {"amqp", "amqps"}:
        return lambda part, config: _amqp(part, url, config)
    if parts.scheme in {"redis", "rediss"}:
        return lambda part, config: _redis(part, url, config)
    if stores.knows(url) and parts.scheme != "mongodb":  # which kombu has a transport for
        raise BadConfig(
            f"{mask_url(url)!r} keeps results and carries no tasks: give it as the backend of a broker, "
            "App(broker, backend=...) or DINGO_BACKEND"
        )
    if not parts.scheme:  # kombu would take it for RabbitMQ on this machine
        backends = ", ".join(stores.EXAMPLES)
        raise BadConfig(f"{mask_url(url)!r} is no URL of a broker: there are {_KNOWN}; as backends {backends}")
    return lambda part, config: _stock(part, url, config)


def path_of(url: str) -> str:
    """Return the path in an sqlite URL, "" for none."""
    parts = urlsplit(url)
    return unquote(parts.path[1:]) if not parts.netloc else ""


def _memory(part: str, name: str) -> Any:
    made = {"producer": MemoryProducer, "worker": MemoryWorker, "reporter": MemoryWorker, "store": MemoryStore}[part]
    return made(wire(name or "default"))


def _sqlite(part: str, path: str, config: Config) -> Any:
    from dingo.kombu.sqlite import Database, SqliteProducer, SqliteStore, SqliteWorker  # noqa: PLC0415 - on demand

    Database(path)
    if part in _WORKING:
        return SqliteWorker(path, config.lease_seconds)
    return (SqliteProducer if part == "producer" else SqliteStore)(path)


def _amqp(part: str, url: str, config: Config) -> Any:
    from dingo.kombu.amqp import AmqpProducer, AmqpReporter, AmqpStore, AmqpWorker  # noqa: PLC0415 - on demand

    seconds = config.connect_timeout_seconds
    if part == "worker":
        return AmqpWorker(url, config.lease_seconds, seconds)
    return {"producer": AmqpProducer, "reporter": AmqpReporter, "store": AmqpStore}[part](url, seconds)


def _redis(part: str, url: str, config: Config) -> Any:
    try:
        from dingo.kombu.redis import RedisProducer, RedisStore, RedisWorker  # noqa: PLC0415 - on demand
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise BadConfig("redis:// needs a package that is not installed: pip install 'dingo-tasks[redis]'") from None
    if part in _WORKING:
        return RedisWorker(url, config.lease_seconds, config.connect_timeout_seconds)
    return (RedisProducer if part == "producer" else RedisStore)(url, config.connect_timeout_seconds)


def _stock(part: str, url: str, config: Config) -> Any:
    from dingo.kombu.stock import StockProducer, StockStore, StockWorker  # noqa: PLC0415 - brings all of kombu along

    if part in _WORKING:
        return StockWorker(url, config)
    return (StockProducer if part == "producer" else StockStore)(url, config)
