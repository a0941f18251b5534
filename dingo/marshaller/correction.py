"""From an annotation to the function that corrects a value to it.

A value is corrected where that loses nothing and refused otherwise. Nothing is ever changed in place: the
same object comes back where nothing changes, a new one where something does. What no rule here knows is
judged by typeguard.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import enum
import functools
import math
import numbers
import operator
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, ForwardRef, Literal, TypeAlias

from dingo.marshaller.annotations import (
    Unresolved,
    alias_value,
    is_alias,
    is_anything,
    is_union,
    strip,
    text,
)
from dingo.marshaller.records import Model, Record, model_of, record_of
from dingo.marshaller.scalars import bytes_from_text, timedelta_from_text

# Containers and records inside each other, deeper than this, are refused: a value that refers to itself ends
# here, and so does one that was made to exhaust the stack.
MAX_DEPTH = 64
# How much of a value an error message shows.
REPR_LIMIT = 60
# Corrections kept for reuse; beyond it all are dropped (classes made in a loop must not pile up).
CACHE_LIMIT = 4096

# fix(value, depth=0) -> the corrected value; depth counts the containers around it.
Fix: TypeAlias = Callable[..., Any]


class Mismatch(Exception):
    """A value does not fit its annotation.

    `path` leads to it from the whole ("" for the whole itself, `[2].price`), `expected` names the
    annotation, `got` shows the value (cut), `hint` says more where there is more to say.
    """

    def __init__(self, expected: str, got: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got
        self.path = path
        self.hint = hint

    @classmethod
    def of(cls, annotation: Any, value: Any, *, path: str = "", hint: str = "") -> Mismatch:
        """Make one for a value that is not what the annotation says."""
        return cls(text(annotation), shown(value), path=path, hint=hint)

    def inside(self, step: str) -> Mismatch:
        """Put a step before the path: the value stands inside another one. Returns itself."""
        self.path = step + self.path
        return self

    @property
    def detail(self) -> str:
        """The sentence without the path."""
        return f"expected {self.expected}, got {self.got}" + (f": {self.hint}" if self.hint else "")

    @property
    def place(self) -> str:
        """The path, cut in its middle if it is long."""
        return cut(self.path)

    def __str__(self) -> str:
        return f"at {self.place}: {self.detail}" if self.path else self.detail


def cut(path: str) -> str:
    """Cut a long path in its middle: both ends say most."""
    return path if len(path) <= 2 * REPR_LIMIT else f"{path[:REPR_LIMIT]}...{path[-REPR_LIMIT:]}"


_reprs = reprlib.Repr()
_reprs.maxstring = _reprs.maxother = _reprs.maxlong = REPR_LIMIT
_reprs.maxlevel = 3


def shown(value: Any) -> str:
    """Show a value and its type in little space. Never raises."""
    name = type(value).__name__
    try:
        said = _reprs.repr(value)
    except Exception:  # a broken __repr__ must not hide what the message is about
        said = f"<{name}>"
    if len(said) > REPR_LIMIT:
        said = f"{said[: REPR_LIMIT - 3]}..."
    return said if value is None else f"{said} ({name})"


class Correction:
    """How values are corrected to one annotation.

    `exact`: a value of exactly this type needs no further look (None: there is no such type).
    `fix`: returns the corrected value or raises `Mismatch`; None where everything is accepted.
    """

    __slots__ = ("annotation", "exact", "fix")

    def __init__(self, annotation: Any, exact: type | None, fix: Fix | None) -> None:
        self.annotation = annotation
        self.exact = exact
        self.fix = fix

    def apply(self, value: Any, depth: int = 0) -> Any:
        """Return the value corrected. Raises `Mismatch`."""
        if self.fix is None or type(value) is self.exact:
            return value
        return self.fix(value, depth)

    def __repr__(self) -> str:
        return f"<Correction to {text(self.annotation)}>"


# int | str and str | int are equal and hash alike, yet the order of members matters here: hence the repr.
_cache: dict[tuple[Any, str], Correction] = {}


def correction(annotation: Any) -> Correction:
    """Return the correction to an annotation, one per annotation.

    Raises `Unresolved` for a forward reference: resolve it first.
    """
    try:
        key = (annotation, repr(annotation))
        known = _cache.get(key)
    except TypeError:  # not hashable, as Annotated[int, []]
        return _made(annotation)
    if known is None:
        if len(_cache) >= CACHE_LIMIT:
            _cache.clear()
        known = _cache[key] = _made(annotation)
    return known


def _made(annotation: Any) -> Correction:
    bare = strip(annotation)
    if isinstance(bare, str | ForwardRef):
        raise Unresolved("", text(bare))
    if is_anything(bare):
        return Correction(annotation, None, None)
    for rule in _RULES:
        made = rule(bare)
        if made is not None:
            exact, fix = made
            return Correction(annotation, exact, fix)
    return Correction(annotation, None, _judged_by_typeguard(bare))


# What a rule gives for an annotation that it knows: `exact` and `fix` of the correction.
_Made: TypeAlias = tuple[type | None, Fix]


def _alias(bare: Any) -> _Made | None:
    if not is_alias(bare):
        return None

    # An alias may refer to itself: it is followed when the first value comes.
    def fix(value: Any, depth: int = 0) -> Any:
        return correction(alias_value(bare)).apply(value, depth)

    return None, fix


# -- scalars ---------------------------------------------------------------------------------------


def _fix_int(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    if type(value) is int or type(value) is bool:
        return value
    try:
        return operator.index(value)
    except Exception:  # an array of many elements, a broken __index__: not a whole number by itself
        whole = _whole(value)
    if whole is None:
        raise Mismatch.of(int, value)
    return whole


def _whole(value: Any) -> Any:
    """Return the whole number that a real number equals, None if it equals none."""
    if isinstance(value, numbers.Real) and math.isfinite(value) and value == math.floor(value):
        return math.floor(value)
    return None


def _fix_float(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    if type(value) is float:
        return value
    if not isinstance(value, numbers.Real):
        raise Mismatch.of(float, value)
    try:
        near = float(value)
    except OverflowError:
        near = math.inf
    if near != value and value == value:  # noqa: PLR0124 - NaN differs from itself
        raise Mismatch.of(float, value, hint="no float has exactly this value")
    return near


def _fix_bool(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    cls = type(value)
    if cls is bool:
        return value
    if cls.__module__ == "numpy" and cls.__name__ in {"bool", "bool_"}:
        return bool(value)
    raise Mismatch.of(bool, value)


def _fix_str(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    if isinstance(value, str):
        return str.__str__(value)
    raise Mismatch.of(str, value)


def _fix_bytes(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    if isinstance(value, bytes):
        return value if type(value) is bytes else bytes(memoryview(value))
    return _from_text(bytes, bytes_from_text, value)


def _from_text(annotation: Any, read: Callable[[str], Any], value: Any) -> Any:
    """Read a value from its text."""
    if type(value) is not str:
        raise Mismatch.of(annotation, value)
    try:
        return read(value)
    except (ValueError, ArithmeticError) as error:
        raise Mismatch.of(annotation, value, hint=str(error) if type(error) is ValueError else "") from None


def _text_fixer(cls: type, read: Callable[[str], Any]) -> Fix:
    def fix(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
        return value if isinstance(value, cls) else _from_text(cls, read, value)

    return fix


def _fix_decimal(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    return _from_text(Decimal, Decimal, value)


def _fix_none(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
    if value is None:
        return value
    raise Mismatch.of(None, value)


_SCALARS: dict[Any, Fix] = {
    int: _fix_int,
    float: _fix_float,
    bool: _fix_bool,
    str: _fix_str,
    bytes: _fix_bytes,
    Decimal: _fix_decimal,
    types.NoneType: _fix_none,
    dt.datetime: _text_fixer(dt.datetime, dt.datetime.fromisoformat),
    dt.date: _text_fixer(dt.date, dt.date.fromisoformat),
    dt.time: _text_fixer(dt.time, dt.time.fromisoformat),
    dt.timedelta: _text_fixer(dt.timedelta, timedelta_from_text),
}


def _scalar(bare: Any) -> _Made | None:
    if not isinstance(bare, type) or bare not in _SCALARS:
        return None
    return bare, _SCALARS[bare]


# A class of these modules can only be annotated where the module is imported: dingo need not import it.


def _path(bare: Any) -> _Made | None:
    pathlib = sys.modules.get("pathlib")
    if pathlib is None or not isinstance(bare, type) or not issubclass(bare, pathlib.PurePath):
        return None
    return bare, _text_fixer(bare, bare)


def _uuid(bare: Any) -> _Made | None:
    uuid = sys.modules.get("uuid")
    if uuid is None or bare is not uuid.UUID:
        return None
    return bare, _text_fixer(bare, bare)


# -- choices ---------------------------------------------------------------------------------------


def _union(bare: Any) -> _Made | None:
    if not is_union(bare):
        return None
    members = [correction(each) for each in typing.get_args(bare)]
    others = [each for each in members if strip(each.annotation) is not types.NoneType]
    if len(others) == 1:
        return None, _optional_fixer(bare, others[0])
    return None, _union_fixer(bare, members)


def _optional_fixer(bare: Any, member: Correction) -> Fix:
    exact, inner = member.exact, member.fix
    if inner is None:
        return lambda value, depth=0: value  # noqa: ARG005

    def fix(value: Any, depth: int = 0) -> Any:
        if value is None or type(value) is exact:
            return value
        try:
            return inner(value, depth)
        except Mismatch as mismatch:
            if not mismatch.path:
                mismatch.expected = text(bare)
            raise

    return fix


def _union_fixer(bare: Any, members: list[Correction]) -> Fix:
    exact = frozenset(member.exact for member in members if member.exact is not None)

    def fix(value: Any, depth: int = 0) -> Any:
        if type(value) in exact:
            return value
        corrected: list[Any] = []
        deeper: list[Mismatch] = []
        for member in members:
            try:
                fixed = member.apply(value, depth)
            except Mismatch as mismatch:
                deeper += [mismatch] if mismatch.path else []
                continue
            if fixed is value:
                return value
            corrected.append(fixed)
        if corrected:
            return corrected[0]
        raise deeper[0] if len(deeper) == 1 else Mismatch.of(bare, value)

    return fix


def _literal(bare: Any) -> _Made | None:
    if typing.get_origin(bare) is not Literal:
        return None
    allowed = typing.get_args(bare)
    members = [each for each in allowed if isinstance(each, enum.Enum)]

    def fix(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
        for each in allowed:
            if type(each) is type(value) and each == value:
                return value
        for member in members:
            if type(member.value) is type(value) and member.value == value:
                return member
        raise Mismatch.of(bare, value)

    return None, fix


def _enumeration(bare: Any) -> _Made | None:
    if not isinstance(bare, type) or not issubclass(bare, enum.Enum):
        return None

    def fix(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
        if isinstance(value, bare):
            return value
        try:
            member = bare(value)
        except Exception:  # also what a _missing_ of the class raises
            member = None
        # True would pass for 1.
        if member is None or (type(value) is bool and type(member.value) is not bool):
            raise Mismatch.of(bare, value, hint=_choices(bare))
        return member

    return bare, fix


def _choices(cls: type[enum.Enum]) -> str:
    values = [shown(member.value) for member in cls][:5]
    return f"its values are {', '.join(values)}{', ...' if len(cls) > len(values) else ''}"


# -- records and models ----------------------------------------------------------------------------


def _record(bare: Any) -> _Made | None:
    record = record_of(bare)
    if record is None:
        return None
    if record.type is dict:
        return None, _typed_dict_fixer(bare, record)
    return record.type, _record_fixer(bare, record)


def record_corrections(record: Record) -> Callable[[], dict[str, Correction]]:
    """Return what gives the corrections of a record's fields, made at the first use.

    A record may contain itself, and its types may come to exist later (until then it raises `Unresolved`).
    """
    return functools.cache(lambda: {name: correction(field.annotation) for name, field in record.fields.items()})


def _keys_checked(bare: Any, record: Record, value: Any) -> None:
    """Refuse unknown and missing keys."""
    try:
        fields = record.fields
    except Unresolved as error:
        hint = f"{error.reference!r}, the type of one of its fields, does not exist"
        raise Mismatch.of(bare, value, hint=hint) from error
    for name in value:
        if name not in fields:
            names = ", ".join(map(repr, list(fields)[:8])) or "none"
            raise Mismatch.of(bare, value, hint=f"unknown key {shown_key(name)}, its keys are {names}")
    for name, field in fields.items():
        if field.required and name not in value:
            raise Mismatch.of(bare, value, hint=f"missing {name!r}")


def _fields_fixer(bare: Any, record: Record) -> Callable[[Any, int], dict[str, Any]]:
    """Return what makes the corrected fields of a dict, as a new dict."""
    corrections = record_corrections(record)

    def fields(value: Any, depth: int) -> dict[str, Any]:
        _not_too_deep(bare, value, depth)
        _keys_checked(bare, record, value)
        parts = corrections()
        fixed: dict[str, Any] = {}
        name = ""
        try:
            for name, item in value.items():
                fixed[name] = parts[name].apply(item, depth + 1)
        except Mismatch as mismatch:
            raise mismatch.inside(f".{name}") from None
        return fixed

    return fields


def _typed_dict_fixer(bare: Any, record: Record) -> Fix:
    fields = _fields_fixer(bare, record)

    def fix(value: Any, depth: int = 0) -> Any:
        if not isinstance(value, dict):
            raise Mismatch.of(bare, value)
        fixed = fields(value, depth)
        if all(fixed[name] is item for name, item in value.items()):
            return value
        return _rebuilt(bare, value, dict, fixed)

    return fix


def _record_fixer(bare: Any, record: Record) -> Fix:
    fields = _fields_fixer(bare, record)

    def fix(value: Any, depth: int = 0) -> Any:
        if isinstance(value, record.type):
            return value
        if not isinstance(value, dict):
            raise Mismatch.of(bare, value)
        fixed = fields(value, depth)
        try:
            return record.cls(**fixed)
        except Exception as error:  # the class's own validation
            raise Mismatch.of(bare, value, hint=f"{type(error).__name__}: {error}") from error

    return fix


def _model(bare: Any) -> _Made | None:
    model = model_of(bare)
    if model is None:
        return None

    def fix(value: Any, depth: int = 0) -> Any:
        if isinstance(value, model.cls):
            return value
        if not model.root and not isinstance(value, dict):
            raise Mismatch.of(bare, value)
        _not_too_deep(bare, value, depth)
        return _loaded(bare, model, value)

    return model.cls, fix


def _loaded(bare: Any, model: Model, value: Any) -> Any:
    for key in value if model.keys is not None else ():
        if key not in model.keys:  # type: ignore[operator]
            raise Mismatch.of(bare, value, hint=f"unknown key {shown(key)}")
    try:
        return model.load(value)
    except Exception as error:
        path, why = model.fault(error)
        raise Mismatch.of(bare, value, path=path, hint=why) from error


# -- containers ------------------------------------------------------------------------------------


def _not_too_deep(bare: Any, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Mismatch.of(bare, value, hint=f"nested more than {MAX_DEPTH} deep (or contains itself)")


def _each(values: Iterable[Any], part: Correction, depth: int) -> list[Any] | None:
    """Return the corrected elements, None where all stay as they are."""
    exact, fix = part.exact, part.fix
    if fix is None or (exact is not None and {*map(type, values)} <= {exact}):
        return None
    fixed: list[Any] = []
    changed = False
    try:
        for item in values:
            new = item if type(item) is exact else fix(item, depth + 1)
            changed = changed or new is not item
            fixed.append(new)
    except Mismatch as mismatch:
        raise mismatch.inside(f"[{len(fixed)}]") from None
    return fixed if changed else None


def _rebuilt(bare: Any, value: Any, plain: Callable[[Any], Any], items: Any) -> Any:
    """Build the corrected container. Only a plain one: a subclass may hold more than its elements."""
    if type(value) is not plain:
        hint = f"its elements need correction: pass a plain {plain.__name__}"
        raise Mismatch.of(bare, value, hint=hint)
    return plain(items)


def _sequence_fixer(bare: Any, plain: Any, part: Correction, sources: tuple[type, ...]) -> Fix:
    """Make the fixer of list, tuple[X, ...], deque: of what is ordered."""

    def fix(value: Any, depth: int = 0) -> Any:
        if type(value) not in sources and not isinstance(value, plain):
            raise Mismatch.of(bare, value)
        _not_too_deep(bare, value, depth)
        fixed = _each(value, part, depth)
        if isinstance(value, plain):
            return value if fixed is None else _remade(bare, value, plain, fixed)
        return plain(value if fixed is None else fixed)

    return fix


def _remade(bare: Any, value: Any, plain: Any, fixed: list[Any]) -> Any:
    if type(value) is collections.deque:
        return collections.deque(fixed, value.maxlen)
    return _rebuilt(bare, value, plain, fixed)


def _set_fixer(bare: Any, plain: Any, part: Correction) -> Fix:
    def fix(value: Any, depth: int = 0) -> Any:
        if type(value) is not list and not isinstance(value, plain):
            raise Mismatch.of(bare, value)
        _not_too_deep(bare, value, depth)
        fixed = _each(value, part, depth)
        if isinstance(value, plain):
            if fixed is None:
                return value
            made = _rebuilt(bare, value, plain, _hashed(bare, value, fixed))
        else:
            made = plain(_hashed(bare, value, value if fixed is None else fixed))
        return made

    return fix


def _hashed(bare: Any, value: Any, items: list[Any]) -> set[Any]:
    try:
        unique = set(items)
    except TypeError as error:
        raise Mismatch.of(bare, value, hint=str(error)) from None
    if len(unique) != len(items):
        raise Mismatch.of(bare, value, hint="an element is there twice")
    return unique


def _tuple_fixer(bare: Any, parts: list[Correction]) -> Fix:
    """Make the fixer of a tuple of fixed length."""

    def fix(value: Any, depth: int = 0) -> Any:
        if not isinstance(value, tuple) and type(value) is not list:
            raise Mismatch.of(bare, value)
        if len(value) != len(parts):
            raise Mismatch.of(bare, value, hint=f"{len(parts)} elements, not {len(value)}")
        _not_too_deep(bare, value, depth)
        fixed: list[Any] = []
        try:
            for part, item in zip(parts, value, strict=True):
                fixed.append(part.apply(item, depth + 1))
        except Mismatch as mismatch:
            raise mismatch.inside(f"[{len(fixed)}]") from None
        if not isinstance(value, tuple):
            return tuple(fixed)
        if all(map(operator.is_, fixed, value)):
            return value
        return _rebuilt(bare, value, tuple, fixed)

    return fix


def _mapping_fixer(bare: Any, origin: Any, parts: tuple[Correction, Correction]) -> Fix:
    sources = (dict,) if origin in {collections.OrderedDict, collections.Counter} else ()

    def fix(value: Any, depth: int = 0) -> Any:
        if not isinstance(value, origin) and type(value) not in sources:
            raise Mismatch.of(bare, value)
        _not_too_deep(bare, value, depth)
        names = list(value)
        keys = _each_of(names, names, parts[0], depth, "<key {}>")
        items = _each_of(names, list(value.values()), parts[1], depth, "[{}]")
        if keys is None and items is None:
            return value if isinstance(value, origin) else origin(value)
        if keys is not None:
            _hashed(bare, value, keys)
        pairs = zip(keys or names, value.values() if items is None else items, strict=True)
        return _remapped(bare, value, origin, dict(pairs))

    return fix


def _each_of(names: list[Any], values: list[Any], part: Correction, depth: int, step: str) -> list[Any] | None:
    """Correct the keys or the items of a mapping; the path to what does not fit shows its key."""
    try:
        return _each(values, part, depth)
    except Mismatch as mismatch:
        index, _, rest = mismatch.path[1:].partition("]")
        mismatch.path = f"{step.format(shown_key(names[int(index)]))}{rest}"
        raise


def shown_key(key: Any) -> str:
    """Show a key of a mapping as a step of a path. Never raises."""
    return shown(key).rpartition(" (")[0] or shown(key)


def _remapped(bare: Any, value: Any, origin: Any, fixed: dict[Any, Any]) -> Any:
    if type(value) is collections.defaultdict:
        return collections.defaultdict(value.default_factory, fixed)
    if type(value) is dict and origin in {collections.OrderedDict, collections.Counter}:
        return origin(fixed)
    if type(value) in {collections.OrderedDict, collections.Counter}:
        return type(value)(fixed)
    return _rebuilt(bare, value, dict, fixed)


def _iterable_fixer(bare: Any, origin: Any, part: Correction) -> Fix:
    """Make the fixer of Sequence, Iterable and the like: of any container of the kind."""
    plain, sources = _ABSTRACT[origin]

    def fix(value: Any, depth: int = 0) -> Any:
        if isinstance(value, collections.abc.Iterator) and isinstance(value, origin):
            return value  # its elements cannot be seen without taking them away from the task
        if isinstance(value, origin):
            return _iterated(bare, value, part, depth)
        if type(value) not in sources or plain is None:
            raise Mismatch.of(bare, value)
        made = _iterated(bare, value, part, depth)
        return plain(_hashed(bare, value, made)) if plain is set else plain(made)

    return fix


def _iterated(bare: Any, value: Any, part: Correction, depth: int) -> Any:
    _not_too_deep(bare, value, depth)
    fixed = _each(value, part, depth)
    if fixed is None:
        return value
    if type(value) in {set, frozenset}:
        return type(value)(_hashed(bare, value, fixed))
    if type(value) in {tuple, collections.deque}:
        return _remade(bare, value, type(value), fixed)
    return _rebuilt(bare, value, list, fixed)


# The abstract containers whose elements are looked at: what is made for them, of what.
_ABSTRACT: dict[type, tuple[type | None, tuple[type, ...]]] = {
    collections.abc.Iterable: (None, ()),
    collections.abc.Reversible: (None, ()),
    collections.abc.Collection: (None, ()),
    collections.abc.Sequence: (None, ()),
    collections.abc.MutableSequence: (list, (tuple,)),
    collections.abc.Set: (set, (list,)),
    collections.abc.MutableSet: (set, (list,)),
}
_MAPPINGS = frozenset(
    {
        *(dict, collections.OrderedDict, collections.defaultdict, collections.Counter),
        *(collections.abc.Mapping, collections.abc.MutableMapping),
    }
)


def _container(bare: Any) -> _Made | None:
    origin: Any = typing.get_origin(bare) or bare
    arguments = typing.get_args(bare)
    if not isinstance(origin, type):
        return None
    if origin is tuple:
        return _tuple(bare, arguments)
    if origin in _MAPPINGS:
        return _mapping(bare, origin, arguments)
    part = correction(arguments[0]) if arguments else correction(Any)
    exact = origin if part.fix is None else None  # nothing to be looked at inside
    if origin is list:
        return exact, _sequence_fixer(bare, list, part, (tuple,))
    if origin is collections.deque:
        return exact, _sequence_fixer(bare, collections.deque, part, (list,))
    if origin in {set, frozenset}:
        return exact, _set_fixer(bare, origin, part)
    if origin in _ABSTRACT:
        return None, _iterable_fixer(bare, origin, part)
    return None


def _tuple(bare: Any, arguments: tuple[Any, ...]) -> _Made | None:
    if bare is tuple or bare is typing.Tuple:  # noqa: UP006 - the alias is what a user may have written
        arguments = (Any, ...)
    if any(getattr(each, "__typing_is_unpacked_typevartuple__", False) for each in arguments) or any(
        typing.get_origin(each) is typing.Unpack for each in arguments
    ):
        return None
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        part = correction(arguments[0])
        return tuple if part.fix is None else None, _sequence_fixer(bare, tuple, part, (list,))
    return None, _tuple_fixer(bare, [correction(each) for each in arguments])


def _mapping(bare: Any, origin: type, arguments: tuple[Any, ...]) -> _Made:
    if origin is collections.Counter:
        arguments = (*arguments, int) if arguments else (Any, int)
    key, item = map(correction, arguments or (Any, Any))
    exact = origin if key.fix is None and item.fix is None else None
    return exact, _mapping_fixer(bare, origin, (key, item))


# -- everything else -------------------------------------------------------------------------------


def _class(bare: Any) -> _Made | None:
    """Accept the instances of an ordinary class and nothing else."""
    if not isinstance(bare, type) or getattr(bare, "_is_protocol", False):
        return None

    def fix(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
        if isinstance(value, bare):
            return value
        raise Mismatch.of(bare, value)

    return bare, fix


def _judged_by_typeguard(bare: Any) -> Fix:
    def fix(value: Any, depth: int = 0) -> Any:  # noqa: ARG001
        import typeguard  # noqa: PLC0415 - heavy, and most programs never come here

        try:
            typeguard.check_type(
                value,
                bare,
                forward_ref_policy=typeguard.ForwardRefPolicy.ERROR,
                collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS,
            )
        except typeguard.TypeCheckError as error:
            raise Mismatch.of(bare, value, hint=str(error)) from None
        except Exception as error:  # a judge that breaks has not approved
            raise Mismatch.of(bare, value, hint=f"typeguard cannot judge it: {error}") from error
        return value

    return fix


# In this order: an enum may be an int, a model may be a dataclass, and every one of them is a class.
_RULES: tuple[Callable[[Any], _Made | None], ...] = (
    _alias,
    _scalar,
    _union,
    _literal,
    _enumeration,
    _path,
    _uuid,
    _model,
    _record,
    _container,
    _class,
)
