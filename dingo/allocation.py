"""Allocation: the handle on the workers that were started for one name; and in which kind of pool a task runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo.errors import BadOption

if TYPE_CHECKING:
    from dingo.bridge.local import LocalBridge
    from dingo.message.option import Option
    from dingo.registry import Registration


class Allocation:
    """The workers that one `allocate` started for one name."""

    def __init__(self, bridge: LocalBridge, name: str, count: int, share: int, kind: str) -> None:
        self._bridge = bridge
        self._kind = kind
        self._share = share
        self.name = name
        self.count = count

    def __repr__(self) -> str:
        """Name and size."""
        return f"<Allocation {self.name}: {self.count} workers>"

    @property
    def channels(self) -> int:
        """Over how many channels their reports go: one for every `share` workers, one in all for share 0."""
        return 0 if self.count == 0 else 1 if self._share == 0 else -(-self.count // self._share)

    def stop(self) -> None:
        """Let these workers go when they are free. After the last ones the default pool serves the name."""
        count, self.count = self.count, 0
        if count:
            self._bridge.deallocate(self.name, count)

    def resize(self, count: int) -> None:
        """Have `count` workers instead. Raises ValueError for less than 1."""
        check_count("count", count, 1)
        more = count - self.count
        if more > 0:
            self._bridge.allocate(self.name, more, self._kind)
        elif more < 0:
            self._bridge.deallocate(self.name, -more)
        self.count = count


def check_count(what: str, value: object, least: int) -> None:
    """Raise ValueError unless it is a whole number, and not too small."""
    if type(value) is not int or value < least:
        raise ValueError(f"{what} is a whole number from {least}, not {value!r}")


def check_pool(registration: Registration, option: Option) -> None:
    """Raise BadOption for a pool that these options name and a task cannot run in."""
    if option.pool is None or registration.unresolved is not None:
        return
    try:
        pool_kind(registration, option.pool)
    except ValueError as error:
        raise BadOption(str(error)) from None


def pool_kind(registration: Registration, pool: str | None) -> str:
    """Return in which kind of pool a task runs: the one asked for, its own, or what suits it. Raises ValueError."""
    is_async = registration.binding.is_async
    kind = pool or registration.option.pool or ("async" if is_async else "thread")
    if kind not in ("thread", "process", "async"):
        raise ValueError(f'pool is "thread", "process" or "async", not {kind!r}')
    if (kind == "async") != is_async:
        what = "is an async def function" if is_async else "is no async def function"
        raise ValueError(f"task {registration.name!r} {what}: it cannot run in a pool of kind {kind!r}")
    return kind
