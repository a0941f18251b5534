r"""Frames: the bytes of a task and of a report, the same over every broker.

A task:    header JSON \\n arguments \\n continuation \\n continuation ...
A report:  header JSON \\n the report

The header can be read without knowing the marshaller. Unknown fields of it are ignored, so that newer callers
and older workers understand each other within a version. The arguments contain no newline as such: their length
stands in the header. Several reports travel in one pack, each behind its length.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from dingo.errors import BadMessage
from dingo.message.task import WIRE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Nobody needs more to say which task is meant and how (bytes); a longer header is not read.
HEADER_LIMIT = 64 * 1024

_dumps: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode
_LENGTH = struct.Struct("!I")


def encode(header: dict[str, Any], body: bytes) -> bytes:
    """Put a header and a body together."""
    return _dumps(header).encode() + b"\n" + body


def header_text(fields: dict[str, Any]) -> str:
    """Encode header fields as they stand between the braces, for those who put headers together by hand."""
    return _dumps(fields)[1:-1]


def quoted(text: str) -> str:
    """Return a text as JSON."""
    # Most ids and names are plain words, and for those this is all there is to do.
    return f'"{text}"' if text.isalnum() and text.isascii() else _dumps(text)


def decode(frame: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a frame apart. Raises BadMessage where it is none, or of a version this one cannot read."""
    end = frame.find(b"\n", 0, HEADER_LIMIT)
    if end < 0:
        raise BadMessage(f"a message of {len(frame)} bytes without a header: it is not dingo's, or was cut")
    try:
        header = json.loads(frame[:end])
    except (ValueError, RecursionError):
        raise BadMessage("a message whose header is no JSON: it is not dingo's, or was changed on its way") from None
    if not isinstance(header, dict):
        raise BadMessage("a message whose header is no JSON object")
    version = header.get("v")
    if type(version) is not int:
        raise BadMessage("a message whose header says no version")
    if version > WIRE_VERSION:
        raise UnknownVersion(f"a message of wire version {version}: this worker reads up to {WIRE_VERSION}")
    for key in ("id", "n"):
        if not isinstance(header.get(key), str):
            raise BadMessage(f"a message whose header lacks {key!r}")
    return header, frame[end + 1 :]


class UnknownVersion(BadMessage):
    """The message is of a newer version: another worker may read it."""


def pack(frames: list[bytes]) -> bytes:
    """Put several frames into one."""
    return b"".join(part for frame in frames for part in (_LENGTH.pack(len(frame)), frame))


def unpack(data: bytes) -> Iterator[bytes]:
    """Take a pack apart. Raises BadMessage where it was cut."""
    at = 0
    while at < len(data):
        if at + 4 > len(data):
            raise BadMessage("a pack of reports was cut")
        (length,) = _LENGTH.unpack_from(data, at)
        at += 4
        if at + length > len(data):
            raise BadMessage("a pack of reports was cut")
        yield data[at : at + length]
        at += length
