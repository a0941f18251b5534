"""Before a fork: what other threads import is waited for.

Much of dingo is imported when a call first needs it, in whichever thread that is. In the child of a fork that thread is
gone, its import never ends, and who needs that module there would wait for it for ever: CPython renews no lock of a
module after a fork.
"""

from __future__ import annotations

import os
from importlib import _bootstrap
from threading import get_ident
from time import monotonic, sleep

# What dingo imports when it needs it; of anything else it is not ours to hold up a fork.
_PACKAGES = {"dingo", "asyncio", "cloudpickle", "janus", "typeguard"}
# Longer than an import takes. There is an end because who forks may hold what an import waits for.
_MOST_SECONDS = 5.0


def _is_imported_elsewhere() -> bool:
    """Whether another thread is in the middle of an import."""
    locks = _bootstrap._module_locks  # type: ignore[attr-defined]  # nothing public tells what is being imported
    for name, reference in list(locks.items()):
        if name.partition(".")[0] in _PACKAGES:
            lock = reference()
            if lock is not None and lock.owner not in (None, get_ident()):
                return True
    return False


def _await_imports() -> None:
    until = monotonic() + _MOST_SECONDS
    while _is_imported_elsewhere() and monotonic() < until:
        sleep(0.001)


os.register_at_fork(before=_await_imports)
