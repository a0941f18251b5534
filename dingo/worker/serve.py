"""Serving: what `app.run()` and `dingo worker` do until they are told to stop."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from dingo.events import Level, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from dingo.app import App

# How often it looks whether there is anything left to do (seconds).
_LOOK = 0.2

# How long `ready` waits for the fleet to see this worker, which serves already (seconds).
SHOWN = 2.0

_log = logging.getLogger("dingo.worker")


def serve(app: App, queues: tuple[str, ...] = (), *, name: str | None = None, burst: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, until the app is closed, or with `burst` until there is nothing left to do.

    The first signal lets what runs end, for `Config.grace_seconds`; the second does not.
    Returns the exit code: 0 of a graceful end, 1 where the broker was given up. An end by force ends the process
    with 1, here: what it held is given to another worker as soon as the broker notices.
    """
    for module in app.modules:
        importlib.import_module(module)
    name = name or f"{app.name}@{os.uname().nodename}:{os.getpid()}"
    stop, force = threading.Event(), threading.Event()
    # Signals come to the main thread alone: who serves in another ends it by closing the app.
    heeds = app.config.handle_signals and threading.current_thread() is threading.main_thread()
    with _heeding_signals(stop, force) if heeds else contextlib.nullcontext():
        app.start_worker(queues, name)
        app.await_shown(SHOWN)
        where = ",".join(queues or app.config.queues or (app.config.queue,))
        print(f"ready {name} {where}", flush=True)  # noqa: T201 - what scripts wait for
        app.hub.emit(Origin.WORKER, Level.INFO, "worker.ready", f"{name} serves {where}")
        while not stop.wait(_LOOK):
            if app.gave_up or app.closed or (burst and app.idle()):
                break
        gave_up = app.gave_up
        closing = threading.Thread(target=app.close, args=(app.config.grace_seconds,), daemon=True)
        closing.start()
        while closing.is_alive() and not force.is_set():
            closing.join(0.1)
    if force.is_set():
        _end_at_once()
    return 1 if gave_up else 0


def _end_at_once() -> NoReturn:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


@contextlib.contextmanager
def _heeding_signals(stop: threading.Event, force: threading.Event) -> Iterator[None]:
    def handle(number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            force.set()
        else:
            _log.info("%s: ending what runs; once more to end at once", signal.Signals(number).name)
            stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set from Python
