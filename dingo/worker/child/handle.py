"""Handle: the parent's end of one child, from its start to its burial.

A child leads a session and a process group of its own: nothing typed at a terminal reaches it, and what it
has started can be killed with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from dingo.worker.child.cargo import dump
from dingo.worker.child.wire import SETUP, Inbox, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dingo.worker.child.handed import Handed

_PROGRAM = "import sys; sys.path[:] = {path!r}; from dingo.worker.child.serve import main; main({parent}, {recalls})"

# How many buffers one write takes; systems allow 1,024 (IOV_MAX).
_BUFFERS = 512


class Child:
    """One child process and what the pool knows of it. Used by the pool's thread only."""

    def __init__(self, lifespan: bytes | None) -> None:
        """Start it. Raises OSError where the system refuses."""
        self.socket, theirs = socket.socketpair()
        recalls, self._recalls = os.pipe()
        self.socket.setblocking(False)
        os.set_blocking(self._recalls, False)
        try:
            self.process = _start(theirs.fileno(), recalls)
        except BaseException:
            self.socket.close()
            os.close(self._recalls)
            raise
        finally:
            theirs.close()
            os.close(recalls)
        self.pid = self.process.pid
        self.watched = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1
        """Becomes readable when it dies: its socket may live on in a process that it forked."""
        self.inbox = Inbox(self.socket)
        self.line: dict[int, Handed] = {}
        """What was handed to it and is not answered, by number. It runs the first; the rest has not started."""
        self.load = 0.0  # seconds that the line will take, as far as can be told
        self.heard = monotonic()  # when it last answered, or got something to do
        self.known: set[int] = set()  # the functions it was sent
        self.loaded: set[int] = set()  # and has imported
        self.calls = 0  # handed to it in its life
        self.ready = False
        self.loading = False
        self.alone = False  # the last call it was handed is to have it for itself
        self.recalled = False  # it is to give back what has not started
        self.leaving = False  # it gets nothing more
        self.killed = False  # by the pool, for the sake of one call
        self.awaited = False  # its socket is full: the pool waits until it takes more
        self._out: deque[bytes | memoryview] = deque()
        self.send(SETUP, payload=dump(lifespan))

    @property
    def open(self) -> bool:
        """Whether it may be handed a call."""
        return self.ready and not (self.loading or self.recalled or self.leaving or (self.alone and self.line))

    @property
    def unsent(self) -> bool:
        """Whether something is still to be flushed."""
        return bool(self._out)

    def send(self, kind: int, number: int = 0, extra: int = 0, payload: bytes = b"") -> None:
        """Have a frame sent with the next flush."""
        self._out.extend(pack(kind, number, extra, payload))

    def flush(self) -> None:
        """Write as much as its socket takes. What cannot be written because it is dead is dropped."""
        while out := self._out:
            buffers = [out[place] for place in range(min(len(out), _BUFFERS))]
            try:
                sent = self.socket.sendmsg(buffers)
            except BlockingIOError:
                return
            except OSError:
                out.clear()
                return
            for buffer in buffers:
                if sent < len(buffer):
                    out[0] = memoryview(buffer)[sent:]
                    break
                sent -= len(buffer)
                out.popleft()

    def recall(self) -> None:
        """Ask it to give back what it has not started."""
        if not self.recalled:
            self.recalled = True
            with contextlib.suppress(OSError):  # it is dead
                os.write(self._recalls, b"!")

    # -- its end -----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Stop it where it is: after this it answers nothing more."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill it and all it has started, those with a session of their own included (on Linux)."""
        _signal_group(self.pid, signal.SIGSTOP)  # so that it starts no more while they are looked for
        family = tuple(_descendants(self.pid))
        _signal_group(self.pid, signal.SIGKILL)
        for pid in family:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def bury(self) -> str:
        """Wait for its end, which must be near, and say how it ended."""
        _signal_group(self.pid, signal.SIGKILL)  # what it has left behind, before its number is free
        code = self.process.wait()
        self.close()
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    def close(self) -> None:
        """Close what connects it with this process."""
        self.socket.close()
        os.close(self._recalls)
        if self.watched >= 0:
            os.close(self.watched)

    def rss(self) -> int:
        """Return how many bytes of memory it has; 0 where that cannot be told (elsewhere than on Linux)."""
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        return 0


def _start(parent: int, recalls: int) -> subprocess.Popen[bytes]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("a process pool starts Python interpreters, and this program does not know of one")
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    path = [one for one in sys.path if isinstance(one, str)]
    program = _PROGRAM.format(path=path, parent=parent, recalls=recalls)
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, *flags, "-c", program],
        stdin=subprocess.DEVNULL, pass_fds=[parent, recalls], start_new_session=True,
    )  # fmt: skip


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _descendants(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield int(child)
                yield from _descendants(int(child))
