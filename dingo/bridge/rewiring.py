"""Rewiring: which components an app has been given, for which roles, and the two sides built of them.

no Producer attached    calls run in this process: LocalBridge is both sides
a Producer attached     RemoteCaller sends them; with a Consumer and a Reporter, RemoteWorker runs others'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class Parts:
    """The attached components by role (`dingo.contracts.Role`). A role without one is filled by this process itself."""

    def __init__(self) -> None:
        self._by_role: dict[str, Any] = {}

    def __bool__(self) -> bool:
        """Whether anything is attached."""
        return bool(self._by_role)

    def __repr__(self) -> str:
        """The roles that are filled."""
        return ", ".join(self._by_role)

    def attach(self, components: Iterable[Any], roles: Iterable[str] | None) -> None:
        """Give each component the roles it implements, or those of them in `roles`.

        Raises BadOption (no role; an unknown role) and AlreadyAttached; nothing is changed then.
        """
        from dingo.bridge.roles import with_roles  # noqa: PLC0415 - the contracts, only for those who attach something

        self._by_role = with_roles(self._by_role, components, roles)

    @property
    def producer(self) -> Any:
        """The Producer, or None."""
        return self._by_role.get("producer")

    @property
    def consumer(self) -> Any:
        """The consumer of either kind, or None."""
        return self._by_role.get("named_consumer") or self._by_role.get("consumer")

    @property
    def reporter(self) -> Any:
        """The Reporter, or None."""
        return self._by_role.get("reporter")

    @property
    def store(self) -> Any:
        """The Store, or None."""
        return self._by_role.get("store")

    @property
    def herald(self) -> Any:
        """The Herald, or None."""
        return self._by_role.get("herald")

    @property
    def named(self) -> bool:
        """Whether there is a queue for each task name: a Producer of its own kind says so, or a NamedConsumer."""
        return bool(getattr(self.producer, "named", False)) or "named_consumer" in self._by_role

    def without(self, components: Iterable[Any]) -> Parts:
        """Return the same, but for these components."""
        left, gone = Parts(), {id(one) for one in components}
        left._by_role = {role: one for role, one in self._by_role.items() if id(one) not in gone}
        return left

    def all(self) -> list[Any]:
        """Return every component once."""
        return list({id(one): one for one in self._by_role.values()}.values())
