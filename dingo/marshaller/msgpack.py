"""The msgpack marshaller: as the json one, more compact, with bytes of its own."""

from __future__ import annotations

from typing import Any

from dingo.marshaller.tags import READ_DEPTH, Member, is_too_deep, patched, read_object
from dingo.marshaller.typed import TypedMarshaller

# What msgpack has: from here on integers are tagged.
NATIVE_INT_BITS = 63


class MsgpackMarshaller(TypedMarshaller):
    """Writes MessagePack; needs the extra `dingo-tasks[msgpack]`, ImportError without it.

    Integers beyond 64 bits and texts with lone surrogates are tagged; NaN and the infinities are carried.
    """

    key = "msgpack"
    carries_bytes = True

    def __init__(self) -> None:
        super().__init__()
        try:
            import msgpack  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise ImportError("the msgpack marshaller needs: pip install 'dingo-tasks[msgpack]'") from error
        self._pack = msgpack.packb
        self._unpack = msgpack.unpackb

    def write(self, tree: Any) -> bytes:
        """Write a tree. Raises OverflowError, ValueError or TypeError for what msgpack does not have."""
        packed: bytes = self._pack(tree)
        return packed

    def patch(self, tree: Any) -> Any:
        """Tag the scalars that msgpack does not have."""
        return patched(tree, int_bits=NATIVE_INT_BITS, any_float=True)

    def read(self, data: bytes, *, marked: bool) -> Any:
        """Read a tree. Raises whatever the unpacker or a wrong tag does."""
        tree = self._unpack(data, object_pairs_hook=read_object if marked else _read_unmarked)
        if len(data) > READ_DEPTH and is_too_deep(tree):  # every level takes a byte
            raise ValueError(f"nested more than {READ_DEPTH} deep")
        return tree


def _read_unmarked(pairs: list[tuple[Any, Any]]) -> Any:
    if any(type(key) is not str for key, _ in pairs):
        raise TypeError("a key that is no text")
    made = read_object(pairs)
    return made.tree if type(made) is Member else made
