"""Where a RabbitMQ server is, and how to get in: what a URL says."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from dingo.errors import BadConfig
from dingo.kombu.amqp.queues import QUEUE_TYPES
from dingo.masking import mask_url


@dataclass(frozen=True)
class Address:
    """Where a server is, taken from a URL."""

    url: str
    options: dict[str, Any]
    queue_type: str | None = None
    """What the task queues are to be; None: what they are already, new ones classic."""

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a URL. Raises BadConfig."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        secure = parts.scheme == "amqps"
        try:
            host, port = parts.hostname or "localhost", parts.port or (5671 if secure else 5672)
            timeout = _seconds(query.pop("connect_timeout", None))
            tls = _tls(host, query) if secure else None
        except ValueError as error:
            raise BadConfig(f"{mask_url(url)!r}: {error}") from None
        options: dict[str, Any] = {
            "host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "userid": unquote(parts.username or "guest"),
            "password": unquote(parts.password or "guest"),
            "virtual_host": unquote(parts.path[1:]) or "/",
            "login_method": "PLAIN",
        }
        if timeout is not None:  # what the URL says goes before the configuration
            options["connect_timeout"] = timeout
        if tls is not None:
            options["ssl"] = tls
        queue_type = query.pop("queue_type", None)
        if queue_type is not None and queue_type not in QUEUE_TYPES:
            raise BadConfig(f"{mask_url(url)!r}: queue_type={queue_type}: there are {' and '.join(QUEUE_TYPES)}")
        if query:
            raise BadConfig(f"{mask_url(url)!r}: unknown parameter {min(query)!r}")
        return cls(mask_url(url), options, queue_type)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    if not 0 < (seconds := float(text)) < math.inf:
        raise ValueError(f"connect_timeout={text}: seconds, more than 0")
    return seconds


def _tls(host: str, query: dict[str, str]) -> dict[str, Any]:
    """Return what py-amqp needs for TLS. The server's certificate is checked unless the URL says `verify=none`."""
    verify = query.pop("verify", "peer")
    if verify not in {"peer", "none"}:
        raise ValueError(f"verify={verify}: there are peer and none")
    check = verify == "peer"
    return {
        "cert_reqs": ssl.CERT_REQUIRED if check else ssl.CERT_NONE,
        "server_hostname": host if check else None,
        "ca_certs": query.pop("cacertfile", None),
        "certfile": query.pop("certfile", None),
        "keyfile": query.pop("keyfile", None),
    }
