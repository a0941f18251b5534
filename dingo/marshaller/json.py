"""The json marshaller: the default, readable everywhere, exact integers, typed by the annotations."""

from __future__ import annotations

import json
from json import encoder as json_encoder
from typing import TYPE_CHECKING, Any, NoReturn

from dingo.marshaller.binding import binding_of
from dingo.marshaller.short import ShortWays
from dingo.marshaller.tags import READ_DEPTH, TEXT_INT_BITS, Member, is_too_deep, patched, read_object
from dingo.marshaller.typed import TypedMarshaller

if TYPE_CHECKING:
    from collections.abc import Callable


class JsonMarshaller(TypedMarshaller):
    """Writes compact JSON in UTF-8 with the standard library.

    NaN, the infinities, integers of thousands of digits and texts with lone surrogates are tagged, so that
    what is written is JSON to every reader.
    """

    key = "json"

    def write(self, tree: Any) -> bytes:
        """Write a tree. Raises ValueError for what JSON does not have, TypeError for an unknown type."""
        return _dumps(tree).encode()

    def patch(self, tree: Any) -> Any:
        """Tag the scalars that JSON does not have."""
        return patched(tree, int_bits=TEXT_INT_BITS, any_float=False)

    def short_ways(self, fn: Callable[..., Any]) -> ShortWays:
        """Return the short ways of a function: for those who carry many of its calls."""
        return ShortWays(self._plan_of(binding_of(fn)), _dumps, _PLAIN.scan_once)  # type: ignore[attr-defined]

    def read(self, data: bytes, *, marked: bool) -> Any:
        """Read a tree. Raises ValueError, or whatever a wrong tag does."""
        text = data.decode()
        decoder = _PLAIN if "{" not in text else _MARKED if marked else _TAGGED
        tree = _loads(decoder, text)
        if len(data) > READ_DEPTH and _may_be_deep(data) and is_too_deep(tree):
            raise ValueError(f"nested more than {READ_DEPTH} deep")
        return tree


def _may_be_deep(data: bytes) -> bool:
    return data.count(b"[") + data.count(b"{") > READ_DEPTH


def _refused(value: Any) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} is no JSON")


def _make_dumps() -> Callable[[Any], str]:
    """Return the C encoder itself where there is one: making it per call costs more than a small call."""
    options: dict[str, Any] = {"ensure_ascii": False, "allow_nan": False, "check_circular": False}
    plain = json.JSONEncoder(separators=(",", ":"), default=_refused, **options)
    make = getattr(json_encoder, "c_make_encoder", None)
    text = getattr(json_encoder, "c_encode_basestring", None)
    if make is None or text is None:
        return plain.encode
    encode = make(None, _refused, text, None, ":", ",", False, False, False)
    join = "".join
    return lambda tree: join(encode(tree, 0))


_dumps = _make_dumps()


def _refused_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _read_unmarked(pairs: list[tuple[str, Any]]) -> Any:
    made = read_object(pairs)
    return made.tree if type(made) is Member else made


_PLAIN = json.JSONDecoder(parse_constant=_refused_constant)
_TAGGED = json.JSONDecoder(parse_constant=_refused_constant, object_pairs_hook=_read_unmarked)
_MARKED = json.JSONDecoder(parse_constant=_refused_constant, object_pairs_hook=read_object)


def _loads(decoder: json.JSONDecoder, text: str) -> Any:
    if text[:1] != "[":  # space before it, or no message at all
        return decoder.decode(text)
    tree, end = decoder.scan_once(text, 0)  # type: ignore[attr-defined]
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise ValueError("more text after the message")
    return tree
