"""A network that takes its time: a TCP proxy that hands everything on a fixed time after it came.

    python bench/delay.py TARGET_PORT [--milliseconds 0.5]

Prints the port it listens on. The delay is that of one direction: a question and its answer take twice as long.
What is sent meanwhile is not held up, as on a wire: only time passes. One thread serves all connections, and as the
delay is the same for all, what is under way stands in one line, the oldest first.
"""

import argparse
import contextlib
import select
import socket
import sys
from collections import deque
from time import monotonic

READ = 256 * 1024


class _End:
    """One end of a connection through the proxy, and what it has not yet taken."""

    def __init__(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        self.socket = connection
        self.other = None
        self.backlog = bytearray()
        self.ending = False

    def fileno(self):
        return self.socket.fileno()

    def write(self):
        """Send what it takes now; close it when it has all."""
        with contextlib.suppress(BlockingIOError):
            try:
                sent = self.socket.send(self.backlog)
            except (BrokenPipeError, ConnectionResetError):
                sent = len(self.backlog)
            del self.backlog[:sent]
        if self.ending and not self.backlog:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)


class Proxy:
    """Serves one port by another, `seconds` later."""

    def __init__(self, target, seconds):
        self.target = target
        self.seconds = seconds
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.ends = set()
        self.under_way = deque()

    @property
    def port(self):
        """Where it listens."""
        return self.listener.getsockname()[1]

    def serve(self):
        """Hand on for ever."""
        while True:
            due = self.under_way[0][0] if self.under_way else None
            wait = None if due is None else max(0.0, due - monotonic())
            # select() alone of its kind waits for parts of a millisecond.
            readable, writable, _ = select.select([self.listener, *self.ends], self.under_pressure(), [], wait)
            for end in readable:
                self.accept() if end is self.listener else self.read(end)
            for end in writable:
                end.write()
            self.deliver()

    def under_pressure(self):
        """Find the ends that did not take all at once."""
        return [end.other for end in self.ends if end.other.backlog]

    def accept(self):
        """Connect two ends."""
        near = _End(self.listener.accept()[0])
        far = _End(socket.create_connection(("127.0.0.1", self.target)))
        near.other, far.other = far, near
        self.ends |= {near, far}

    def read(self, end):
        """Take what came and note when it is to arrive; nothing means the end of that direction."""
        try:
            data = end.socket.recv(READ)
        except ConnectionResetError:
            data = b""
        except BlockingIOError:
            return
        if not data:
            self.ends.discard(end)
        self.under_way.append((monotonic() + self.seconds, end.other, data))

    def deliver(self):
        """Hand on what is due."""
        now = monotonic()
        while self.under_way and self.under_way[0][0] <= now:
            _, end, data = self.under_way.popleft()
            end.backlog += data
            end.ending = end.ending or not data
            end.write()


def main():
    parser = argparse.ArgumentParser(description="Delay a TCP server.")
    parser.add_argument("target", type=int, metavar="TARGET_PORT")
    parser.add_argument("--milliseconds", type=float, default=0.5, help="in each direction (default: 0.5)")
    options = parser.parse_args()
    proxy = Proxy(options.target, options.milliseconds / 1000)
    print(proxy.port, flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        proxy.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
