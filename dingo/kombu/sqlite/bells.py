"""Bells: how processes that share a file wake each other."""

from __future__ import annotations

import contextlib
import select
import socket
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# A bell may be missed (another user's process, a full socket): look at least so often (seconds).
LOOK = 0.25


class Bell:
    """A datagram socket by which other processes wake the one that waits here."""

    def __init__(self, place: Path, name: str) -> None:
        self._path = place / f"{name}.bell"
        self._address = str(self._path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._socket.bind(self._address)

    def wait(self, seconds: float) -> None:
        """Wait until it rings, or for so many seconds."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        while ready:
            try:
                self._socket.recv(16)
            except BlockingIOError:
                return

    def ring(self) -> None:
        """Wake who waits for it, from another thread."""
        with contextlib.suppress(BlockingIOError):  # rung often enough already
            self._socket.sendto(b"!", self._address)

    def close(self) -> None:
        """Take it down."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class Ringer:
    """Rings other processes' bells."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._address = f"{place}/{{}}.bell".format
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._workers: list[str] = []
        self._looked = 0.0

    def ring(self, name: str) -> None:
        """Ring one bell. Where nobody listens any more, nothing happens."""
        try:
            self._socket.sendto(b"!", self._address(name))
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            return  # gone, or rung often enough already; who waits looks by itself too

    def ring_workers(self) -> None:
        """Ring the bells of all workers."""
        now = monotonic()
        if now - self._looked > 1.0 or not self._workers:
            self._workers = [one.stem for one in self._place.glob("worker-*.bell")]
            self._looked = now
        for name in self._workers:
            self.ring(name)

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()
