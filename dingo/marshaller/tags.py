"""How values travel whose type no annotation tells: as an object with one key that begins with `~`.

    (1, 2)          {"~tuple": [1, 2]}
    {1: "a"}        {"~dict": [[1, "a"]]}
    b"x"            {"~bytes": "eA=="}

A user's own dict that looks like this travels as a `~dict` too, so that a tag is always a tag. Tags are
read bottom-up, as the objects of a message are parsed (`object_reader`).
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from dingo.marshaller.scalars import bytes_from_text, bytes_to_text, timedelta_from_text, timedelta_to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARK = "~"
# Which member of a Union a value belongs to, for a form that other members have too.
MEMBER = "~member"
# A message nested deeper than this is refused when it is read. It allows for what stands around an argument.
READ_DEPTH = 64 + 4
# Integers of so many bits travel as hexadecimal text once decimals were refused: Python limits the conversion
# of decimal digits (to 4300, and to no less than 640) because it is slow, and that of hexadecimal ones not.
TEXT_INT_BITS = 640 * 3
# Integers beyond this are not carried (79,000 decimal digits): Python takes seconds to turn one of a megabyte into a
# Decimal, or to compare it with one, and who sends it decides.
INT_BITS = 1 << 18
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})


class Member:
    """A value as read from the wire together with the name of the Union's member that it was."""

    __slots__ = ("label", "tree")
    # It cannot hide in a set or in a key.
    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    def __init__(self, label: str, tree: Any) -> None:
        self.label = label
        self.tree = tree


def is_marked(key: Any) -> bool:
    """Whether a key makes a dict of one key look like a tag."""
    return isinstance(key, str) and key[:1] == MARK


# -- writing ---------------------------------------------------------------------------------------


def moment_text(moment: dt.datetime | dt.time) -> str | None:
    """Write a datetime or a time in ISO 8601; None where that does not say all there is."""
    zone = moment.tzinfo
    if moment.fold or not (zone is None or type(zone) is dt.timezone):
        return None
    # fromisoformat takes an offset of less than a second for UTC.
    return None if zone is not None and zone.utcoffset(None).microseconds else moment.isoformat()


def _moment(moment: dt.datetime | dt.time) -> Any:
    """Write what a tagged datetime or time holds. Raises ValueError for a zone of an unknown kind."""
    said = moment_text(moment)
    if said is not None:
        return said
    return [moment.replace(tzinfo=None).isoformat(), _zone(moment.tzinfo), moment.fold]


def _zone(zone: dt.tzinfo | None) -> str | int | None:
    """Write a zone: by its key, or as an offset in microseconds."""
    if zone is None:
        return None
    if type(zone) is dt.timezone:
        return zone.utcoffset(None) // dt.timedelta.resolution
    key = getattr(zone, "key", None)
    if type(zone).__module__.partition(".")[0] != "zoneinfo" or not isinstance(key, str):
        raise ValueError(f"its time zone is an object of type {type(zone).__name__}")
    return key


def _read_zone(zone: str | int | None) -> dt.tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, int):
        return dt.timezone(dt.timedelta(microseconds=zone))
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - needed by few

    return ZoneInfo(zone)


def _read_moment(payload: Any, read: Callable[[str], Any]) -> Any:
    if isinstance(payload, str):
        return read(payload)
    said, zone, fold = payload
    return read(said).replace(tzinfo=_read_zone(zone), fold=fold)


# What each scalar's tag holds.
SCALAR_TAGS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    bytes: ("~bytes", bytes_to_text),
    dt.datetime: ("~datetime", _moment),
    dt.date: ("~date", dt.date.isoformat),
    dt.time: ("~time", _moment),
    dt.timedelta: ("~timedelta", timedelta_to_text),
    uuid.UUID: ("~uuid", str),
    Decimal: ("~decimal", str),
}
CONTAINER_TAGS: dict[type, str] = {tuple: "~tuple", set: "~set", frozenset: "~frozenset"}


def patched(tree: Any, *, int_bits: int, any_float: bool) -> Any:
    """Return a tree with tags for the scalars that a format cannot write: the slow way, taken when it failed.

    Integers of `int_bits` and more, NaN and the infinities unless `any_float`, lone surrogates. Raises ValueError for
    an integer beyond `INT_BITS`.
    """

    def patch(node: Any) -> Any:
        if isinstance(node, str):
            return node if _is_text(node) else {"~str": bytes_to_text(node.encode("utf-8", "surrogatepass"))}
        if isinstance(node, float):
            return node if any_float or math.isfinite(node) else {"~float": str(float(node))}
        if isinstance(node, int):
            return node if node.bit_length() < int_bits else {"~int": _hex(node)}
        if isinstance(node, list | tuple):
            return [patch(each) for each in node]
        if isinstance(node, dict):
            if all(map(_is_text, node)):
                return {key: patch(each) for key, each in node.items()}
            return {"~dict": [[patch(key), patch(each)] for key, each in node.items()]}
        return node

    return patch(tree)


def _hex(number: int) -> str:
    if number.bit_length() > INT_BITS:
        raise ValueError(f"an integer of {number.bit_length()} bits: {INT_BITS} is the most")
    return hex(number)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- reading ---------------------------------------------------------------------------------------


def _of_type(kind: type, payload: Any) -> Any:
    if type(payload) is not kind:
        raise TypeError(f"{kind.__name__} expected, not {type(payload).__name__}")
    return payload


def _read_text(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda payload: read(_of_type(str, payload))


def _read_set(kind: type) -> Callable[[Any], Any]:
    def read(payload: Any) -> Any:
        made = kind(_of_type(list, payload))
        if len(made) != len(payload):
            raise ValueError("an element is there twice")
        return made

    return read


def _read_dict(payload: Any) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in _of_type(list, payload)]
    return _dict_of(pairs)


def _dict_of(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key is there twice")
    return made


def _read_float(payload: Any) -> float:
    if payload not in {"nan", "inf", "-inf"}:
        raise ValueError("neither NaN nor infinite")
    return float(payload)


def _read_int(payload: Any) -> int:
    if len(_of_type(str, payload)) > INT_BITS // 4 + len("-0x"):
        raise ValueError(f"an integer of more than {INT_BITS} bits")
    return int(payload, 16)


def _read_member(payload: Any) -> Member:
    label, tree = payload
    return Member(_of_type(str, label), tree)


_READERS: dict[str, Callable[[Any], Any]] = {
    "~bytes": _read_text(bytes_from_text),
    "~datetime": lambda payload: _read_moment(payload, dt.datetime.fromisoformat),
    "~date": _read_text(dt.date.fromisoformat),
    "~time": lambda payload: _read_moment(payload, dt.time.fromisoformat),
    "~timedelta": _read_text(timedelta_from_text),
    "~uuid": _read_text(uuid.UUID),
    "~decimal": _read_text(Decimal),
    "~tuple": lambda payload: tuple(_of_type(list, payload)),
    "~set": _read_set(set),
    "~frozenset": _read_set(frozenset),
    "~dict": _read_dict,
    "~float": _read_float,
    "~int": _read_int,
    "~str": _read_text(lambda text: bytes_from_text(text).decode("utf-8", "surrogatepass")),
    MEMBER: _read_member,
}


def read_object(pairs: list[tuple[Any, Any]]) -> Any:
    """Make the value of an object from its pairs: what a tag stands for, or a dict.

    Raises ValueError, TypeError, LookupError or ArithmeticError for what no writer writes: an unknown tag, a
    wrong payload, a key that is there twice.
    """
    if len(pairs) == 1:
        key, payload = pairs[0]
        if is_marked(key):
            reader = _READERS.get(key)
            if reader is None:
                raise ValueError(f"unknown tag {key[:20]!r}")
            return reader(payload)
    return _dict_of(pairs)


def revive(tree: Any) -> Any:
    """Return what a reader would make of a tree that was just written."""
    if isinstance(tree, list):
        return [revive(each) for each in tree]
    if isinstance(tree, dict):
        return read_object([(key, revive(each)) for key, each in tree.items()])
    return tree


def unwrapped(tree: Any) -> Any:
    """Return a value that was read without its `Member` marks: where no Union is, they say nothing."""
    if type(tree) is Member:
        return unwrapped(tree.tree)
    if type(tree) in {list, tuple}:
        return type(tree)(map(unwrapped, tree))
    if type(tree) is dict:
        return {key: unwrapped(each) for key, each in tree.items()}
    return tree


def is_too_deep(tree: Any) -> bool:
    """Whether containers stand inside each other beyond `READ_DEPTH`. Needs no stack of its own."""
    level = [tree]
    for _ in range(READ_DEPTH):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> Iterable[Any]:
    kind = type(node)
    if kind is Member:
        return (node.tree,)
    if kind not in _CONTAINERS:
        return ()
    if kind is dict:
        return [*node.values(), *(key for key in node if type(key) in _CONTAINERS)]
    return node  # type: ignore[no-any-return]
