"""Withdrawals: what this process has cancelled, told to all workers where the broker cannot take a call back.

    caller      Withdrawals  Herald.wish, renewed, until the call's report has come
    worker      WorkerNews   Herald.wishes -> RemoteWorker.heed: stops what runs, and drops what comes

A worker that starts later hears of it before it claims anything. When this process ends, it is soon forgotten: what
still waits then is run, and nobody gets its report.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from dingo.bridge.heralding import WISH_EVERY, WISH_SECONDS, Watch
from dingo.bridge.news import STOPS_MOST, WISH, stop_frame
from dingo.events import Level

if TYPE_CHECKING:
    from dingo.config import Config
    from dingo.contracts import Herald
    from dingo.events import Hub

# How often it looks what was cancelled meanwhile, and who asks (seconds).
LOOK = 0.2


class Withdrawals(Watch):
    """Those of one process. Any thread may add one. It has the Herald for itself."""

    def __init__(self, herald: Herald, hub: Hub, config: Config) -> None:
        super().__init__(herald, hub, config, "dingo-withdrawals")
        self._listener = f"{hub.token}.stops"
        self._lock = threading.Lock()
        self._calls: dict[tuple[str, str], None] = {}
        self._wake = threading.Event()
        self._full = False  # whether there were more than can be told
        self._changed = False
        self._renewed = 0.0
        self._thread.start()

    def add(self, name: str, call_id: str) -> None:
        """Have workers stop a call, or not begin it."""
        with self._lock:
            self._calls[name, call_id] = None
            self._changed = True
            full = len(self._calls) > STOPS_MOST
            if full:
                del self._calls[next(iter(self._calls))]
            tell, self._full = full and not self._full, full
        if tell:
            text = f"more than {STOPS_MOST} cancelled calls have not ended: the oldest of them may run all the same"
            self._emit(Level.WARNING, "cancel.unsure", text)
        self._wake.set()

    def over(self, name: str, call_id: str) -> None:
        """Note that a call has ended, whether it was stopped or not."""
        if not self._calls:
            return
        with self._lock:
            if (name, call_id) in self._calls:
                del self._calls[name, call_id]
                self._changed = True

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._calls or self._changed:
                self._try(self._say)
            else:
                self._wake.wait()
                self._wake.clear()
        if self._changed:
            self._try(self._say)

    def _say(self) -> None:
        with self._lock:
            calls, changed = list(self._calls), self._changed
            self._changed = False
        try:
            if changed or monotonic() - self._renewed > WISH_EVERY:
                self._renewed = monotonic()
                frame = self._seals.put(WISH, stop_frame(calls)) if calls else b""
                self._herald.wish(self._listener, frame, WISH_SECONDS if calls else 0)
            if calls:
                self._herald.hear(self._listener, LOOK)
        except BaseException:
            self._changed = True
            raise

    def close(self, timeout: float) -> None:
        """Tell what was not told, and no more."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout)
        self._herald.close()
