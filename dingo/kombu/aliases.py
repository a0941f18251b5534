"""dingo's transports as transports of kombu: `kombu.Connection("dingo+redis://host")`, once `dingo.kombu` is imported.

kombu reads a URL with a plus as transport and rest, so that all of them are its transport "dingo", which looks at the
rest. Importing kombu's registry of transports costs a fifth of a second, which workers over our own components never
need: so the names are entered when it is imported, by whomever.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_REGISTRY = "kombu.transport"
_SCHEMES = ("redis", "rediss", "sqlite", "amqp", "amqps")
_ALIASES = dict.fromkeys(("dingo", *(f"dingo+{one}" for one in _SCHEMES)), "dingo.kombu.transports:Transport")


class _Entering:
    """Loads the registry as it would be without us, then enters our names."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)  # type: ignore[no-any-return]

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.TRANSPORT_ALIASES.update(_ALIASES)
        sys.meta_path[:] = [one for one in sys.meta_path if not isinstance(one, _Waiting)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class _Waiting:
    """Stands in the import system until the registry is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _REGISTRY:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader = _Entering(spec.loader)  # type: ignore[assignment]
        return spec


def enter() -> None:
    """Enter our names into kombu's registry of transports, now or as soon as it is imported. Idempotent."""
    if _REGISTRY in sys.modules:
        importlib.import_module(_REGISTRY).TRANSPORT_ALIASES.update(_ALIASES)  # waits for who is importing it
    elif not any(isinstance(one, _Waiting) for one in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())
