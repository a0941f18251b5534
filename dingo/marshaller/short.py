"""The short ways of the json marshaller: plain arguments and plain results, written and read in one step each.

Most calls and most results are numbers and texts that JSON has and that annotations take as they are. For one
function, these ways write and read just that; at anything else they return None, and the long way is taken, which
also finds out what is wrong. What they write is what the long way would have written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.marshaller.tags import READ_DEPTH
from dingo.message.report import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.marshaller.typed import Plan

_SUCCESS = int(Status.SUCCESS)
_BEGIN = f"[{_SUCCESS},".encode()


class ShortWays:
    """The short ways for one function. `dumps` writes a tree as text, `scan` reads one from a text's begin."""

    __slots__ = ("_check", "_dumps", "_exact", "_plain", "_plain_return", "_returns", "_scan")

    def __init__(self, plan: Plan, dumps: Callable[[Any], str], scan: Callable[[str, int], tuple[Any, int]]) -> None:
        self._dumps = dumps
        self._scan = scan
        self._check = plan.binding.check
        self._plain = plan.plain
        self._plain_return = plan.plain_return
        self._exact = plan.binding.returns.exact
        self._returns = plan.binding.returns.apply

    def write_call(self, args: tuple[Any, ...]) -> bytes | None:
        """Write the arguments of a call that has none by name."""
        if not self._plain:
            return None
        try:
            return f"[{self._dumps(args)}]".encode()
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def read_call(self, data: bytes) -> tuple[Any, ...] | None:
        """Read the arguments of a call, corrected."""
        tree = self._read(data)
        if type(tree) is not list or len(tree) != 1 or type(tree[0]) is not list:
            return None
        args = tree[0]
        try:
            checked, named = self._check(*args)
        except Exception:
            return None
        return checked if named is None and len(checked) == len(args) else None

    def write_value(self, value: Any, attempt: int, time: float) -> bytes | None:
        """Write the report of a success."""
        if not self._plain_return:
            return None
        try:
            return f"[{_SUCCESS},{self._dumps(value)},null,null,{attempt},{time!r}]".encode()
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def read_value(self, data: bytes) -> tuple[Any, int, float] | None:
        """Read the report of a success: its value, corrected, its attempt and its time."""
        if not data.startswith(_BEGIN):
            return None
        tree = self._read(data)
        if tree is None or len(tree) != 6:
            return None
        _, value, failure, progress, attempt, time = tree
        if failure is not None or progress is not None or type(attempt) is not int or type(time) is not float:
            return None
        if type(value) is not self._exact:
            try:
                value = self._returns(value)
            except Exception:
                return None
        return value, attempt, time

    def _read(self, data: bytes) -> Any:
        if data[:1] != b"[" or b"{" in data or (len(data) > READ_DEPTH and data.count(b"[") > READ_DEPTH):
            return None  # a tag, or it may be nested too deep
        try:
            text = data.decode()
            tree, end = self._scan(text, 0)
        except (ValueError, StopIteration, RecursionError):
            return None
        return tree if end == len(text) else None
