r"""Frames: the bytes of a task and of a report, the same over every broker.

A task:    header JSON \\n arguments \\n continuation \\n continuation ...
A report:  header JSON \\n the report

The header can be read without knowing the marshaller. Unknown fields of it are ignored, so that newer callers
and older workers understand each other within a version. The arguments contain no newline as such: their length
stands in the header. Several reports travel in one pack, each behind its length. Before a signed frame stands
its seal (`dingo.message.signing`), which begins with a byte that no frame begins with.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NoReturn

from dingo.errors import BadMessage, BadOption
from dingo.message.task import WIRE_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Nobody needs more to say which task is meant and how (bytes); a longer header is not read.
HEADER_LIMIT = 64 * 1024
# As deep as a header may be nested. It allows for what stands around a user's own header, or an option.
HEADER_DEPTH = 64 + 4
# The first byte of a signed frame, and how many come before what was signed.
SIGNED = b"\x01"
SEAL_BYTES = 1 + 8 + 32

_dumps: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_LENGTH = struct.Struct("!I")


def encode(header: dict[str, Any], body: bytes) -> bytes:
    """Put a header and a body together."""
    return _dumps(header).encode() + b"\n" + body


def header_text(fields: dict[str, Any]) -> str:
    """Encode header fields as they stand between the braces, for those who put headers together by hand.

    Raises BadOption for what JSON does not have.
    """
    try:
        return _dumps(fields)[1:-1]
    except (TypeError, ValueError, RecursionError) as error:
        raise BadOption(f"an option or a header that JSON cannot carry: {error}") from None


def quoted(text: str) -> str:
    """Return a text as JSON."""
    # Most ids and names are plain words, and for those this is all there is to do.
    return f'"{text}"' if text.isalnum() and text.isascii() else _dumps(text)


def decode(frame: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a frame apart. Raises BadMessage where it is none, or cannot be read here."""
    end = frame.find(b"\n", 0, HEADER_LIMIT)
    if end < 0:
        raise BadMessage(f"a message of {len(frame)} bytes without a header: it is not dingo's, or was cut")
    try:
        header = _loads(frame[:end].decode())
    except (ValueError, RecursionError):
        raise _unreadable(frame) from None
    if not isinstance(header, dict):
        raise BadMessage("a message whose header is no JSON object")
    version = header.get("v")
    if type(version) is not int:
        raise BadMessage("a message whose header says no version")
    if version > WIRE_VERSION:
        raise NotForUs(f"a message of wire version {version}: this worker reads up to {WIRE_VERSION}", header)
    for key in ("id", "n"):
        if not isinstance(header.get(key), str):
            raise BadMessage(f"a message whose header lacks {key!r}")
    if frame.count(b"[", 0, end) + frame.count(b"{", 0, end) > HEADER_DEPTH and _is_deep(header):
        raise BadMessage(f"a message whose header is nested more than {HEADER_DEPTH} deep")
    return header, frame[end + 1 :]


def _unreadable(frame: bytes) -> BadMessage:
    """Say why what should be a header is none. Raises BadMessage where it is not even that of a signed message."""
    inner = frame[SEAL_BYTES:]
    if frame[:1] == SIGNED != inner[:1]:
        header, _ = decode(inner)
        return NotForUs("a signed message, and here are no signing_keys to read it with", header)
    return BadMessage("a message whose header is no JSON: it is not dingo's, or was changed on its way")


def _is_deep(header: dict[str, Any]) -> bool:
    level: list[Any] = [header]
    for _ in range(HEADER_DEPTH):
        level = [child for node in level for child in (node.values() if type(node) is dict else node)
                 if type(child) in (dict, list)]  # fmt: skip
        if not level:
            return False
    return True


def _refused_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_loads: Callable[[str], Any] = json.JSONDecoder(parse_constant=_refused_constant).decode


class NotForUs(BadMessage):
    """The message is of a newer version, or signed where nobody has a key: another worker may read it.

    `header` is what can be read of it all the same.
    """

    def __init__(self, why: str, header: dict[str, Any]) -> None:
        super().__init__(why)
        self.header = header


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
