"""Config: every knob of dingo, from arguments, the environment or a YAML file; and masking of credentials.

A `Config` is a frozen value whose fields are checked when it is made. A wrong one is refused with a
`BadConfig` that names the key, the value and what would be right. Secrets never appear in a text made here.
"""

from __future__ import annotations

import difflib
import functools
import logging
import math
import os
import re
import sys
import threading
import time
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar, final

from dingo.errors import BadConfig
from dingo.message.retry import Retry

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

MASK = "***"
SHOWN_LIMIT = 200  # characters of a value in a message: enough to recognise it, not enough to fill a log
LEAST_KEY_BYTES = 32  # RFC 2104 asks for keys at least as long as the digest; SHA-256 gives 32 bytes
MIB = 1024 * 1024


# -- masking ---------------------------------------------------------------------------------------

_SCHEME = r"[a-z][a-z0-9+.-]*://"
_ANY = rf"(?:(?![;,\s]+{_SCHEME}).)"  # any character, as long as no further URL of a list begins there
_CREDENTIALS = re.compile(rf"(://(?:(?!:){_ANY})*:|^(?!{_SCHEME})[^:]*:(?!//)){_ANY}*@", re.IGNORECASE | re.DOTALL)
_SECRET_PARAMETER = re.compile(
    r"((?:password|passwd|pwd|passphrase|secret|token|credential|api_?key|access_?key)[\w.%-]*=)"
    rf"(?:(?!&){_ANY})*",
    re.IGNORECASE | re.DOTALL,
)


def mask_url(text: str) -> str:
    """Return `text` with passwords replaced by `***`: `redis://user:***@host/0?token=***`.

    Masks what stands between the user's name and the `@` (also where there is no scheme, in each URL of a
    list, and with characters that should have been percent-encoded), and the values of query parameters
    such as `password=` and `token=`. In doubt it masks more. Raises nothing, whatever the text.
    """
    text = str(text)
    text = _CREDENTIALS.sub(rf"\g<1>{MASK}@", text)
    return _SECRET_PARAMETER.sub(rf"\g<1>{MASK}", text)


def _shown(value: object) -> str:
    """Describe a value in a message. Of containers and objects only the type: they may hold anything."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 64 else f"an int of {value.bit_length()} bits"
    if isinstance(value, str):
        text = mask_url(value)
        return repr(text if len(text) <= SHOWN_LIMIT else text[:SHOWN_LIMIT] + "...")
    return f"a value of type {type(value).__name__!r}"


# -- kinds of values -------------------------------------------------------------------------------


class _Wrong(Exception):
    """The value does not fit; the text, if any, says more than the value would."""


class _Kind:
    """What a field takes. It stands in the field's annotation; `_accepted` and `_read` apply it."""

    right: str
    """What a value must be, after "must be"."""

    @property
    def right_as_text(self) -> str:
        """The same for a value given as text."""
        return self.right

    def accept(self, value: object) -> object:
        """Return the value as the field shall hold it, or raise `_Wrong`."""
        raise NotImplementedError

    def read(self, text: str) -> object:
        """Turn text into a value for `accept`, or raise `ValueError`."""
        return text

    def show(self, value: object) -> str:
        """Describe a value without its secrets."""
        return _shown(value)


class _Maybe(_Kind):
    def __init__(self, kind: _Kind) -> None:
        self.kind = kind
        self.right = f"{kind.right}, or None"

    @property
    def right_as_text(self) -> str:
        return f"{self.kind.right_as_text}, or empty"

    def accept(self, value: object) -> object:
        return None if value is None else self.kind.accept(value)

    def read(self, text: str) -> object:
        return None if text.lower() in {"", "none", "null"} else self.kind.read(text)

    def show(self, value: object) -> str:
        return self.kind.show(value)


class _Flag(_Kind):
    right = "True or False"
    words: typing.ClassVar = {
        **dict.fromkeys(("true", "1", "yes", "on"), True),
        **dict.fromkeys(("false", "0", "no", "off"), False),
    }

    @property
    def right_as_text(self) -> str:
        return "true or false (or 1/0, yes/no, on/off)"

    def accept(self, value: object) -> object:
        if not isinstance(value, bool):
            raise _Wrong
        return value

    def read(self, text: str) -> object:
        return self.words.get(text.lower(), text)


class _Whole(_Kind):
    def __init__(self, least: int) -> None:
        self.least = least
        self.right = f"a whole number >= {least}"

    def accept(self, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or value < self.least:
            raise _Wrong
        if value > sys.maxsize:
            raise _Wrong(f"the largest possible is {sys.maxsize}")
        return int(value)

    def read(self, text: str) -> object:
        return int(text)


class _Seconds(_Kind):
    """A finite time: `least` seconds or more, or more than `above`."""

    def __init__(self, *, least: float = -math.inf, above: float = -math.inf) -> None:
        self.least = least
        self.above = above
        self.right = "a number of seconds " + (f"> {above:g}" if math.isfinite(above) else f">= {least:g}")

    def accept(self, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _Wrong
        try:
            number = float(value)
        except OverflowError:
            raise _Wrong from None
        if not math.isfinite(number) or number < self.least or number <= self.above:
            raise _Wrong
        if number > threading.TIMEOUT_MAX:
            raise _Wrong(f"the longest a thread can wait is {threading.TIMEOUT_MAX:.0f}")
        return number

    def read(self, text: str) -> object:
        return float(text)


class _Choice(_Kind):
    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.right = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"

    def accept(self, value: object) -> object:
        if not isinstance(value, str) or value not in self.choices:
            raise _Wrong
        return value


class _Url(_Kind):
    shape = re.compile(rf"{_SCHEME}[^\x00-\x1f\x7f]*(?<!\s)", re.IGNORECASE)

    def __init__(self, example: str, *, words: tuple[str, ...] = ()) -> None:
        self.words = words
        self.right = " or ".join([f"a URL such as {example!r}", *map(repr, words)])

    def accept(self, value: object) -> object:
        if not isinstance(value, str) or not (value in self.words or self.shape.fullmatch(value)):
            raise _Wrong
        return value


class _QueueName(_Kind):
    # 255 bytes is what AMQP can carry; commas separate the names of `dingo worker --queues`.
    right = "a name of 1 to 255 bytes without commas, control characters or outer spaces"

    def accept(self, value: object) -> object:
        if not isinstance(value, str) or not value or value != value.strip() or "," in value:
            raise _Wrong
        if not value.isprintable() or len(value.encode()) > 255:
            raise _Wrong
        return value


def queue_and_weight(text: str) -> tuple[str, float | None]:
    """Read "NAME" or "NAME=WEIGHT". Raises BadConfig."""
    name, equals, weight = text.strip().partition("=")
    _accepted(f"queue {_shown(text)}: the name", _QueueName(), name)
    if not equals:
        return name, None
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise BadConfig(f"queue {_shown(text)}: a weight must be a number over 0, as in 'orders=3'")
    return name, number


class _Queues(_Kind):
    right = "a list of names of queues, each alone or with a weight, such as 'orders=3'"

    @property
    def right_as_text(self) -> str:
        return "names of queues separated by commas, each alone or with a weight, such as 'orders=3,mails=1'"

    def accept(self, value: object) -> object:
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            raise _Wrong
        try:
            for one in value:
                queue_and_weight(one)
        except BadConfig as error:
            raise _Wrong(str(error)) from None
        return tuple(value)

    def read(self, text: str) -> object:
        return [part.strip() for part in text.split(",")] if text else []


class _Secrets(_Kind):
    different = f"each {LEAST_KEY_BYTES} bytes or longer and different from the others"
    right = f"a list of texts, {different}"

    @property
    def right_as_text(self) -> str:
        return f"texts separated by commas, {self.different}"

    def accept(self, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise _Wrong(f"it is a value of type {type(value).__name__!r}")
        for number, key in enumerate(value, 1):
            which = f"key {number} of {len(value)}"
            if not isinstance(key, str):
                raise _Wrong(f"{which} is a value of type {type(key).__name__!r}")
            try:
                size = len(key.encode())
            except UnicodeEncodeError:
                raise _Wrong(f"{which} holds characters that UTF-8 cannot carry") from None
            if size < LEAST_KEY_BYTES:
                raise _Wrong(f"{which} has {size} bytes")
            if key in value[: number - 1]:
                raise _Wrong(f"{which} is the same as key {value.index(key) + 1}")
        return tuple(value)

    def read(self, text: str) -> object:
        return [part.strip() for part in text.split(",")] if text else []

    def show(self, value: object) -> str:
        return repr((MASK,) * len(value)) if isinstance(value, tuple) else MASK


class _Options(_Kind):
    right = "a mapping of names to values"
    right_as_text = "an object in JSON"

    def accept(self, value: object) -> object:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise _Wrong
        return dict(value)

    def read(self, text: str) -> object:
        import json  # noqa: PLC0415 - few give one as text

        return json.loads(text) if text else {}

    def show(self, value: object) -> str:
        return (
            "{" + ", ".join(f"{name!r}: {MASK}" for name in value) + "}" if isinstance(value, dict) else _shown(value)
        )


class _Policy(_Kind):
    right = "a Reconnect, the name of its policy, or a mapping of its fields"

    @property
    def right_as_text(self) -> str:
        return "a policy and its fields, such as 'fixed' or 'fixed,tries=5,base=1'"

    def accept(self, value: object) -> object:
        if not isinstance(value, (Reconnect, str, Mapping)):
            raise _Wrong
        try:
            return Reconnect.of(value)
        except BadConfig as error:
            raise _Wrong(str(error)) from None

    def show(self, value: object) -> str:
        return repr(value) if isinstance(value, Reconnect) else _shown(value)


_kinds_of: dict[type, dict[str, _Kind]] = {}


def _kinds(cls: type) -> dict[str, _Kind]:
    """Return the fields that can be given, with what each takes. Read from the annotations once."""
    if cls not in _kinds_of:
        _kinds_of[cls] = {
            name: kind
            for name, hint in typing.get_type_hints(cls, include_extras=True).items()
            for kind in getattr(hint, "__metadata__", ())
            if isinstance(kind, _Kind)
        }
    return _kinds_of[cls]


def _bad(label: str, kind: _Kind, value: object, why: _Wrong | None = None, *, text: bool = False) -> BadConfig:
    right = kind.right_as_text if text else kind.right
    rest = f": {why}" if why is not None and why.args else f", not {kind.show(value)}"
    return BadConfig(f"{label} must be {right}{rest}")


def _accepted(label: str, kind: _Kind, value: object) -> object:
    """Return the value as the field shall hold it, or raise `BadConfig` about `label`."""
    try:
        return kind.accept(value)
    except _Wrong as why:
        raise _bad(label, kind, value, why) from None


def _read(label: str, kind: _Kind, text: str) -> object:
    """Return what the text means for the field, or raise `BadConfig` about `label`."""
    text = text.strip()
    try:
        return kind.accept(kind.read(text))
    except _Wrong as why:
        raise _bad(label, kind, text, why, text=True) from None
    except ValueError:
        raise _bad(label, kind, text, text=True) from None


def _unknown(given: object, known: Iterable[str], *, prefix: str = "") -> BadConfig:
    """Make the error for a key that does not exist, with the nearest one that does.

    With a prefix, `given` and the suggestion are names of environment variables.
    """
    guess = str(given).removeprefix(prefix).lower()[:SHOWN_LIMIT]
    spelled = {name: prefix + name.upper() if prefix else name for name in known}
    near = difflib.get_close_matches(guess, spelled, n=1, cutoff=0.5)
    hint = f"did you mean {spelled[near[0]]!r}?" if near else f"choose from {', '.join(spelled.values())}"
    return BadConfig(f"unknown key {_shown(given)}: {hint}")


def _refusing_unknown(cls: type[_T]) -> type[_T]:
    """Make a dataclass raise `BadConfig` for keywords that it does not know.

    The generated `__init__` stays what type checkers, editors and `inspect.signature` see.
    """
    generated: Callable[..., None] = cls.__init__

    @functools.wraps(generated)
    def __init__(self: _T, *args: object, **values: object) -> None:  # noqa: N807
        known = _kinds(cls)
        for name in values:
            if name not in known:
                raise _unknown(name, known)
        generated(self, *args, **values)

    cls.__init__ = __init__  # type: ignore[assignment]
    return cls


def _accept_all(instance: object) -> None:
    for name, kind in _kinds(type(instance)).items():
        object.__setattr__(instance, name, _accepted(name, kind, getattr(instance, name)))


# -- the configuration -----------------------------------------------------------------------------


def _default_workers() -> int:
    # What concurrent.futures takes: enough for tasks that wait, without hundreds of threads on big machines.
    return min(32, (os.cpu_count() or 1) + 4)


@final
@_refusing_unknown
@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to wait between attempts to connect again, and when to give up.

    Wrong or unknown fields raise `BadConfig`.
    """

    policy: Annotated[Literal["exponential", "fixed", "fibonacci"], _Choice("exponential", "fixed", "fibonacci")] = (
        "exponential"
    )
    """How the waiting time grows from one attempt to the next."""

    tries: Annotated[int | None, _Maybe(_Whole(1))] = None
    """Attempts before giving up. None: never give up."""

    base: Annotated[float, _Seconds(above=0)] = 0.1
    """Seconds before the first attempt."""

    cap: Annotated[float, _Seconds(above=0)] = 5.0
    """The longest wait between two attempts, in seconds; not below `base`."""

    jitter: Annotated[bool, _Flag()] = True
    """Whether each wait is made randomly shorter, so that many processes do not come back at once."""

    def __post_init__(self) -> None:
        _accept_all(self)
        if self.cap < self.base:
            raise BadConfig(f"cap must be >= base ({self.base:g}), not {self.cap:g}")

    def delay(self, tries: int) -> float:
        """Seconds to wait after so many tries that failed."""
        steps = Retry(backoff=self.policy, base=self.base, cap=self.cap, jitter=self.jitter)
        return steps.delay(tries + 1)

    @classmethod
    def of(cls, value: Reconnect | str | Mapping[str, Any]) -> Reconnect:
        """Make one from a policy's name, from text such as `fixed,tries=5,base=1`, or from a mapping.

        Raises `BadConfig` for unknown or wrong fields.
        """
        if isinstance(value, Reconnect):
            return value
        known = _kinds(cls)
        if isinstance(value, str):
            policy, *rest = value.split(",")
            pairs = [
                ("policy", policy),
                *((k.strip(), v) for k, _, v in (part.partition("=") for part in rest)),
            ]
        else:
            pairs = list(value.items())
        fields: dict[str, Any] = {}
        for name, given in pairs:
            if name not in known:
                raise _unknown(name, known)
            if name in fields:
                raise BadConfig(f"key {name!r} is given twice")
            fields[name] = _read(name, known[name], given) if isinstance(value, str) else given
        return cls(**fields)


@final
@_refusing_unknown
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Config:
    """Every knob of dingo. Frozen; `replace` makes a changed copy.

    An unknown keyword or a wrong value raises `BadConfig` (a `ValueError`) that names the key, the value
    and what is right. `repr` shows the fields that differ from their defaults, credentials masked.
    """

    workers: Annotated[int, _Whole(1)] = field(default_factory=_default_workers)
    """Threads (or processes, see `pool`) of the default pool, which serves every name without workers of its own."""

    pool: Annotated[Literal["thread", "process"], _Choice("thread", "process")] = "thread"
    """What the default pool of plain functions is made of. A task's own option `pool` goes first."""

    max_pending: Annotated[int | None, _Maybe(_Whole(1))] = None
    """Calls that may wait in this process. None: unlimited locally, 100,000 over a broker."""

    when_full: Annotated[Literal["raise", "wait"], _Choice("raise", "wait")] = "raise"
    """What `call` does when `max_pending` calls wait: raise `QueueFull`, or wait for room."""

    marshal_locally: Annotated[bool, _Flag()] = False
    """Whether local calls go through the marshaller too, so that what fails on the wire fails at the desk."""

    local_results: Annotated[int, _Whole(0)] = 1000
    """Finished local calls, the newest, that `app.result(id)` still finds when nobody holds them."""

    local_results_bytes: Annotated[int, _Whole(0)] = 64 * MIB
    """Bytes that those results may take together."""

    exit_timeout_seconds: Annotated[float, _Seconds(least=0)] = 10.0
    """Seconds that a normal interpreter exit waits for pending local calls."""

    broker: Annotated[str | None, _Maybe(_Url("redis://localhost", words=("local",)))] = None
    """URL of the broker. None or "local": calls stay in this process."""

    backend: Annotated[str | None, _Maybe(_Url("redis://localhost"))] = None
    """URL of the store of results. None: the broker's serves as one."""

    queue: Annotated[str, _QueueName()] = "default"
    """Name of the queue of calls that name no other."""

    queues: Annotated[tuple[str, ...], _Queues()] = ()
    """Queues that a worker serves, the first one first; by weights ("orders=3") each its share. Empty: `queue`."""

    prefetch: Annotated[int | None, _Maybe(_Whole(1))] = None
    """Messages that a worker takes from the broker ahead of running them. None: dingo chooses."""

    keep_result: Annotated[float, _Seconds(above=0)] = 3600.0
    """Seconds that a call and its result are known over a broker after its end."""

    grace_seconds: Annotated[float, _Seconds(least=0)] = 25.0
    """Seconds that a worker told to stop gives the tasks that are running."""

    send_timeout_seconds: Annotated[float, _Seconds(above=0)] = 60.0
    """Seconds after which a call that finds no broker ends FAILURE/NOT_SENT."""

    connect_timeout_seconds: Annotated[float, _Seconds(above=0)] = 5.0
    """Seconds that one attempt to connect may take."""

    transport_options: Annotated[dict[str, Any], _Options()] = field(default_factory=dict, hash=False)
    """Options for kombu's own transports (`sqs://`, `filesystem://` ...), as kombu's documentation says."""

    lease_seconds: Annotated[float, _Seconds(least=3)] = 30.0
    """Seconds without a sign of life after which a worker's calls are given to others; 3 or more."""

    unknown_task_seconds: Annotated[float, _Seconds(least=0)] = 600.0
    """Seconds that a message no worker here can serve is parked before it ends NOT_REGISTERED."""

    reconnect: Annotated[Reconnect, _Policy()] = field(default_factory=Reconnect)
    """How to come back after a lost connection. A policy's name and a mapping are taken as well."""

    signing_keys: Annotated[tuple[str, ...], _Secrets()] = ()
    """Secrets of 32 bytes or more. The first signs messages, all verify them; what is not signed is refused.

    Empty: no signatures.
    """

    accept_pickle: Annotated[bool, _Flag()] = False
    """Whether a worker reads pickled calls from a broker, and a caller pickled reports. Needs `signing_keys`."""

    handle_signals: Annotated[bool, _Flag()] = True
    """Whether `app.run()` reacts to SIGTERM and SIGINT."""

    max_message_bytes: Annotated[int, _Whole(1)] = MIB
    """Bytes that one message may have; larger ones are refused."""

    source: ConfigFile | None = field(default=None, init=False, compare=False)
    """The watched file that this was read from (`from_yaml` with `watch=True`), else None."""

    def __post_init__(self) -> None:
        _accept_all(self)
        if self.accept_pickle and not self.signing_keys:
            raise BadConfig(
                "accept_pickle must be False without signing_keys, not True: whoever reaches the broker could"
                " run any code; set signing_keys"
            )

    def __repr__(self) -> str:
        default = Config()
        changed = [
            f"{name}={kind.show(getattr(self, name))}"
            for name, kind in _kinds(Config).items()
            if getattr(self, name) != getattr(default, name)
        ]
        return f"Config({', '.join(changed)})"

    def replace(self, **changes: Any) -> Config:
        """Return a copy with these fields changed. It stands on its own: its `source` is None.

        Raises `BadConfig` as the constructor does.
        """
        return Config(**{name: getattr(self, name) for name in _kinds(Config)} | changes)

    @classmethod
    def from_env(cls, prefix: str = "DINGO_", environ: Mapping[str, str] | None = None) -> Config:
        """Read a Config from environment variables: `DINGO_WORKERS=4` sets `workers`.

        Booleans are true/false, 1/0, yes/no or on/off; `signing_keys` are separated by commas; an empty
        value means None where a field can be that. `environ` defaults to `os.environ`. A variable with the
        prefix that is no field raises `BadConfig`, and so does a wrong value; those that Kubernetes sets
        for a service called dingo (`DINGO_SERVICE_HOST`, `DINGO_PORT_80_TCP` ...) are passed over.
        """
        kinds = _kinds(cls)
        fields = {prefix + name.upper(): name for name in kinds}
        values: dict[str, Any] = {}
        for variable, text in (os.environ if environ is None else environ).items():
            name = fields.get(variable)
            if name is not None:
                values[name] = _read(variable, kinds[name], text)
            elif variable.startswith(prefix) and not _KUBERNETES.fullmatch(variable):
                raise _unknown(variable, kinds, prefix=prefix)
        try:
            return cls(**values)
        except BadConfig as error:
            raise BadConfig(f"environment variables {prefix}*: {error}") from None

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], watch: bool = False) -> Config:
        """Read a Config from a YAML file: one mapping of field names to values.

        With `watch=True` its `source` is a `ConfigFile`, which re-reads the file when it changes: this
        value stays what it is, `source.current` is the newest and `source.subscribe` tells of each. No
        thread runs before `source.start()`, which an app that uses the Config calls when it opens.

        Needs the extra `dingo-tasks[yaml]`. Raises `BadConfig` with the path, and the line where it is
        known, when the file is missing, empty or no YAML, or a key is unknown, repeated or wrong.
        """
        if watch:
            return ConfigFile(path).current
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib would cost every import of dingo 4 ms
                data = file.read()
        except OSError as error:
            raise _unreadable(path, error) from None
        return _parse(path, data)


# A Kubernetes service called `dingo` or `dingo-web` brings such variables into every pod beside it.
_KUBERNETES = re.compile(
    r"\w+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)?)"
)


# -- YAML ------------------------------------------------------------------------------------------


def _unreadable(path: str | os.PathLike[str], error: OSError) -> BadConfig:
    return BadConfig(f"{os.fspath(path)}: cannot be read: {error.strerror or type(error).__name__}")


def _parse(path: str | os.PathLike[str], data: bytes) -> Config:
    """Make a Config of a YAML file's bytes, or raise `BadConfig`."""
    where = os.fspath(path)
    values: dict[str, Any] = {}
    for name, (line, value) in _load(where, data).items():
        kind = _kinds(Config).get(name)
        try:
            if kind is None:
                raise _unknown(name, _kinds(Config))
            values[name] = _accepted(name, kind, value)
        except BadConfig as error:
            raise BadConfig(f"{where}:{line}: {error}") from None
    try:
        return Config(**values)
    except BadConfig as error:
        raise BadConfig(f"{where}: {error}") from None


def _load(where: str, data: bytes) -> dict[str, tuple[int, object]]:
    """Return the keys of the file's mapping, each with its line and its value, or raise `BadConfig`."""
    try:
        import yaml  # noqa: PLC0415 - an extra, and only files need it
    except ImportError:
        raise BadConfig(
            f"{where}: reading YAML needs PyYAML: install the extra with `pip install 'dingo-tasks[yaml]'`"
        ) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadConfig(f"{where}:{line}: not valid YAML: the file is not UTF-8") from None
    # PyYAML's own texts quote the file, which holds secrets: only their harmless parts are passed on.
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                what = "is empty" if node is None else f"holds a {node.id}"
                raise BadConfig(f"{where}: must be a mapping of keys to values ({{}} for none), but {what}")
            return _pairs(where, yaml, loader, node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}" if mark is not None else ""
        why = ": ".join(_without_quotes(part) for part in (error.context, error.problem) if part)
        raise BadConfig(f"{where}{at}: not valid YAML: {why}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise BadConfig(f"{where}:{line}: not valid YAML: a control character") from None
    except RecursionError:
        raise BadConfig(f"{where}: not valid YAML: nested too deeply") from None


def _pairs(where: str, yaml: Any, loader: Any, node: Any, *, nested: bool = False) -> dict[str, Any]:
    """Return a mapping node's pairs: name to (line, value), or name to value for one inside another."""
    lines: dict[str, int] = {}
    pairs: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise BadConfig(f"{where}:{line}: a key must be a name, not a {key_node.id}")
        name = str(key_node.value)
        if name in lines:
            raise BadConfig(f"{where}:{line}: key {_shown(name)} is given twice, first on line {lines[name]}")
        lines[name] = line
        if isinstance(value_node, yaml.MappingNode) and not nested:
            value: object = _pairs(where, yaml, loader, value_node, nested=True)
        else:
            value = _value(where, yaml, loader, value_node)
        pairs[name] = value if nested else (line, value)
    return pairs


def _value(where: str, yaml: Any, loader: Any, node: Any) -> object:
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, RecursionError):
        raise
    except Exception as error:  # PyYAML lets whatever int(), datetime() ... raise through: `2024-99-99`
        line = node.start_mark.line + 1
        raise BadConfig(f"{where}:{line}: a value cannot be read ({type(error).__name__})") from None


def _without_quotes(text: str) -> str:
    """Blank what PyYAML quotes of the file, but not the names of its tokens or single characters."""
    return re.sub(
        r"'<[\w ]+>'|([\"']).{3,}\1",
        lambda quoted: f"'{MASK}'" if quoted[1] else quoted[0],
        text,
        flags=re.DOTALL,
    )


# -- watching --------------------------------------------------------------------------------------

# File systems give times in steps (4 ms on Linux, 2 s on FAT): a file this young may change again without
# its time changing, so its content is compared too.
SETTLED_NS = 2_000_000_000

_Stamp = tuple[int, int, int]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Snapshot(NamedTuple):
    """A file as it was read once."""

    stamp: _Stamp
    data: bytes
    whole: bool  # it stayed the same while it was read
    settled: bool  # from now on any change shows in the stamp


def _snapshot(path: Path) -> _Snapshot:
    with path.open("rb") as file:
        stamp = _stamp(os.fstat(file.fileno()))
        data = file.read()
        whole = _stamp(os.fstat(file.fileno())) == stamp
    return _Snapshot(stamp, data, whole, settled=time.time_ns() - stamp[0] > SETTLED_NS)


class ConfigFile:
    """A YAML file of configuration that is read again when it changes.

    The constructor reads it and raises `BadConfig` as `Config.from_yaml` does. After that a bad or missing
    file changes nothing: the values before it stay, and `on_error` tells why. Replacing the file by a
    rename is the safe way to change it, as no half-written state can be read. Threads may share it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._shown_path = os.fspath(path)
        from pathlib import Path  # noqa: PLC0415 - only for those who watch a file

        self._path = Path(path).absolute()  # a later chdir changes nothing; a symlink may be pointed elsewhere
        self._polling = threading.RLock()
        self._starting = threading.Lock()
        self._subscribers: list[Callable[[Config], object]] = []
        self._error_subscribers: list[Callable[[BadConfig], object]] = []
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem = ""
        self._seen: _Snapshot | None = None
        try:
            self._seen = _snapshot(self._path)
        except OSError as error:
            raise _unreadable(path, error) from None
        self._current = self._parsed(self._seen.data)

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._path

    @property
    def current(self) -> Config:
        """The newest good configuration. Its `source` is this object."""
        return self._current

    def subscribe(self, fn: Callable[[Config], object]) -> Callable[[], None]:
        """Have `fn(config)` called after each change of the file; return a function that ends it.

        It is called by the thread that polls. What it raises is logged and disturbs nobody else.
        """
        return _added(self._subscribers, fn)

    def on_error(self, fn: Callable[[BadConfig], object]) -> Callable[[], None]:
        """Have `fn(error)` called once for each bad state of the file; return a function that ends it.

        As with `subscribe`, what it raises is logged. With no such function the error itself is logged.
        """
        return _added(self._error_subscribers, fn)

    def poll(self) -> bool:
        """Look at the file once. True: it had changed, was good, and the subscribers have been told.

        The content is read when the time of modification, the size or the inode differ. Raises nothing for
        a bad file: `current` stays, and the error subscribers are told.
        """
        with self._polling:
            seen = self._seen
            try:
                if seen is not None and seen.settled and seen.stamp == _stamp(self._path.stat()):
                    return False
                new = _snapshot(self._path)
            except OSError as error:
                self._lost(_unreadable(self._shown_path, error))
                return False
            if not new.whole:  # somebody is writing: read it again at the next poll
                return False
            self._seen, self._problem = new, ""
            if seen is not None and seen.data == new.data:
                return False
            try:
                config = self._parsed(new.data)
            except BadConfig as error:
                self._tell_error(error)
                return False
            self._current = config
            self._tell(self._subscribers, config)
            return True

    def start(self, interval_seconds: float = 1.0) -> None:
        """Call `poll` every `interval_seconds` in one daemon thread, until `stop`.

        Does nothing when it already runs. Raises `BadConfig` unless the interval is a number above 0.
        """
        interval = _accepted("interval_seconds", _Seconds(above=0), interval_seconds)
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self._halt = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._halt, interval), name="dingo-config", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread that `start` made and wait for it, unless called by a subscriber on it.

        Idempotent; `start` works again afterwards.
        """
        with self._starting:
            thread, self._thread = self._thread, None
            self._halt.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, halt: threading.Event, interval: float) -> None:
        while not halt.wait(interval):
            # Not waiting here lets a subscriber that some other poll() is calling stop this thread.
            if not self._polling.acquire(blocking=False):
                continue
            try:
                self.poll()
            except Exception:
                _log.exception("%s: polling failed; it will be tried again", self._shown_path)
            finally:
                self._polling.release()

    def _parsed(self, data: bytes) -> Config:
        config = _parse(self._shown_path, data)
        object.__setattr__(config, "source", self)
        return config

    def _lost(self, error: BadConfig) -> None:
        self._seen = None
        if str(error) != self._problem:
            self._problem = str(error)
            self._tell_error(error)

    def _tell_error(self, error: BadConfig) -> None:
        if not self._error_subscribers:
            _log.warning("%s (the configuration before it stays)", error)
        self._tell(self._error_subscribers, error)

    def _tell(self, subscribers: list[Callable[[_T], object]], news: _T) -> None:
        for fn in tuple(subscribers):
            try:
                fn(news)
            except Exception:
                _log.exception("%s: a subscriber raised", self._shown_path)


def _added(subscribers: list[Callable[[_T], object]], fn: Callable[[_T], object]) -> Callable[[], None]:
    # Wrapped, so that the same function given twice is called twice and ended one by one.
    def call(news: _T) -> None:
        fn(news)

    def end() -> None:
        if call in subscribers:
            subscribers.remove(call)

    subscribers.append(call)
    return end
