"""Every other kombu URL, on the transport that kombu has for it: `sqs://`, `filesystem://`, `mongodb://` ...

    dingo-{queue}              the tasks
    dingo-{queue}-later{0..4}  tasks that are not due yet, by how soon they are; where the broker itself can delay
                               a message (SQS: for a quarter of an hour) they wait in the queue of the tasks
    dingo-reply-{...}          the reports for one caller; deleted when the caller closes

The path is kombu's plainest: one message per task or pack of reports, its body the bytes as they are, what a broker
has to know in its headers; fetched with `Queue.get`, acknowledged after its report was published, requeued when it was
not started. So what holds is what the transport behind the URL gives: a task comes again if the broker keeps a
message until it is acknowledged. Nothing counts starts, so POISONED is not promised, and `redeliver=False` is kept
by acknowledging before the start: nobody reports such a task whose worker died.

Delayed tasks are looked at by every worker that serves their queue: often those that are due soon, rarely the
others. Nobody holds them in memory. That is good for hundreds of them, not for a hundred thousand.

Each component has a connection of its own, which one thread uses; only `wake` and `tend` come from others.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import kombu
from kombu.transport import TRANSPORT_ALIASES, get_transport_cls

from dingo.config import Config, mask_url
from dingo.contracts import Delivery, Envelope, ReportEnvelope, Settlement, StoredCall, Verdict
from dingo.errors import BadConfig, BrokerUnavailable, NotAttached
from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# Who finds nothing asks again after this time, then after twice as long, up to `polling_interval` (seconds).
POLL_FIRST = 0.01
POLL_MOST = 0.25
# A task that is not due waits in the first queue whose horizon it is within; each is looked into so often (seconds).
HORIZONS = (2.0, 20.0, 200.0, 2000.0, math.inf)
LOOK_EVERY = (0.2, 1.0, 10.0, 100.0, 600.0)
# How many delayed tasks are looked at before tasks that are due are claimed again.
LOOK_AT_ONCE = 100
# Larger packs of reports are divided (bytes).
PACK_LIMIT = 64 * 1024

_ID, _NAME, _REPLY, _DUE, _PRIORITY = "dingo-id", "dingo-name", "dingo-reply", "dingo-due", "dingo-priority"
_REPLIES = kombu.Exchange("dingo-reply", type="direct", durable=True)
# A transport that tries to read what is none of its messages fails with one of these.
_NONSENSE = (ValueError, KeyError, TypeError, AttributeError)
_NO_STORE = (
    "a queue keeps nothing of single calls, so {scheme}:// cannot {what}: "
    'add a backend that can (option "backend", for instance backend="redis://host" or "sqlite:///results.db")'
)
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
_KEEP = {"filesystem", "sqs", "azureservicebus", "gcpubsub", "pgmq", "slmq", "pyamqp"}


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
        channel.Message = _as_it_came(channel.Message)
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


def _as_it_came(base: type[Any]) -> type[Any]:
    """Return a class of messages that are not inflated: that would be done before anybody could look at the size."""

    class Message(base):  # type: ignore[misc]
        def __init__(self, raw: Any, channel: Any = None, **fields: Any) -> None:
            headers = raw.get("headers") if isinstance(raw, dict) else raw.properties.get("application_headers")
            if isinstance(headers, dict):
                headers.pop("compression", None)
            super().__init__(raw, channel=channel, **fields)

    return Message


def _word(name: str) -> str:
    """Return what stands for a name in the name of a queue: brokers differ in what they take, all take these."""
    if re.fullmatch(r"[A-Za-z0-9_]{1,40}", name):
        return name
    return f"{re.sub('[^A-Za-z0-9_]', '_', name)[:20]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def task_queue(queue: str) -> str:
    """Return the name of the queue for tasks."""
    return f"dingo-{_word(queue)}"


def later_queue(queue: str, level: int) -> str:
    """Return the name of a queue for tasks that are not due yet."""
    return f"{task_queue(queue)}-later{level}"


def reply_queue(reply: str) -> str:
    """Return the name of the queue for a caller's reports."""
    return f"dingo-reply-{_word(reply.removeprefix('reply.'))}"


class _Part:
    """What the components share: a connection that is built when it is needed, and a way to be woken."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        self._place = Place.of(url, config or Config())
        self._lease = (config or Config()).lease_seconds
        self._busy = threading.RLock()  # whoever closes waits for the thread that uses the connection
        self._connection: Any = None
        self._channel: Any = None
        self._publisher: Any = None
        self._queues: dict[str, Any] = {}
        self._bell = threading.Event()
        self._pause = POLL_FIRST
        self._emit: Callable[..., None] = lambda *_args: None

    @property
    def max_message_bytes(self) -> int | None:
        """The largest frame that fits into a message of this broker; None: it sets no limit."""
        return self._place.traits.max_message_bytes

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. The thread that uses it connects."""
        self._emit = emit

    def wake(self) -> None:
        """Make a waiting call return."""
        self._bell.set()

    def _rest(self, until: float) -> bool:
        """Wait before the next look. False when the time is over, or it was woken."""
        left = until - monotonic()
        woken = self._bell.wait(max(0.0, min(left, self._pause)))
        self._bell.clear()
        self._pause = POLL_FIRST if woken else min(2 * self._pause, self._place.poll_most)
        return not woken and left > 0

    @contextlib.contextmanager
    def _talking(self) -> Iterator[Any]:
        """Give the channel. What goes wrong ends the connection; transports raise whatever their clients do."""
        with self._busy:
            try:
                if self._channel is None:
                    self._connect()
                yield self._channel
            except Exception as error:
                if self._channel is not None and self._place.traits.renew is not None:
                    self._channel.do_restore = False  # it all comes again in time, and asking may take for ever
                self._drop()
                raise BrokerUnavailable(f"{self._place.url}: {type(error).__name__}: {error}") from error

    def _connect(self) -> None:
        if self._place.scheme == "filesystem":
            for name in ("data_folder_in", "data_folder_out", "control_folder"):
                Path(self._place.arguments["transport_options"][name]).mkdir(parents=True, exist_ok=True)
        self._connection, self._channel = self._place.connect()
        self._publisher = kombu.Producer(self._channel, auto_declare=False)
        self._queues = {}

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:  # it is broken: what it held comes again when the broker notices
                self._emit(10, "connection.dropped", f"{self._place.url}: {error}", {"error": error})

    def _queue(self, name: str) -> Any:
        """Return a queue, declared once per connection."""
        queue = self._queues.get(name)
        if queue is None:
            queue = kombu.Queue(name, durable=True, auto_delete=False, channel=self._channel)
            self._channel.queue_declare(queue=name, durable=True, exclusive=False, auto_delete=False)
            if len(self._queues) > 10_000:  # those of callers come and go
                self._queues.clear()
            self._queues[name] = queue
        return queue

    def _get(self, queue: Any) -> Any:
        """Return the next message, or None."""
        try:
            return queue.get(no_ack=False)
        except _NONSENSE as error:
            text = f"{queue.name}: {self._place.scheme} gave something that is no message of kombu's: {error!r}"
            self._emit(40, "message.refused", text, {"queue": queue.name, "error": error})
            return None

    def _publish(self, queue: str, body: bytes, headers: dict[str, Any], **fields: Any) -> None:
        self._queue(queue)
        self._publisher.publish(
            body, exchange="", routing_key=queue, content_type="application/data", content_encoding="binary",
            headers=headers, delivery_mode=2, **fields,
        )  # fmt: skip

    def _put(self, envelope: Envelope, due: float | None) -> None:
        """Publish a task: to its queue, or to where it waits for its time."""
        headers = {_ID: envelope.id, _NAME: envelope.name, _REPLY: envelope.reply, _PRIORITY: envelope.priority}
        fields: dict[str, Any] = {"priority": envelope.priority}
        queue = task_queue(envelope.queue)
        wait = 0.0 if due is None else due - time()
        if wait > 0:
            headers[_DUE] = due
            most = self._place.traits.delay_most
            if most:
                fields["DelaySeconds"] = min(most, math.ceil(wait))
            else:
                level = next(at for at, horizon in enumerate(HORIZONS) if wait < horizon)
                queue = later_queue(envelope.queue, level)
        self._publish(queue, envelope.frame, headers, **fields)

    def close(self) -> None:
        """Close the connection: what was fetched and not acknowledged goes back."""
        self.wake()
        with self._busy:
            self._drop()


class StockProducer(_Part):
    """Publishes tasks."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._sent: set[tuple[str, str]] = set()

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Publish a batch, one by one. What was published is not sent again when the batch is."""
        if not envelopes:
            return
        with self._talking():
            for one in envelopes:
                if (one.name, one.id) not in self._sent:
                    self._put(one, one.due)
                    self._sent.add((one.name, one.id))
        self._sent.clear()


@dataclass(slots=True, eq=False)
class _Claim:
    """The token of a delivery: good for one channel, until it is settled.

    `messages`: all that brought this task, which are acknowledged together. `started`: they were before its start.
    """

    channel: Any
    messages: list[Any]
    since: float
    started: bool = False
    settled: bool = False


class StockWorker(_Part):
    """Consumer and Reporter."""

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._held: dict[tuple[str, str], _Claim] = {}
        self._looks: dict[tuple[str, int], float] = {}

    def open(self, emit: Callable[..., None]) -> None:
        """Connect, so that a wrong URL is told at once. Raises BrokerUnavailable."""
        super().open(emit)
        with self._talking():
            pass
        scheme = self._place.scheme
        if scheme not in _KEEP:
            text = f"kombu's {scheme} deletes messages when they are fetched: a task whose worker dies is lost"
            emit(30, "broker.forgets", text, {"scheme": scheme})

    # -- claiming --------------------------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim up to `room` tasks, the first queue first."""
        until = monotonic() + wait
        wanted = room > 0 and bool(queues)
        while True:
            if wanted and (claimed := self._claim_now(queues, room)):
                self._pause = POLL_FIRST
                return claimed
            if not self._rest(until):
                return []

    def _claim_now(self, queues: Sequence[str], room: int) -> list[Delivery]:
        claimed: list[Delivery] = []
        with self._talking():
            for queue in queues:
                if not self._place.traits.delay_most:
                    self._look_later(queue)
                source = self._queue(task_queue(queue))
                while len(claimed) < room and (message := self._get(source)) is not None:
                    delivery = self._take(queue, message)
                    if delivery is not None:
                        claimed.append(delivery)
        return claimed

    def _take(self, queue: str, message: Any) -> Delivery | None:
        """Claim a message, unless it is early, or this worker has its task already."""
        envelope = _envelope(queue, message)
        if envelope.due is not None and envelope.due > time():
            self._put(envelope, envelope.due)
            message.ack()
            return None
        key = (envelope.name, envelope.id)
        held = self._held.get(key)
        if held is not None and envelope.id:
            self._bring_again(held, message)
            return None
        claim = self._held[key] = _Claim(self._channel, [message], monotonic())
        return Delivery(envelope, claim)

    def _bring_again(self, held: _Claim, message: Any) -> None:
        """Note that a task has come again that still runs here: it was sent twice, or its connection was lost."""
        if held.started:
            message.ack()
        elif held.channel is self._channel:
            held.messages.append(message)
        else:
            held.channel, held.messages = self._channel, [message]

    def _look_later(self, queue: str) -> None:
        """Move on those tasks whose time has come, or is nearer than it was."""
        now = monotonic()
        for level, every in enumerate(LOOK_EVERY):
            if now < self._looks.get((queue, level), 0.0):
                continue
            moved = 0
            source = self._queue(later_queue(queue, level))
            early: list[tuple[Envelope, Any]] = []
            for _ in range(LOOK_AT_ONCE):
                message = self._get(source)
                if message is None:
                    break
                envelope = _envelope(queue, message)
                if envelope.due is None or envelope.due <= time():
                    self._put(envelope, None)
                    message.ack()
                    moved += 1
                else:
                    early.append((envelope, message))
            for envelope, message in early:  # to the end of the line, where the others have been looked at
                self._put(envelope, envelope.due)
                message.ack()
            self._looks[queue, level] = now + (0.0 if moved + len(early) == LOOK_AT_ONCE and moved else every)

    # -- settling --------------------------------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Publish reports and what is to come again, then acknowledge; return the stale ones."""
        if not settlements:
            return []
        good = [one for one in settlements if self._is_ours(one.delivery.token)]
        if good:
            with self._talking():
                self._publish_reports([report for one in good for report in one.reports])
                for one in good:
                    self._carry_out(one)
                    one.delivery.token.settled = True
        for one in settlements:
            key = (one.delivery.envelope.name, one.delivery.envelope.id)
            if self._held.get(key) is one.delivery.token:
                del self._held[key]
        kept = {id(one) for one in good}
        return [one for one in settlements if id(one) not in kept]

    def _is_ours(self, claim: _Claim) -> bool:
        return not claim.settled and (claim.started or claim.channel is self._channel)

    def _carry_out(self, one: Settlement) -> None:
        claim: _Claim = one.delivery.token
        envelope = one.delivery.envelope
        if one.verdict is Verdict.RETURN and not claim.started:
            first, *others = claim.messages
            first.reject(requeue=True)
            for message in others:
                message.ack()
            return
        if one.verdict is not Verdict.ACK:
            if one.frame is not None:
                envelope.frame = one.frame
            self._put(envelope, one.due if one.verdict is Verdict.LATER else None)
        for task in one.sends:
            self._put(task, task.due)
        if not claim.started:
            for message in claim.messages:
                message.ack()

    def report(self, reports: Sequence[ReportEnvelope]) -> None:
        """Publish reports of tasks that go on."""
        if reports:
            with self._talking():
                self._publish_reports(reports)

    def _publish_reports(self, reports: Sequence[ReportEnvelope]) -> None:
        """Put reports for the same caller into one message, unless it grows too large."""
        packs: dict[str, list[list[bytes]]] = {}
        for one in reports:
            if one.reply:
                frames = packs.setdefault(one.reply, [[]])
                if frames[-1] and sum(map(len, frames[-1])) + len(one.frame) > PACK_LIMIT:
                    frames.append([])
                frames[-1].append(one.frame)
        for reply, lines in packs.items():
            try:
                for frames_ in lines:
                    self._publish(reply_queue(reply), pack(frames_), {})
            except Exception as error:
                gone = self._place.traits.gone
                if gone is None or not gone(error):
                    raise
                self._emit(10, "report.unclaimed", f"nobody waits at {reply} any more", {"reply": reply})

    def starting(self, delivery: Delivery) -> int:
        """Acknowledge a task before it starts: nothing here counts starts, so only that keeps it from a second one."""
        claim: _Claim = delivery.token
        if not claim.started:
            with self._talking() as channel:
                if claim.settled or claim.channel is not channel:
                    raise BrokerUnavailable(f"{self._place.url}: the claim went with its connection")
                for message in claim.messages:
                    message.ack()
                claim.started = True
        return delivery.starts + 1

    def tend(self) -> list[Any]:
        """Keep what is held from others, where the broker sets a time for that. Nobody can ask to stop a call."""
        renew, channel = self._place.traits.renew, self._channel
        if renew is None or channel is None:
            return []
        now = monotonic()
        for claim in list(self._held.values()):
            if claim.channel is channel and not claim.started and now - claim.since > self._lease / 3:
                try:
                    for message in list(claim.messages):
                        renew(channel, message, math.ceil(self._lease))
                except Exception as error:
                    if not claim.settled:  # else it was acknowledged meanwhile
                        raise BrokerUnavailable(f"{self._place.url}: {type(error).__name__}: {error}") from error
                claim.since = now
        return []

    def close(self) -> None:
        """Put back what was claimed, and close the connection."""
        super().close()
        self._held.clear()


def _envelope(queue: str, message: Any) -> Envelope:
    """Read a message; what a stranger wrote is for the worker to judge."""
    headers = message.headers if isinstance(message.headers, dict) else {}

    def text(name: str) -> str:
        value = headers.get(name, "")
        return value if isinstance(value, str) else ""

    due, priority = headers.get(_DUE), headers.get(_PRIORITY)
    body = message.body
    return Envelope(
        queue, text(_ID), text(_NAME), body if isinstance(body, bytes) else bytes(str(body or ""), "utf-8"),
        priority if type(priority) is int and 0 <= priority <= 9 else 4,
        float(due) if isinstance(due, int | float) else None, text(_REPLY),
    )  # fmt: skip


class StockStore(_Part):
    """Gets reports. It can look nothing up: a queue hands messages on and keeps none."""

    apart = True

    def __init__(self, url: str, config: Config | None = None) -> None:
        super().__init__(url, config)
        self._replies: set[str] = set()

    def collect(self, reply: str, wait: float) -> list[bytes]:
        """Return the packs of new reports for this address."""
        until = monotonic() + wait
        while True:
            packs: list[bytes] = []
            with self._talking():
                queue = self._reply_queue(reply)
                while (message := self._get(queue)) is not None:
                    if isinstance(message.body, bytes):
                        packs.append(message.body)
                    message.ack()
            if packs:
                self._pause = POLL_FIRST
                return packs
            if not self._rest(until):
                return []

    def _reply_queue(self, reply: str) -> Any:
        name = reply_queue(reply)
        queue = self._queues.get(name)
        if queue is None:
            # Bound to an exchange, since kombu deletes only queues that are.
            queue = kombu.Queue(name, _REPLIES, routing_key=name, durable=True, auto_delete=False)(self._channel)
            queue.declare()
            self._queues[name] = queue
            self._replies.add(reply)
        return queue

    def close(self) -> None:
        """Delete the reply queues, and close the connection."""
        self.wake()
        with self._busy:
            replies, self._replies = self._replies, set()
            for reply in replies if self._channel is not None else ():
                try:
                    with self._talking():
                        self._reply_queue(reply).delete()
                except BrokerUnavailable as error:
                    self._emit(30, "queue.left", f"{reply_queue(reply)} was not deleted: {error}", {"error": error})
            self._replies.clear()
        super().close()

    def _refuse(self, what: str) -> NotAttached:
        return NotAttached(_NO_STORE.format(scheme=self._place.scheme, what=what))

    def fetch(self, id: str, name: str | None) -> StoredCall | None:
        """Raise NotAttached."""
        del id, name
        raise self._refuse("look up a call")

    def forget(self, id: str, name: str | None) -> bool:
        """Raise NotAttached."""
        del id, name
        raise self._refuse("forget a result")

    def cancel(self, id: str, name: str) -> bool | None:
        """Raise NotAttached."""
        del id, name
        raise self._refuse("cancel a call that was sent")

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """Raise NotAttached."""
        del state, queue
        raise self._refuse("list calls")
