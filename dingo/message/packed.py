r"""Packed calls: several calls of one task in one message, and their results in one report.

    ids       pack    9f...01p64              members  9f...01p64i0 ... 9f...01p64i63
    task      {..., "k":64, "id":"9f...01p64", ...} \n [[2,3],[4,5], ...]
    report    {..., "id":"9f...01p64", "s":6} \n [6,[5,9, ...],null,null,1,time]

Only plain calls travel so, and only plain successes come back so: whatever else becomes of a member is reported
under its own id, as of any call. So who holds a member's id alone can find the pack, and in it what was its own.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from dingo.errors import BadMessage

# Enough that the broker's part no longer matters, few enough that a lost pack is run again quickly.
MOST = 64
# Larger packs are divided (bytes).
MOST_BYTES = 64 * 1024
# A pack takes about this long to run at most (seconds): so long another worker may be idle beside it.
SECONDS = 0.05

_PACK = re.compile(r"[0-9a-f]{32}p([0-9]{1,4})")
_MEMBER = re.compile(r"([0-9a-f]{32}p([0-9]{1,4}))i([0-9]{1,4})")


class Member(NamedTuple):
    """One call of a pack."""

    pack: str
    number: int


def pack_id(base: str, size: int) -> str:
    """Return the id of a pack."""
    return f"{base}p{size}"


def member_id(pack: str, index: int) -> str:
    """Return the id of one of its calls."""
    return f"{pack}i{index}"


def size_of(call_id: str) -> int:
    """Return how many calls a pack has, by its id; 0: it is no pack."""
    found = _PACK.fullmatch(call_id)
    return 0 if found is None else int(found[1])


def member_of(call_id: str) -> Member | None:
    """Return which call of which pack an id is of."""
    found = _MEMBER.fullmatch(call_id)
    if found is None or int(found[3]) >= int(found[2]):
        return None
    return Member(found[1], int(found[3]))


def member_arguments(body: bytes) -> list[bytes]:
    """Return the arguments of each call of a pack, as they would travel alone. Raises BadMessage."""
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if type(members) is not list or not all(type(args) is list for args in members):
        raise BadMessage("a pack of calls that holds no list of arguments")
    return [_dumps([args]) for args in members]


def member_report(body: bytes, index: int) -> bytes:
    """Return the report of one call out of that of its pack. Raises BadMessage.

    What is no list of values says the same of all: that the pack was refused.
    """
    try:
        status, values, *rest = json.loads(body)
    except (ValueError, TypeError, RecursionError):
        raise BadMessage("a report of a pack that holds none") from None
    if values is None:
        return body
    if type(values) is not list or index >= len(values):
        raise BadMessage("a report of a pack that lacks a value")
    return _dumps([status, values[index], *rest])


def _dumps(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
