"""What all stores do alike with a batch of reports."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dingo.message.frame import pack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dingo.contracts import ReportEnvelope

# A pack is no larger than this (bytes), unless a single report is.
PACK_BYTES = 1 << 20
# How long a mailbox waits for its caller at least, however short its results are kept (seconds).
MAIL_SECONDS = 3600.0


def packs(reports: Iterable[ReportEnvelope], most: int = PACK_BYTES) -> list[tuple[str, bytes]]:
    """Put reports into packs for their addresses, in order; those that nobody waits for are left out."""
    by_reply: dict[str, list[list[bytes]]] = {}
    sizes: dict[str, int] = {}
    for one in reports:
        if not one.reply:
            continue
        lots = by_reply.setdefault(one.reply, [[]])
        size = len(one.frame) + 4
        if lots[-1] and sizes[one.reply] + size > most:
            lots.append([])
        sizes[one.reply] = size + (sizes[one.reply] if lots[-1] else 0)
        lots[-1].append(one.frame)
    return [(reply, pack(frames)) for reply, lots in by_reply.items() for frames in lots]


def to_keep(reports: Iterable[ReportEnvelope]) -> list[ReportEnvelope]:
    """Return the first final report of each call, if it is to be kept, in one order for all who write."""
    first: dict[tuple[str, str], ReportEnvelope] = {}
    for one in reports:
        if one.final and one.keep > 0:
            first.setdefault((one.id, one.name), one)
    return [first[key] for key in sorted(first)]


def key_of(text: str) -> bytes:
    """Return 16 bytes that stand for an id, a name or an address: every store can have them as a key."""
    return hashlib.blake2b(raw(text), digest_size=16).digest()


def raw(text: str) -> bytes:
    """Return the bytes of any text, also of one that no database takes as text."""
    return text.encode("utf-8", "surrogatepass")


def text_of(data: bytes) -> str:
    """Return the text of those bytes."""
    return data.decode("utf-8", "surrogatepass")
