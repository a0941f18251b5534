"""Opening: a component whose server may be away when the app is used for the first time."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.contracts import Component

C = TypeVar("C", bound="Component")


class Opening(Generic[C]):
    """Opens a component when it is needed, again and again until that works. Any thread may ask for it."""

    def __init__(self, component: C, emit: Callable[..., None]) -> None:
        self.component = component
        self._emit = emit
        self._lock = threading.Lock()
        self._opened = False

    def __call__(self) -> C:
        """Return the component, open. Raises BrokerUnavailable, BadConfig."""
        if not self._opened:
            with self._lock:
                if not self._opened:
                    self.component.open(self._emit)
                    self._opened = True
        return self.component
