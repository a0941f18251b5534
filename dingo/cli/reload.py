"""`dingo worker --reload`: a worker process that is started anew when the code changes.

This process watches, and runs no code of the user's: whatever is wrong with that ends the worker only. The worker is
in a session of its own, so that Ctrl-C reaches this process alone, which passes it on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from dingo.cli.says import DONE, WRONG, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# How long changes are gathered, and how often it looks whether the worker lives (milliseconds).
_GATHER, _LOOK = 200, 200


class Worker:
    """The worker process of now."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "dingo", *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(self._command, start_new_session=True)  # noqa: S603 - ourselves again

    def stop(self) -> int:
        """Let it end: what runs has `Config.grace_seconds`. Returns its exit code."""
        self.tell()
        return DONE if self._process is None else self._process.wait()

    def tell(self) -> None:
        """Tell it to end; told twice, it ends at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def ended(self) -> int | None:
        """Return the exit code of one that has ended by itself, once."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            self._process = None
        return code


def watch(argv: Sequence[str]) -> int:
    """Run the command without its `--reload`, again after each change of a Python file here; return its exit code."""
    try:
        import watchfiles  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return say(WRONG, "--reload needs a package that is not installed: pip install 'dingo-tasks[reload]'")
    worker = Worker([one for one in argv if one != "--reload"])
    stop = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            worker.tell()  # the second time: at once
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    here = Path.cwd()
    worker.start()
    for changes in watchfiles.watch(
        here, watch_filter=watchfiles.PythonFilter(), debounce=_GATHER, rust_timeout=_LOOK, yield_on_timeout=True,
        stop_event=stop, raise_interrupt=False,
    ):  # fmt: skip
        code = worker.ended()
        if code == DONE:
            return DONE
        if code is not None:
            say(code, f"the worker ended with exit code {code}; waiting for the next change")
        if changes and not stop.is_set():
            names = sorted({str(Path(path).relative_to(here)) for _, path in changes})
            say(DONE, f"{', '.join(names)} changed: the worker starts anew")
            worker.stop()
            if not stop.is_set():
                worker.start()
    return worker.stop()
