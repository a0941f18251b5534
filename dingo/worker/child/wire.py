"""Wire: frames over a socket. Each is a head of fixed size and a payload of any.

The head says how long the payload is, what kind of frame it is, which call it is about (`number`), and one
number more (`extra`): the function of a call, or how long an answered call ran (ns).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

HEAD = struct.Struct("<QQQB")

# From the parent.
SETUP = 1  # the first frame: what the child needs to know
FUNCTION = 2  # a function, by its number in `extra`
LOAD = 3  # load that function now; answered by LOADED
CALL = 4
FACTS = 5  # answers ASK
LEAVE = 6  # finish what is there, then exit

# From the child: first how a call ended,
VALUE = 10
ERROR = 11
BAD_VALUE = 12  # the value cannot be pickled
BAD_CALL = 13  # the arguments cannot be read

# then what else it has to say.
READY = 20
LOADED = 21
GIVEN = 22  # the numbers of the calls given back, as it was asked to on its pipe
PROGRESS = 23
SAVED = 24
ASK = 25  # what the context of a call says

# kind, number, extra, payload
Frame = tuple[int, int, int, bytearray]

# One read takes up to so many bytes: thousands of small frames. A bigger frame has memory of its own.
_ROOM = 256 * 1024

# A payload up to this size is joined to its head: copying it costs less than a buffer more.
_SMALL = 64 * 1024


def pack(kind: int, number: int = 0, extra: int = 0, payload: bytes = b"") -> tuple[bytes, ...]:
    """Make the buffers of a frame."""
    head = HEAD.pack(len(payload), number, extra, kind)
    return (head + payload,) if len(payload) <= _SMALL else (head, payload)


class Inbox:
    """Takes frames from a socket, blocking or not."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._data = bytearray(_ROOM)
        self._view = memoryview(self._data)
        self._end = 0  # how much of it is read and not yet taken
        self._big: tuple[tuple[int, int, int], bytearray] | None = None
        self._filled = 0  # how much of the big one is there

    def read(self) -> list[Frame]:
        """Read once, and return the frames that are complete (maybe none).

        Raises EOFError at the end, BlockingIOError where nothing is there, OSError.
        """
        if self._big is not None:
            return self._read_big(*self._big)
        count = self._source.recv_into(self._view[self._end :])
        if not count:
            raise EOFError
        self._end += count
        return self._take()

    def _take(self) -> list[Frame]:
        frames: list[Frame] = []
        data, end, start = self._data, self._end, 0
        while end - start >= HEAD.size:
            length, number, extra, kind = HEAD.unpack_from(data, start)
            begin = start + HEAD.size
            stop = begin + length
            if stop > end:
                if length > len(data) - HEAD.size:
                    self._begin_big(length, (kind, number, extra), begin)
                    start = end
                break
            frames.append((kind, number, extra, data[begin:stop]))
            start = stop
        if start:
            rest = end - start
            self._view[:rest] = self._view[start:end]
            self._end = rest
        return frames

    def _begin_big(self, length: int, head: tuple[int, int, int], begin: int) -> None:
        big = bytearray(length)
        self._filled = self._end - begin
        big[: self._filled] = self._view[begin : self._end]
        self._big = head, big

    def _read_big(self, head: tuple[int, int, int], big: bytearray) -> list[Frame]:
        with memoryview(big) as view:
            count = self._source.recv_into(view[self._filled :])
        if not count:
            raise EOFError
        self._filled += count
        if self._filled < len(big):
            return []
        self._big = None
        return [(*head, big)]
