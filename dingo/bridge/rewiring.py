"""Rewiring: which components an app has been given, for which roles, and the two sides built of them.

no Producer attached    calls run in this process: LocalBridge is both sides
a Producer attached     RemoteCaller sends them; with a Consumer and a Reporter, RemoteWorker runs others'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.contracts import Consumer, Herald, NamedConsumer, Producer, Reporter, Role, Store
from dingo.errors import AlreadyAttached, BadOption

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROTOCOLS: dict[Role, type] = {
    Role.PRODUCER: Producer,
    Role.NAMED_CONSUMER: NamedConsumer,
    Role.CONSUMER: Consumer,
    Role.REPORTER: Reporter,
    Role.STORE: Store,
    Role.HERALD: Herald,
}


class Parts:
    """The attached components by role. A role without one is filled by this process itself."""

    def __init__(self) -> None:
        self._by_role: dict[Role, Any] = {}

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
        wanted = None if roles is None else {_role(one) for one in roles}
        taken = dict(self._by_role)
        for component in components:
            able = [role for role in roles_of(component) if wanted is None or role in wanted]
            if not able:
                limited = "" if wanted is None else f" among {', '.join(sorted(wanted))}"
                raise BadOption(f"{component!r} implements no role{limited}: see dingo.contracts for what each needs")
            for role in able:
                if role in taken:
                    raise AlreadyAttached(f"the role {role} is taken by {taken[role]!r}: limit the roles with roles=")
                taken[role] = component
        self._by_role = taken

    def get(self, role: Role) -> Any:
        """Return the component of a role, or None."""
        return self._by_role.get(role)

    @property
    def consumer(self) -> Any:
        """The consumer of either kind, or None."""
        return self._by_role.get(Role.NAMED_CONSUMER) or self._by_role.get(Role.CONSUMER)

    def without(self, components: Iterable[Any]) -> Parts:
        """Return the same, but for these components."""
        left, gone = Parts(), {id(one) for one in components}
        left._by_role = {role: one for role, one in self._by_role.items() if id(one) not in gone}
        return left

    def all(self) -> list[Any]:
        """Return every component once."""
        return list({id(one): one for one in self._by_role.values()}.values())


def roles_of(component: Any) -> list[Role]:
    """Return the roles a component implements. One that is a NamedConsumer is not a plain Consumer too."""
    if isinstance(component, type):
        return []
    roles = [role for role, protocol in _PROTOCOLS.items() if isinstance(component, protocol)]
    return [role for role in roles if not (role is Role.CONSUMER and Role.NAMED_CONSUMER in roles)]


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise BadOption(f"there is no role {name!r}: roles are {', '.join(Role)}") from None
