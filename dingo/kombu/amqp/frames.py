"""AMQP frames, as far as they are written and read here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

HEAD = struct.Struct(">BHI")
METHOD = struct.Struct(">HH")
CONTENT = struct.Struct(">HHQH")
ACK = struct.Struct(">BHIHHQBB")
END = b"\xce"
HEARTBEAT_FRAME = HEAD.pack(8, 0, 0) + END
# "Is this channel to flow?", which it does: any answer says that it lives.
QUESTION = HEAD.pack(1, 1, 5) + METHOD.pack(20, 20) + b"\x01" + END
ANSWER = (20, 21)
DELIVER, RETURNED, CONFIRMED, REFUSED, CHANNEL_CLOSE = (60, 60), (60, 50), (60, 80), (60, 120), (20, 40)


@dataclass(slots=True)
class Message:
    """A message that came in."""

    consumer: str
    tag: int
    redelivered: bool
    body: bytes
    id: str
    name: str
    reply: str
    headers: dict[str, Any]


def closed(channel: int) -> bytes:
    """Agree that a channel is closed."""
    return HEAD.pack(1, channel, 4) + METHOD.pack(20, 41) + END


def reason(data: bytes) -> str:
    """Read why a channel is closed."""
    return data[7 : 7 + data[6]].decode(errors="replace")
