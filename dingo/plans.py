"""Plans: those of an app's tasks, compiled at the first use and anew when something they depend on changes."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from dingo.errors import AppClosed
from dingo.message.option import Option
from dingo.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dingo.bridge.local import LocalBridge
    from dingo.bridge.remote import RemoteCaller
    from dingo.caller.result import Result
    from dingo.components import Components
    from dingo.registry import Registration


class Plans:
    """The plans of one session. Whoever changes them holds the app's lock; `calls` is read without it."""

    def __init__(self, components: Components) -> None:
        self.calls: dict[str, Callable[..., Result[Any]]] = {}
        """What is ready to be called, by name."""
        self._components = components
        self._base: dict[str, Plan] = {}  # those without options on top, by name
        self._all: weakref.WeakSet[Plan] = weakref.WeakSet()

    def get(self, registration: Registration, given: Mapping[str, Any], bridge: LocalBridge | RemoteCaller) -> Plan:
        """Return the plan of a task with options on top.

        Raises BadOption; TypeError where an annotation still cannot be read.
        """
        registration.demand()
        base = self._base.get(registration.name)
        if not given and base is not None and base.registration is registration:
            return base
        self._components.check(Option.of(given, registration.option))
        plan = self.add(Plan(registration, given), bridge)
        if not given:
            self._base[registration.name] = plan
        return plan

    def add(self, plan: Plan, bridge: LocalBridge | RemoteCaller) -> Plan:
        """Compile a plan, now and whenever something changes."""
        plan.compile(bridge, self._components)
        self._all.add(plan)
        return plan

    def ready(self, plan: Plan) -> Callable[..., Result[Any]]:
        """Return the call of a plan without options on top, and have it found by the name from now on."""
        self.calls[plan.name] = plan.call
        return plan.call

    def refresh(self, name: str | None = None) -> None:
        """Compile the plans of one name anew, or all of them: something they depend on has changed."""
        for plan in tuple(self._all):
            if name is None or name in (plan.name, plan.lane):
                plan.compile(plan.bridge, self._components)
                if plan.name in self.calls and self._base.get(plan.name) is plan:
                    self.ready(plan)

    def forget(self, name: str) -> None:
        """Have the next call of a name make a new plan."""
        self.calls.pop(name, None)
        self._base.pop(name, None)

    def forget_all(self) -> None:
        """Have the next call of every name make a new plan; those there are keep what they have."""
        self.calls.clear()
        self._base.clear()
        self._all.clear()

    def refuse(self) -> None:
        """Have every call raise AppClosed from now on."""
        self.calls.clear()
        for plan in tuple(self._all):
            plan.call = _refuse


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise AppClosed
