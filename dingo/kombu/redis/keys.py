"""How keys, entries and what is kept of a call are written in Redis, for Python; the scripts write them alike."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dingo.contracts import Envelope, ReportEnvelope

_LENGTHS = struct.Struct("!III")
_RECORD = struct.Struct("!II")


@lru_cache(maxsize=1000)
def prefix_of(queue: str) -> str:
    """Return what the keys of a queue begin with."""
    return f"dingo:{{{queue}}}:"


def place_of(token: tuple[bytes, bytes]) -> bytes:
    """Write a claim's stream and entry as the server does."""
    return token[1] + b" " + token[0]


def number_of(entry: bytes) -> tuple[int, ...]:
    """Return an entry's id as something that can be compared."""
    return tuple(map(int, entry.split(b"-")))


def queue_of(key: bytes) -> str:
    """Return the queue of a key that begins with its prefix."""
    return key[7 : key.rindex(b"}:")].decode()


def data_of(envelope: Envelope, frame: bytes) -> bytes:
    """Return what an entry or a delayed call holds: who it is, and its frame."""
    texts = envelope.id.encode(), envelope.name.encode(), envelope.reply.encode()
    return b"".join((_LENGTHS.pack(*map(len, texts)), *texts, frame))


def parse(data: bytes) -> tuple[str, str, str, bytes]:
    """Take id, name, reply and frame out of what `data_of` made. Raises ValueError, struct.error for other things."""
    length, name_length, reply_length = _LENGTHS.unpack_from(data)
    name_at = _LENGTHS.size + length
    reply_at = name_at + name_length
    frame_at = reply_at + reply_length
    if frame_at > len(data):
        raise ValueError("cut")
    texts = data[_LENGTHS.size : name_at], data[name_at:reply_at], data[reply_at:frame_at]
    return texts[0].decode(), texts[1].decode(), texts[2].decode(), data[frame_at:]


def records(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Take apart what is known of the calls of an id, as the scripts write it."""
    at = 0
    while at < len(text):
        length, value_length = _RECORD.unpack_from(text, at)
        value_at = at + _RECORD.size + length
        yield text[at + _RECORD.size : value_at], text[value_at : value_at + value_length]
        at = value_at + value_length


def number_text(number: float | None) -> str:
    """Return a number as the scripts take it; nothing for None."""
    return "" if number is None else repr(number)


def kept_for(report: ReportEnvelope) -> Any:
    """Return for how long a report is kept, as the scripts take it: milliseconds, or nothing."""
    keep = int(report.keep * 1000) if report.final else 0
    return keep if keep > 0 else ""


def report_arguments(report: ReportEnvelope) -> tuple[Any, ...]:
    """Return a report as the scripts take it."""
    return report.reply, report.id, report.name, kept_for(report), report.frame
