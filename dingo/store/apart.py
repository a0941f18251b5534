"""What a store that is not where the tasks are says when it is asked about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dingo.errors import NotAttached

if TYPE_CHECKING:
    from dingo.contracts import StoredCall


class Apart:
    """A store that knows only calls that have ended."""

    apart = True

    def cancel(self, id: str, name: str, frame: bytes, keep: float) -> bool | None:
        """Raise NotAttached."""
        del frame, keep
        raise _unable(f"cancel {name} {id}")

    def calls(self, state: str, queue: str | None) -> list[StoredCall]:
        """List the calls that have ended and are kept ("ended"), oldest first. Raises NotAttached for others."""
        if state != "ended":
            raise _unable(f"list {state} calls" + (f" of queue {queue!r}" if queue else ""))
        return self._ended()

    def _ended(self) -> list[StoredCall]:
        raise NotImplementedError


def _unable(what: str) -> NotAttached:
    return NotAttached(
        f"this backend keeps the results of calls that have ended, and cannot {what}: "
        "that needs a broker that is its own backend (redis, sqlite)"
    )
