"""For the tests of programs that use dingo: run tasks at the desk, record calls, make a Context.

    with dingo.testing.local(app) as desk:        # no broker; everything goes through its marshaller
        result = remind.options(delay=3600).call("Ada")
        desk.advance(3600)
        assert result.result(timeout=5) == "sent"

    with dingo.testing.record(app) as calls:      # nothing runs
        checkout(basket)
    assert [(call.name, call.args) for call in calls] == [("ship", (17,))]

    assert ship.fn(dingo.testing.context(attempt=3), 17) == "by courier"

In pytest the fixtures `dingo_local` and `dingo_record` do the same for the length of a test:
`desk = dingo_local(app)`.
"""

from __future__ import annotations

from typing import Any

from dingo.testing.desk import Desk, local
from dingo.testing.recording import Call, record
from dingo.worker.context import Context

__all__ = ["Call", "Desk", "context", "local", "record"]

_FIELDS = frozenset({
    "attempt", "cancelled", "deadline", "errors", "eta", "headers", "id", "name", "previous", "queue",
    "retries_left", "state",
})  # fmt: skip


def context(**fields: Any) -> Context:
    """Make a detached Context with these fields, to call a task's function with. Raises TypeError for others."""
    unknown = sorted(set(fields) - _FIELDS)
    if unknown:
        raise TypeError(f"a Context has no field {unknown[0]!r}: it has {', '.join(sorted(_FIELDS))}")
    return Context(**fields)
