"""Desk: an app taken off its broker for the length of a test, with a clock to advance."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dingo.bridge.rewiring import Parts
from dingo.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dingo.app import App
    from dingo.bridge.local import LocalBridge
    from dingo.config import Config

# How long the end of a test waits for tasks that still run (seconds).
_GRACE = 10.0


class Desk:
    """What `local` gives: the app runs in this process, through its marshallers, by a clock of its own."""

    def __init__(self, app: App) -> None:
        self._app = app

    def advance(self, seconds: float) -> None:
        """Put the clock forward. When it returns, what is due by then is on its way to a worker.

        A retry counts its delay from the failure before it: advance once for each.
        """
        self._app._session.home().timer.advance(seconds)


@contextlib.contextmanager
def detached(app: App, config: Config) -> Iterator[None]:
    """Give the app another session for a while. The one before, and whoever holds it, is left alone."""
    with app._lock:
        before = app.config, app._parts, app._session
        app.config, app._parts = config, Parts()
        app._begin(Session(app))
    try:
        yield
    finally:
        with app._lock:
            app.config, app._parts, session = before
            app._begin(session)


@contextlib.contextmanager
def local(app: App) -> Iterator[Desk]:
    """Run the app in this process for a while: no broker, marshalling on, a clock to advance.

    At the end what is queued runs, and what is delayed ends FAILURE/SHUTDOWN; after an exception nothing more
    is started.
    """
    with detached(app, app.config.replace(marshal_locally=True)):
        bridge = app._session.home()
        drain = False
        try:
            yield Desk(app)
            drain = True
        finally:
            _close(app, bridge, drain=drain)


def _close(app: App, bridge: LocalBridge, *, drain: bool) -> None:
    app._session.refuse_calls()
    bridge.close(_GRACE, drain=drain)
