"""From a URL to the result store behind it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from dingo.errors import BadConfig
from dingo.masking import mask_url

if TYPE_CHECKING:
    from dingo.config import Config


class _Kind(NamedTuple):
    """One kind of store: its module, which is named as its extra, what that imports, and a URL to show."""

    module: str
    packages: tuple[str, ...]
    example: str


_POSTGRESQL = _Kind("postgresql", ("sqlalchemy", "psycopg"), "postgresql://user:password@host/database")
_MYSQL = _Kind("mysql", ("sqlalchemy", "pymysql"), "mysql://user:password@host/database")
_MEMCACHE = _Kind("memcache", ("pymemcache",), "memcache://host:11211")
_MONGODB = _Kind("mongodb", ("pymongo", "bson"), "mongodb://user:password@host/database")
_KINDS = {
    "postgresql": _POSTGRESQL, "postgres": _POSTGRESQL, "postgresql+psycopg": _POSTGRESQL,
    "mysql": _MYSQL, "mysql+pymysql": _MYSQL, "mariadb": _MYSQL, "mariadb+pymysql": _MYSQL,
    "memcache": _MEMCACHE, "memcached": _MEMCACHE,
    "mongodb": _MONGODB, "mongodb+srv": _MONGODB,
}  # fmt: skip

EXAMPLES = tuple(kind.example for kind in (_POSTGRESQL, _MYSQL, _MEMCACHE, _MONGODB))


def knows(url: str) -> bool:
    """Whether the URL is one of a result store. Raises BadConfig for a driver that is not ours."""
    scheme = _scheme(url)
    family = scheme.partition("+")[0]
    if scheme not in _KINDS and family in _KINDS:
        drivers = sorted(one for one in _KINDS if one.partition("+")[0] == family)
        raise BadConfig(f"{mask_url(url)!r}: no driver {scheme!r} is used here: write {' or '.join(drivers)}")
    return scheme in _KINDS


def reporter(url: str, config: Config) -> Any:
    """Make the Reporter for a URL. Raises BadConfig."""
    return _module(url).reporter(url, config.connect_timeout_seconds)


def store(url: str, config: Config) -> Any:
    """Make the Store for a URL. Raises BadConfig."""
    return _module(url).store(url, config.connect_timeout_seconds)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _module(url: str) -> Any:
    kind = _KINDS[_scheme(url)]
    try:
        return importlib.import_module(f"dingo.store.{kind.module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in kind.packages:
            raise
        raise BadConfig(
            f"{kind.module}:// needs a package that is not installed ({error.name}): "
            f"pip install 'dingo-tasks[{kind.module}]'"
        ) from None
