"""Roles: which of an app's parts a component can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.contracts import Consumer, Herald, NamedConsumer, Producer, Reporter, Role, Store
from dingo.errors import AlreadyAttached, BadOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PROTOCOLS: dict[Role, type] = {
    Role.PRODUCER: Producer,
    Role.NAMED_CONSUMER: NamedConsumer,
    Role.CONSUMER: Consumer,
    Role.REPORTER: Reporter,
    Role.STORE: Store,
    Role.HERALD: Herald,
}


def with_roles(taken: Mapping[str, Any], components: Iterable[Any], roles: Iterable[str] | None) -> dict[str, Any]:
    """Return what fills each role when these components are given those they implement (or those of them in `roles`).

    Raises BadOption (no role; an unknown role) and AlreadyAttached.
    """
    wanted = None if roles is None else {_role(one) for one in roles}
    filled = dict(taken)
    for component in components:
        able = [role for role in roles_of(component) if wanted is None or role in wanted]
        if not able:
            limited = "" if wanted is None else f" among {', '.join(sorted(wanted))}"
            raise BadOption(f"{component!r} implements no role{limited}: see dingo.contracts for what each needs")
        for role in able:
            if role in filled:
                raise AlreadyAttached(f"the role {role} is taken by {filled[role]!r}: limit the roles with roles=")
            filled[role] = component
    return filled


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
