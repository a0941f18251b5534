"""Config: every knob, from arguments, the environment or a YAML file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

from dingo.config.fields import accept_all, kinds_of, knob, refusing_unknown, unknown
from dingo.config.kinds import FLAG, OPTIONS, QUEUE_NAME, QUEUES, SECRETS, choice, maybe, seconds, url, whole
from dingo.config.reconnect import RECONNECT, Reconnect
from dingo.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dingo.config.watching import ConfigFile

MIB = 1024 * 1024


def _default_workers() -> int:
    # What concurrent.futures takes: enough for tasks that wait, without hundreds of threads on big machines.
    return min(32, (os.cpu_count() or 1) + 4)


@final
@refusing_unknown
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Config:
    """Every knob of dingo. Frozen; `replace` makes a changed copy.

    An unknown keyword or a wrong value raises `BadConfig` (a `ValueError`) that names the key, the value
    and what is right. `repr` shows the fields that differ from their defaults, credentials masked.
    """

    workers: int = knob(whole(1), make=_default_workers)
    """Threads (or processes, see `pool`) of the default pool, which serves every name without workers of its own."""

    pool: Literal["thread", "process"] = knob(choice("thread", "process"), "thread")
    """What the default pool of plain functions is made of. A task's own option `pool` goes first."""

    max_pending: int | None = knob(maybe(whole(1)), None)
    """Calls that may wait for a worker; over a broker, calls of this process that may not have ended.

    None: unlimited locally, 100,000 over a broker.
    """

    when_full: Literal["raise", "wait"] = knob(choice("raise", "wait"), "raise")
    """What `call` does when `max_pending` calls wait: raise `QueueFull`, or wait for room."""

    marshal_locally: bool = knob(FLAG, False)
    """Whether local calls go through the marshaller too, so that what fails on the wire fails at the desk."""

    local_results: int = knob(whole(0), 1000)
    """Finished local calls, the newest, that `app.result(id)` still finds when nobody holds them."""

    local_results_bytes: int = knob(whole(0), 64 * MIB)
    """Bytes that those results may take together."""

    exit_timeout_seconds: float = knob(seconds(least=0), 10.0)
    """Seconds that a normal interpreter exit waits for pending local calls."""

    broker: str | None = knob(maybe(url("redis://localhost", "local")), None)
    """URL of the broker. None or "local": calls stay in this process."""

    backend: str | None = knob(maybe(url("redis://localhost")), None)
    """URL of the store of results. None: the broker's serves as one."""

    queue: str = knob(QUEUE_NAME, "default")
    """Name of the queue of calls that name no other."""

    queues: tuple[str, ...] = knob(QUEUES, ())
    """Queues that a worker serves, the first one first; by weights ("orders=3") each its share. Empty: `queue`."""

    prefetch: int | None = knob(maybe(whole(1)), None)
    """Messages that a worker takes from the broker ahead of running them. None: dingo chooses."""

    keep_result: float = knob(seconds(above=0), 3600.0)
    """Seconds that a call and its result are known over a broker after its end."""

    grace_seconds: float = knob(seconds(least=0), 25.0)
    """Seconds that a worker told to stop gives the tasks that are running."""

    send_timeout_seconds: float = knob(seconds(above=0), 60.0)
    """Seconds after which a call that finds no broker ends FAILURE/NOT_SENT."""

    connect_timeout_seconds: float = knob(seconds(above=0), 5.0)
    """Seconds that one attempt to connect may take."""

    transport_options: dict[str, Any] = knob(OPTIONS, make=dict, hash=False)
    """Options for kombu's own transports (`sqs://`, `filesystem://` ...), as kombu's documentation says."""

    lease_seconds: float = knob(seconds(least=3), 30.0)
    """Seconds without a sign of life after which a worker's calls are given to others; 3 or more."""

    unknown_task_seconds: float = knob(seconds(least=0), 600.0)
    """Seconds that a message no worker here can serve is parked before it ends NOT_REGISTERED."""

    reconnect: Reconnect = knob(RECONNECT, make=Reconnect)
    """How to come back after a lost connection. A policy's name and a mapping are taken as well."""

    signing_keys: tuple[str, ...] = knob(SECRETS, ())
    """Secrets of 32 bytes or more. The first signs messages, all verify them; what is not signed is refused.

    Empty: no signatures.
    """

    accept_pickle: bool = knob(FLAG, False)
    """Whether a worker reads pickled calls from a broker, and a caller pickled reports. Needs `signing_keys`."""

    handle_signals: bool = knob(FLAG, True)
    """Whether `app.run()` reacts to SIGTERM and SIGINT."""

    max_message_bytes: int = knob(whole(1), MIB)
    """Bytes that one message may have; larger ones are refused."""

    source: ConfigFile | None = field(default=None, init=False, compare=False)
    """The watched file that this was read from (`from_yaml` with `watch=True`), else None."""

    def __post_init__(self) -> None:
        accept_all(self)
        if self.accept_pickle and not self.signing_keys:
            raise BadConfig(
                "accept_pickle must be False without signing_keys, not True: whoever reaches the broker could"
                " run any code; set signing_keys"
            )

    def __repr__(self) -> str:
        default = Config()
        changed = [
            f"{name}={kind.show(getattr(self, name))}"
            for name, kind in kinds_of(Config).items()
            if getattr(self, name) != getattr(default, name)
        ]
        return f"Config({', '.join(changed)})"

    def replace(self, **changes: Any) -> Config:
        """Return a copy with these fields changed. It stands on its own: its `source` is None.

        Raises `BadConfig` as the constructor does.
        """
        return Config(**{name: getattr(self, name) for name in kinds_of(Config)} | changes)

    @classmethod
    def from_env(cls, prefix: str = "DINGO_", environ: Mapping[str, str] | None = None) -> Config:
        """Read a Config from environment variables: `DINGO_WORKERS=4` sets `workers`.

        Booleans are true/false, 1/0, yes/no or on/off; `signing_keys` are separated by commas; an empty
        value means None where a field can be that. `environ` defaults to `os.environ`. A variable with the
        prefix that is no field raises `BadConfig`, and so does a wrong value; those that Kubernetes sets
        for a service called dingo (`DINGO_SERVICE_HOST`, `DINGO_PORT_80_TCP` ...) are passed over.
        """
        kinds = kinds_of(cls)
        fields = {prefix + name.upper(): name for name in kinds}
        values: dict[str, Any] = {}
        for variable, text in (os.environ if environ is None else environ).items():
            name = fields.get(variable)
            if name is not None:
                values[name] = kinds[name].checked_text(variable, text)
            elif variable.startswith(prefix) and not re.fullmatch(_KUBERNETES, variable):
                raise unknown(variable, kinds, prefix=prefix)
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
        from dingo.config import files, watching  # noqa: PLC0415 - only for those who have a file

        return watching.ConfigFile(path).current if watch else files.read(path)


# A Kubernetes service called `dingo` or `dingo-web` brings such variables into every pod beside it.
_KUBERNETES = r"\w+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)?)"
