r"""Signing: frames sealed with HMAC-SHA-256, so that only who has a key can make one that is taken.

    unsigned    {"v":1, ...} \n body
    signed      0x01 | key id, 8 bytes | signature, 32 bytes | {"v":1, ...} \n body

The signature covers the exact bytes of the frame, header and body. The first byte tells the two apart, and the
header of a signed frame is as readable as that of any other. Tasks and reports are signed with different keys,
derived from the same secret: one never passes for the other. The key id says which secret it was without giving
it away, so that secrets can be changed one machine after the other. An answer is signed with the key of what it
answers.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from dingo.errors import BadMessage
from dingo.message.frame import SEAL_BYTES, SIGNED

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is signed. Any other kind of message takes a name of its own.
TASK, REPORT = "task", "report"

_KEY_ID_BYTES = SEAL_BYTES - len(SIGNED) - sha256().digest_size


class Seal:
    """Signs the frames of one kind with the first key, and opens those signed with any."""

    __slots__ = ("_first", "_kind", "_macs")

    def __init__(self, keys: Sequence[str], kind: str) -> None:
        self._kind = kind
        self._macs = {_key_id(key): hmac.new(_derived(key, kind), digestmod=sha256) for key in keys}
        self._first = _key_id(keys[0])

    def __repr__(self) -> str:
        """What it signs and by the ids of which keys; never a key."""
        return f"<Seal {self._kind} | {', '.join(id.hex() for id in self._macs)}>"

    def put(self, frame: bytes) -> bytes:
        """Sign a frame with the first key."""
        return self._signed(frame, self._first)

    def answer(self, frame: bytes, to: bytes) -> bytes:
        """Sign a frame with the key that the message `to` is signed with, which its sender has; else with the first."""
        key_id = _key_id_of(to)
        return self._signed(frame, key_id if key_id in self._macs else self._first)

    def _signed(self, frame: bytes, key_id: bytes) -> bytes:
        mac = self._macs[key_id].copy()
        mac.update(frame)
        return SIGNED + key_id + mac.digest() + frame

    def open(self, data: bytes) -> bytes:
        """Return the frame of signed bytes. Raises BadMessage unless one of the keys has signed exactly it."""
        if data[:1] != SIGNED:
            raise BadMessage(f"a {self._kind} that is not signed, and here are signing_keys: set them where it is sent")
        key_id = _key_id_of(data)
        mac = self._macs.get(key_id)
        if mac is None:
            raise BadMessage(
                f"a {self._kind} signed with a key that is not here (key id {key_id.hex()}): a new key is added to "
                "signing_keys everywhere before it is made the first anywhere"
            )
        frame = data[SEAL_BYTES:]
        mac = mac.copy()
        mac.update(frame)
        if not hmac.compare_digest(mac.digest(), data[1 + _KEY_ID_BYTES : SEAL_BYTES]):
            raise BadMessage(f"a {self._kind} with a wrong signature: it was changed on its way, or forged")
        return frame


def unsealed(data: bytes) -> bytes:
    """Return the frame in signed bytes, or unsigned ones as they are, without a look at the signature."""
    return data[SEAL_BYTES:] if data[:1] == SIGNED else data


def _key_id_of(data: bytes) -> bytes:
    return data[1 : 1 + _KEY_ID_BYTES]


def _derived(key: str, purpose: str) -> bytes:
    return hmac.digest(key.encode(), f"dingo 1 {purpose}".encode(), "sha256")


def _key_id(key: str) -> bytes:
    return _derived(key, "key id")[:_KEY_ID_BYTES]
