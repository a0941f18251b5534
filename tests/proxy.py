"""A TCP proxy that can become a black hole: connections stay open, and nothing comes through any more."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading


class Proxy:
    """Forwards connections to a port of this machine. One thread does it all."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: dict[socket.socket, socket.socket] = {}
        self._held = False
        self._doing = threading.Lock()
        self._hears, self._tells = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._forward_all, name="proxy", daemon=True)
        self._thread.start()

    def url(self, url: str) -> str:
        """The URL of the target, by way of this proxy."""
        assert str(self._target) in url
        return url.replace(f":{self._target}", f":{self.port}")

    def hold(self) -> None:
        """Let nothing through from now on, and tell nobody."""
        with self._doing:
            self._held = True

    def open(self) -> None:
        """Let everything through again, what was held first."""
        with self._doing:
            self._held = False
        self._tells.send(b"!")

    def cut(self) -> int:
        """Reset all connections; how many there were."""
        with self._doing:
            for one in self._peers:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            count = len(self._peers) // 2
            for one in list(self._peers):
                self._drop(one)
        self._tells.send(b"!")
        return count

    def close(self) -> None:
        """Reset everything and end."""
        self._ended = True
        self.cut()
        self._thread.join(10)
        for one in (self._listener, self._hears, self._tells):
            one.close()

    def _forward_all(self) -> None:
        while not self._ended:
            with self._doing:
                watched = [self._listener, self._hears, *(() if self._held else self._peers)]
            try:
                ready, _, _ = select.select(watched, [], [], 0.05)
            except (OSError, ValueError):  # one of them was cut meanwhile
                continue
            with self._doing:
                for one in ready:
                    if one is self._hears:
                        self._hears.recv(100)
                    elif one is self._listener:
                        self._accept()
                    elif one in self._peers and not self._held:
                        self._forward(one)

    def _accept(self) -> None:
        one, _ = self._listener.accept()
        try:
            other = socket.create_connection(("127.0.0.1", self._target), 5)
        except OSError:
            one.close()
            return
        self._peers[one], self._peers[other] = other, one

    def _forward(self, one: socket.socket) -> None:
        try:
            data = one.recv(1 << 16)
            if data:
                self._peers[one].sendall(self._through(one, data))
                return
        except OSError:
            pass
        self._drop(one)

    def _through(self, one: socket.socket, data: bytes) -> bytes:
        """Say what is let through of what came in from one side."""
        del one
        return data

    def _drop(self, one: socket.socket) -> None:
        other = self._peers.pop(one, None)
        if other is not None:
            self._peers.pop(other, None)
            other.close()
        one.close()


class DeafProxy(Proxy):
    """Forwards AMQP, but for answers: a server whose heartbeats go on while what it was asked gets lost."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._swallowed: set[tuple[int, int]] | None = set()
        self._rests: dict[socket.socket, bytes] = {}

    def swallow(self, *methods: tuple[int, int]) -> None:
        """Let these methods of the server's be lost from now on; none given: all."""
        with self._doing:
            self._swallowed = set(methods) or None

    def open(self) -> None:
        """Let everything through again; what was swallowed is lost."""
        with self._doing:
            self._swallowed = set()
        super().open()

    def _through(self, one: socket.socket, data: bytes) -> bytes:
        if one.getpeername()[1] != self._target:
            return data
        data = self._rests.pop(one, b"") + data
        passed, at = b"", 0
        while len(data) - at >= 8:
            end = at + 8 + int.from_bytes(data[at + 3 : at + 7])
            if end > len(data):
                break
            if not self._is_lost(data[at:end]):
                passed += data[at:end]
            at = end
        self._rests[one] = data[at:]
        return passed

    def _is_lost(self, frame: bytes) -> bool:
        if frame[0] == 8:
            return False
        if self._swallowed is None:
            return True
        return frame[0] == 1 and (int.from_bytes(frame[7:9]), int.from_bytes(frame[9:11])) in self._swallowed
