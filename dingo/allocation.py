"""Allocation: the handle on the workers that were started for one name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingo.bridge.local import LocalBridge


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
