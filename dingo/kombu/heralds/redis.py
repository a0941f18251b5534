"""The Herald over Redis: what holds for a time lies in hashes, news go by PUBLISH and are kept nowhere.

dingo:cards, dingo:wishes              key -> bytes
dingo:cards:until, dingo:wishes:until  the keys, scored with the end of their time by the server's clock
dingo:news:DATABASE                    the channel; channels know no databases
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.errors import BrokerUnavailable
from dingo.kombu.redis.scripts import Script
from dingo.kombu.redis.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# How many packs of news are taken at once.
_MOST = 100

_VALID = """
local function valid(what)
  local now = redis.call('TIME')
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', what .. ':until', '-inf', now[1])) do
    redis.call('HDEL', what, key)
    redis.call('ZREM', what .. ':until', key)
  end
  return now[1]
end
"""
_KEEP = Script(
    _VALID
    + """
local what, key, data, seconds = unpack(ARGV)
local now = valid(what)
if seconds == '0' then
  redis.call('HDEL', what, key)
  redis.call('ZREM', what .. ':until', key)
else
  redis.call('HSET', what, key, data)
  redis.call('ZADD', what .. ':until', now + seconds, key)
end
"""
)
_ALL = Script(_VALID + "valid(ARGV[1]) return redis.call('HVALS', ARGV[1])")


class RedisHerald:
    """Carries what workers say of themselves."""

    def __init__(self, url: str, connect_seconds: float) -> None:
        self._server = Server(url, connect_seconds)
        self._channel = f"dingo:news:{self._server.pool.connection_kwargs.get('db', 0)}"
        self._heard: Any = None
        self._process = 0

    def open(self, emit: Callable[..., None]) -> None:
        """Be ready. Connections are made when they are needed."""
        del emit

    def _keep(self, what: str, key: str, data: bytes, seconds: float) -> None:
        self._server.run(_KEEP, [what, key, data, max(0, seconds)])

    def appear(self, owner: str, card: bytes, seconds: float) -> None:
        """Show a worker's card, or take it away."""
        self._keep("dingo:cards", owner, card, seconds)

    def wishes(self) -> list[bytes]:
        """Return what listeners wish to hear."""
        return list(self._server.run(_ALL, ["dingo:wishes"]))

    def tell(self, news: bytes) -> None:
        """Publish news."""
        self._server.do("PUBLISH", self._channel, news)

    def wish(self, listener: str, wish: bytes, seconds: float) -> None:
        """Let workers know what a listener wishes to hear; it listens before they do."""
        if seconds > 0:
            self._listen()
        self._keep("dingo:wishes", listener, wish, seconds)
        if seconds <= 0:
            self._stop()

    def _listen(self) -> Any:
        if self._heard is None or self._process != os.getpid():  # in the child of a fork it is the parent's
            heard = self._server.client.pubsub(ignore_subscribe_messages=True)
            with self._server.errors():
                heard.subscribe(self._channel)
            self._heard, self._process = heard, os.getpid()
        return self._heard

    def hear(self, listener: str, wait: float) -> list[bytes]:
        """Return the news that came since the last time."""
        del listener
        news: list[bytes] = []
        until = monotonic() + wait
        try:
            with self._server.errors():
                while len(news) < _MOST:
                    left = 0.0 if news else until - monotonic()
                    message = self._listen().get_message(timeout=max(0.0, left))
                    if message is not None:
                        news.append(message["data"])
                    elif left <= 0:
                        break
        except BrokerUnavailable:
            self._stop()
            raise
        return news

    def cards(self) -> Iterator[bytes]:
        """Yield the cards that are shown."""
        yield from self._server.run(_ALL, ["dingo:cards"])

    def _stop(self) -> None:
        heard, self._heard = self._heard, None
        if heard is not None and self._process == os.getpid():
            heard.close()

    def close(self) -> None:
        """Close the connections."""
        self._stop()
        self._server.close()
