"""What each broker can do: the one table that the documentation shows and the tests hold against the code.

What is not in it, every broker can: retries, time limits, expiry, callbacks, progress, at least once.
"""

from __future__ import annotations

import enum
from urllib.parse import urlsplit


class Ability(enum.StrEnum):
    """Something that not every broker can do. Asking one that cannot raises NotAttached, or what is said."""

    FIND = "find"
    """A call can be looked up by its id, from SENT until `keep_result` after its end, and forgotten."""
    CANCEL = "cancel"
    """A call that was sent can be withdrawn or stopped: by the broker, or by workers that are told, for as long as the
    caller lives."""
    LIST = "list"
    """`app.pending()`, `delayed()`, `failed()`, `succeeded()` and `purge()`."""
    LIMITS = "limits"
    """`rate_limit`, `max_concurrency`, `unique` and pausing a queue, over all workers."""
    EVENTS = "events"
    """Events of workers reach listeners in other processes (`dingo events`, `dingo workers`); else nothing comes."""
    PRIORITIES = "priorities"
    """9 first; else all are alike."""
    DELAYS = "delays"
    """Delayed calls cost nothing while they wait, however many; else workers look through them."""
    ONCE = "once"
    """A call sent twice, after a broken connection, counts once; else it may run twice."""
    DEATHS = "deaths"
    """How often a task was running when its worker died is known: POISONED, WORKER_LOST; else it comes again."""


_ALL = frozenset(Ability)
_FAMILIES: dict[str, frozenset[Ability]] = {
    "memory": _ALL,
    "sqlite": _ALL,
    "redis": _ALL,
    "amqp": frozenset({Ability.CANCEL, Ability.EVENTS, Ability.PRIORITIES, Ability.DELAYS, Ability.DEATHS}),
    "filesystem": frozenset({Ability.PRIORITIES}),
}
_SAME = {"rediss": "redis", "amqps": "amqp", "mongodb": "filesystem"}


def abilities(url: str) -> frozenset[Ability]:
    """Return what the broker of a URL can do with itself as backend. Of what only kombu knows: nothing is promised."""
    scheme = urlsplit(url).scheme.removeprefix("dingo+")
    return _FAMILIES.get(_SAME.get(scheme, scheme), frozenset())
