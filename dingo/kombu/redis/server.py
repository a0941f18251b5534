"""A way to one Redis server: its connections, its errors, and whether it can be a broker."""

from __future__ import annotations

import contextlib
import os
import re
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dingo.errors import BadConfig, BrokerUnavailable
from dingo.masking import mask_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dingo.kombu.redis.scripts import Script

SCHEMA_VERSION = 1
OLDEST = (6, 2)

# How long an answer to what does not block, and a connection, may take (seconds).
ANSWER_SECONDS = 15.0
CONNECT_SECONDS = 5.0
# A connection that was not used for so long is looked at before it is used: servers close idle ones (seconds).
IDLE_SECONDS = 10.0


class Server:
    """A way to one server: connections are made when they are needed, and again when they were lost."""

    def __init__(self, url: str, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._shown = mask_url(url)
        try:
            parts = urlsplit(url)
            self._secrets = [one for one in (parts.password, unquote(parts.password or "")) if one]
            int(parts.path.strip("/") or 0)  # the client takes another path for database 0
            self.pool = redis.ConnectionPool.from_url(
                url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=connect_seconds, socket_keepalive=True
            )
        except (ValueError, TypeError):
            raise BadConfig(f"{self._shown!r} is no URL of a Redis server: redis://user:password@host:6379/0") from None
        # Whatever the URL says: answers are bytes in the old form, and nothing is done twice behind our back.
        # A claim that is done again would leave the first one's tasks with nobody.
        self.pool.connection_kwargs.update(decode_responses=False, protocol=2, retry=Retry(NoBackoff(), 0))
        self.client: Any = redis.Redis(connection_pool=self.pool)
        self._greeting = {**self.pool.connection_kwargs, "socket_timeout": connect_seconds}
        self._free: list[tuple[Any, float]] = []  # connections that nobody uses, and since when
        self._process = os.getpid()
        self.started: str | None = None
        """Which start of the server this is, where it may be asked."""

    def open(self, emit: Callable[..., None]) -> None:
        """Look who is there, and whether it can be a broker. Raises BrokerUnavailable, BadConfig."""
        with self.errors():
            self._greet()
            self._inspect(emit)
        version = self.do("HGET", "dingo:meta", "version")
        if version is None:
            self.do("HSETNX", "dingo:meta", "version", SCHEMA_VERSION)
        elif int(version) > SCHEMA_VERSION:
            raise BadConfig(f"{self._shown} was used by a newer dingo (schema {int(version)}): upgrade this one")

    def _greet(self) -> None:
        """Have the first answer, as soon as a connection may take."""
        connection = self.pool.connection_class(**self._greeting)
        try:
            connection.send_command("PING")
            connection.read_response()
        except redis.exceptions.NoPermissionError:
            pass  # an answer all the same
        finally:
            connection.disconnect()

    def _inspect(self, emit: Callable[..., None]) -> None:
        try:
            info = self.client.info()
        except redis.exceptions.NoPermissionError:
            return
        self.started = info.get("run_id")
        numbers = re.findall(r"\d+", str(info.get("redis_version")))
        if numbers and tuple(map(int, numbers[:2])) < OLDEST:
            raise BadConfig(f"{self._shown} is Redis {info.get('redis_version')}: 6.2 or newer is needed")
        if info.get("cluster_enabled"):
            raise BadConfig(f"{self._shown} is a cluster, which cannot be a broker: use a server that is none")
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            text = f"{self._shown} has maxmemory-policy {policy}: when its memory is full, it throws out calls"
            emit(30, "broker.evicts", text, {"policy": policy})

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the client raises into our own, without secrets."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            text = str(error)
            for secret in self._secrets:
                text = text.replace(secret, "***")
            raise BrokerUnavailable(f"{self._shown}: {text}") from None

    def was_started_anew(self) -> bool:
        """Whether it was started since this was last asked, or that cannot be told. Raises BrokerUnavailable."""
        before = self.started
        with self.errors(), contextlib.suppress(redis.exceptions.NoPermissionError):
            self.started = self.client.info("server").get("run_id")
        return self.started is None or self.started != before

    def do(self, *command: Any) -> Any:
        """Carry out one command. Raises BrokerUnavailable."""
        with self.errors():
            (answer,) = self._talk([command])
            if isinstance(answer, redis.ResponseError):
                raise answer
        return answer

    def run(self, script: Script, arguments: Sequence[Any]) -> Any:
        """Carry out a script. Raises BrokerUnavailable."""
        (answer,) = self.run_all(script, [arguments])
        return answer

    def run_all(self, script: Script, several: Sequence[Sequence[Any]]) -> list[Any]:
        """Carry out a script several times, in order, asking for all before the first answer. Raises BrokerUnavailable.

        Those behind one that fails are carried out all the same.
        """
        with self.errors():
            answers = self._talk([("EVALSHA", script.digest, 0, *arguments) for arguments in several])
            for index, answer in enumerate(answers):
                if isinstance(answer, redis.exceptions.NoScriptError):
                    answers[index] = self.do("EVAL", script.text, 0, *several[index])
                elif isinstance(answer, redis.ResponseError):
                    raise answer
        return answers

    def _talk(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Carry out commands on a connection that nobody else uses meanwhile; return answers, and errors among them.

        The client's own way does the same with a good deal around it that nothing here needs, and that would take
        longer than the server does.
        """
        answers: list[Any] = []
        connection = self._connect()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except redis.ResponseError as error:  # an answer too: the connection is as good as before
                    answers.append(error)
        except BaseException:
            self._drop(connection)
            raise
        self._free.append((connection, monotonic()))
        return answers

    def _connect(self) -> Any:
        """Return a connection: the one that was used last, unless the server has closed it meanwhile.

        One that is not connected, connects when it is given a command.
        """
        if self._process != os.getpid():  # in the child of a fork they are the parent's
            self._process, self._free = os.getpid(), []
        try:
            connection, used = self._free.pop()
        except IndexError:
            return self.pool.connection_class(**self.pool.connection_kwargs)
        if monotonic() - used > IDLE_SECONDS and _is_closed(connection):
            connection.disconnect()
        return connection

    def _drop(self, lost: Any) -> None:
        """Close a connection that failed, and those nobody uses: whatever it was has met them too."""
        free, self._free = self._free, []
        for connection in (lost, *(one for one, _ in free)):
            with contextlib.suppress(redis.RedisError, OSError):
                connection.disconnect()

    def close(self) -> None:
        """Close the connections."""
        with contextlib.suppress(redis.RedisError, OSError):
            self.pool.disconnect()
            while self._free:
                self._free.pop()[0].disconnect()


def _is_closed(connection: Any) -> bool:
    """Whether the server has closed a connection on which nothing is asked."""
    try:
        return bool(connection.can_read(0))
    except (redis.RedisError, OSError):
        return True
