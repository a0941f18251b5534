"""The properties of messages, to bytes and back: id, name, reply address, and headers of our own."""

from __future__ import annotations

from typing import Any

from amqp.serialization import dumps, loads  # type: ignore[import-untyped, unused-ignore]

STARTS, SUSPECT, DUE, SERIAL = "x-dingo-starts", "x-dingo-suspect", "x-dingo-due", "x-dingo-serial"
_ID, _NAME = "x-dingo-id", "x-dingo-name"

# Flag and size of each property, in their order; None: a short text, -1: a table.
_LAYOUT = (
    (15, None), (14, None), (13, -1), (12, 1), (11, 1), (10, None), (9, None), (8, None), (7, None), (6, 8), (5, None),
)  # fmt: skip


def short(text: str) -> bytes:
    """Write a text of at most 255 bytes."""
    data = text.encode()
    return bytes((len(data),)) + data


def write_properties(id: str = "", name: str = "", reply: str = "", *, expiration: int | None = None,
                     headers: dict[str, Any] | None = None) -> bytes:  # fmt: skip
    """Write the properties of a persistent message. A text too long for its place goes among the headers."""
    if len(id) > 63 and len(id.encode()) > 255:
        id, headers = "", {**(headers or {}), _ID: id}
    if len(name) > 63 and len(name.encode()) > 255:
        name, headers = "", {**(headers or {}), _NAME: name}
    flags, parts = 1 << 12, [b"\x02"]
    if headers:
        flags |= 1 << 13
        parts.insert(0, dumps("F", (headers,)))
    if reply:
        flags |= 1 << 9
        parts.append(short(reply))
    if expiration is not None:
        flags |= 1 << 8
        parts.append(short(str(expiration)))
    if id:
        flags |= 1 << 7
        parts.append(short(id))
    if name:
        flags |= 1 << 5
        parts.append(short(name))
    return flags.to_bytes(2) + b"".join(parts)


def read_properties(flags: int, data: bytes) -> tuple[str, str, str, dict[str, Any]]:
    """Return id, name, reply address and headers. Of a message that no dingo has sent, id and name may be ""."""
    at = 0
    texts: dict[int, str] = {}
    headers: dict[str, Any] = {}
    ours = True
    for bit, size in _LAYOUT:
        if not flags >> bit & 1:
            continue
        if size is None:
            end = at + 1 + data[at]
            texts[bit] = data[at + 1 : end].decode(errors="replace")
            at = end
        elif size < 0:
            end = at + 4 + int.from_bytes(data[at : at + 4])
            if b"x-dingo-" in data[at:end]:  # else it is the server's own notes
                try:
                    headers = loads("F", data, at)[0][0]
                except Exception:  # times no calendar has, tables in tables in tables: py-amqp raises whatever it meets
                    ours = False
            at = end
        else:
            at += size
    call_id, name = headers.get(_ID, texts.get(7, "")), headers.get(_NAME, texts.get(5, ""))
    if not (ours and isinstance(call_id, str) and isinstance(name, str)):
        call_id = name = ""
    return call_id, name, texts.get(9, ""), headers
