"""Where a broker is, and what its transport can do: taken from a URL and `Config.transport_options`."""

from __future__ import annotations

import contextlib
import importlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import kombu
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls

from dingo.errors import BadConfig
from dingo.kombu.stock.messages import as_it_came
from dingo.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.config import Config

# Who finds nothing asks again after longer and longer, up to so many seconds, unless `polling_interval` is given.
POLL_MOST = 0.25

# What a transport imports, and what to install for it.
_PACKAGES = {
    "sqs": ("boto3", "kombu[sqs]"),
    "mongodb": ("pymongo", "kombu[mongodb]"),
    "confluentkafka": ("confluent_kafka", "kombu[confluentkafka]"),
    "kafka": ("confluent_kafka", "kombu[confluentkafka]"),
    "sqlalchemy": ("sqlalchemy", "kombu[sqlalchemy]"),
    "sqla": ("sqlalchemy", "kombu[sqlalchemy]"),
    "zookeeper": ("kazoo", "kombu[zookeeper]"),
    "azurestoragequeues": ("azure.storage.queue", "kombu[azurestoragequeues]"),
    "azureservicebus": ("azure.servicebus", "kombu[azureservicebus]"),
    "gcpubsub": ("google.cloud.pubsub_v1", "kombu[gcpubsub]"),
    "pyro": ("Pyro4", "kombu[pyro]"),
    "consul": ("consul", "kombu[consul]"),
    "etcd": ("etcd", "python-etcd"),
    "pgmq": ("pgmq", "kombu[pgmq]"),
    "qpid": ("qpid", "kombu[qpid]"),
    "slmq": ("softlayer_messaging", "kombu[slmq]"),
    "librabbitmq": ("librabbitmq", "kombu[librabbitmq]"),
    "sentinel": ("redis", "kombu[redis]"),
}

# Of these, a message that was fetched comes again when its worker dies; of any other it may be gone.
KEEP = {"filesystem", "sqs", "azureservicebus", "gcpubsub", "pgmq", "slmq", "pyamqp"}


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a transport can do that others cannot, and what it needs to be told."""

    options: dict[str, Any] = field(default_factory=dict)
    """Transport options, unless they are given."""
    transport: str | None = None
    """The transport class, where it is not kombu's own for the scheme."""
    delay_most: int = 0
    """For how long a message can be delayed by the broker itself (seconds)."""
    max_message_bytes: int | None = None
    """The largest frame that fits into a message."""
    renew: Callable[[Any, Any, int], None] | None = None
    """Called with the channel, a message and seconds: keep it from others for so long from now."""
    gone: Callable[[Exception], bool] | None = None
    """Whether an error says that the queue was deleted."""


def _renew_sqs(channel: Any, message: Any, seconds: int) -> None:
    queue = message.delivery_info["sqs_queue"]
    handle = message.delivery_info["sqs_message"]["ReceiptHandle"]
    name = queue.rpartition("/")[2]
    channel.sqs(queue=name).change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=seconds)


def _gone_from_sqs(error: Exception) -> bool:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    return code.rpartition(".")[2] in {"NonExistentQueue", "QueueDoesNotExist", "QueueDeletedRecently"}


_TRAITS = {
    "filesystem": Traits(transport="dingo.kombu.filesystem:Transport"),
    # Without long polling: a thread that waits in the server cannot be woken. Kept for as long as SQS keeps anything,
    # 14 days; it would be 4. 256 KiB, encoded twice.
    "sqs": Traits(
        options={
            "wait_time_seconds": 0,
            "polling_interval": 1.0,
            "sqs-creation-attributes": {"MessageRetentionPeriod": "1209600"},
            "client-config": {"connect_timeout": 5, "read_timeout": 15, "retries": {"total_max_attempts": 2}},
        },
        delay_most=900,
        max_message_bytes=140_000,
        renew=_renew_sqs,
        gone=_gone_from_sqs,
    ),
}


@dataclass(frozen=True)
class Place:
    """Where a broker is, taken from a URL and `Config.transport_options`."""

    url: str
    scheme: str
    arguments: dict[str, Any]
    traits: Traits
    poll_most: float

    @classmethod
    def of(cls, url: str, config: Config) -> Place:
        """Read a URL. Raises BadConfig for an unknown scheme, a missing package or wrong parameters."""
        scheme = urlsplit(url).scheme.partition("+")[0]
        if scheme not in TRANSPORT_ALIASES:
            known = ", ".join(sorted(one for one in TRANSPORT_ALIASES if one.islower() and not one.startswith("dingo")))
            raise BadConfig(f"no broker is known for {mask_url(url)!r}: kombu has transports for {known}")
        _need_package(scheme)
        traits = _TRAITS.get(scheme, Traits())
        options = {**traits.options, **config.transport_options}
        address = url
        if not (traits.transport is None and get_transport_cls(scheme).can_parse_url):
            address, _, query = url.partition("?")  # else the transport reads its own parameters
            options |= {name: _value(text) for name, text in parse_qsl(query)}
        if scheme == "filesystem":
            options = _folders(url, options)
            address = "filesystem://"
        if traits.renew is not None:
            options.setdefault("visibility_timeout", math.ceil(config.lease_seconds))
        poll_most = options.pop("polling_interval", POLL_MOST)
        if not isinstance(poll_most, int | float) or poll_most <= 0:
            raise BadConfig(f"polling_interval must be a number of seconds above 0, not {poll_most!r}")
        arguments = {"hostname": address, "transport_options": options, "heartbeat": 0}
        arguments["connect_timeout"] = config.connect_timeout_seconds
        if traits.transport is not None:
            arguments["transport"] = traits.transport
        return cls(mask_url(url), scheme, arguments, traits, float(poll_most))

    def connect(self) -> Any:
        """Make a connection and a channel whose messages are taken as they are."""
        connection = kombu.Connection(**self.arguments)
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=self.arguments["connect_timeout"])
            channel = connection.channel()
        except BaseException:
            connection.close()
            raise
        channel.Message = as_it_came(channel.Message)
        return connection, channel


def _need_package(scheme: str) -> None:
    module, package = _PACKAGES.get(scheme, (None, ""))
    try:
        if module is not None:
            importlib.import_module(module)
        get_transport_cls(scheme)
    except ImportError:
        package = package or f"kombu[{scheme}]"
        raise BadConfig(f"{scheme}:// needs a package that is not installed: pip install '{package}'") from None


def _value(text: str) -> Any:
    """Read a parameter of a URL."""
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _folders(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for `filesystem:///folder`. Raises BadConfig where no folder is said."""
    parts = urlsplit(url)
    folder = unquote(parts.netloc + parts.path)
    if folder.strip("/"):
        place = Path(folder).absolute()
        options = {"data_folder_in": str(place), "data_folder_out": str(place), **options}
    if "data_folder_in" not in options or "data_folder_out" not in options:
        raise BadConfig(
            "filesystem:// needs a folder that callers and workers share: filesystem:///var/spool/jobs "
            "(or data_folder_in and data_folder_out in Config.transport_options)"
        )
    options.setdefault("control_folder", str(Path(options["data_folder_in"]) / "control"))
    for name in ("data_folder_in", "data_folder_out", "control_folder"):
        if not isinstance(options[name], str):
            raise BadConfig(f"{name} must be the path of a folder, not {options[name]!r}")
    return options
