"""The short ways of the json marshaller: plain arguments and plain results, written and read in one step each.

Most calls and most results are numbers and texts that JSON has and that annotations take as they are. For one
function, these ways write and read just that; at anything else they return None, and the long way is taken, which
also finds out what is wrong. What they write is what the long way would have written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dingo.marshaller.tags import READ_DEPTH
from dingo.message.report import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.marshaller.typed import Plan

_SUCCESS = int(Status.SUCCESS)
_BEGIN = f"[{_SUCCESS},".encode()


class Success(NamedTuple):
    """What a short report says. `seconds`: how long such calls take, where the worker knows."""

    value: Any
    attempt: int
    seconds: float | None


_SECONDS = (float, type(None))
# What is written as it is, whatever reads it.
_PLAIN = frozenset({int, float, str, bool, type(None)})


class ShortWays:
    """The short ways for one function. `dumps` writes a tree as text, `scan` reads one from a text's begin."""

    __slots__ = (
        "_check", "_dumps", "_exact", "_loose", "_loose_return", "_plain", "_plain_return", "_returns", "_scan",
    )  # fmt: skip

    def __init__(self, plan: Plan, dumps: Callable[[Any], str], scan: Callable[[str, int], tuple[Any, int]]) -> None:
        self._dumps = dumps
        self._scan = scan
        self._check = plan.binding.check
        self._plain, self._loose = plan.plain, plan.loose
        self._plain_return, self._loose_return = plan.plain_return, plan.loose_return
        self._exact = plan.binding.returns.exact
        self._returns = plan.binding.returns.apply

    def write_call(self, args: tuple[Any, ...]) -> bytes | None:
        """Write the arguments of a call that has none by name."""
        if not (self._plain or (self._loose and _PLAIN.issuperset(map(type, args)))):
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

    def write_calls(self, several: list[tuple[Any, ...]]) -> bytes | None:
        """Write the arguments of several calls, none of which has any by name."""
        if not (self._plain or (self._loose and all(_PLAIN.issuperset(map(type, args)) for args in several))):
            return None
        try:
            return self._dumps(several).encode()
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def read_calls(self, data: bytes, count: int) -> list[tuple[Any, ...]] | None:
        """Read the arguments of so many calls, corrected."""
        tree = self._read(data)
        if type(tree) is not list or len(tree) != count:
            return None
        check, several = self._check, []
        try:
            for args in tree:
                if type(args) is not list:
                    return None
                checked, named = check(*args)
                if named is not None or len(checked) != len(args):
                    return None
                several.append(checked)
        except Exception:
            return None
        return several

    def write_value(self, value: Any, attempt: int, time: float, seconds: float | None) -> bytes | None:
        """Write the report of a success; `seconds`: how long such calls take, where that is known."""
        if not (self._plain_return or (self._loose_return and type(value) in _PLAIN)):
            return None
        return self._written(value, attempt, time, seconds)

    def write_values(self, values: list[Any], time: float, seconds: float | None) -> bytes | None:
        """Write the report of several successes."""
        if not (self._plain_return or (self._loose_return and _PLAIN.issuperset(map(type, values)))):
            return None
        return self._written(values, 1, time, seconds)

    def _written(self, value: Any, attempt: int, time: float, seconds: float | None) -> bytes | None:
        try:
            took = "" if seconds is None else f",{seconds:.6f}"
            return f"[{_SUCCESS},{self._dumps(value)},null,null,{attempt},{time!r}{took}]".encode()
        except (ValueError, TypeError, OverflowError, RecursionError):
            return None

    def read_value(self, data: bytes) -> Success | None:
        """Read the report of a success, its value corrected."""
        read = self._read_success(data)
        if read is not None and type(read.value) is not self._exact:
            try:
                return read._replace(value=self._returns(read.value))
            except Exception:
                return None
        return read

    def read_values(self, data: bytes, count: int) -> Success | None:
        """Read the report of so many successes: their values, corrected."""
        read = self._read_success(data)
        if read is None or type(read.value) is not list or len(read.value) != count:
            return None
        values, exact, returns = read.value, self._exact, self._returns
        try:
            for index, value in enumerate(values):
                if type(value) is not exact:
                    values[index] = returns(value)
        except Exception:
            return None
        return read

    def _read_success(self, data: bytes) -> Success | None:
        tree = self._read(data) if data.startswith(_BEGIN) else None
        if tree is None or not 6 <= len(tree) <= 7 or tree[2] is not None or tree[3] is not None:
            return None
        attempt, time, seconds = tree[4], tree[5], tree[6] if len(tree) == 7 else None
        if type(attempt) is not int or type(time) is not float or type(seconds) not in _SECONDS:
            return None
        return Success(tree[1], attempt, seconds)

    def _read(self, data: bytes) -> Any:
        if data[:1] != b"[" or b"{" in data or (len(data) > READ_DEPTH and data.count(b"[") > READ_DEPTH):
            return None  # a tag, or it may be nested too deep
        try:
            text = data.decode()
            tree, end = self._scan(text, 0)
        except (ValueError, StopIteration, RecursionError):
            return None
        return tree if end == len(text) else None
