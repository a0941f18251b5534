"""How values are written as trees of plain JSON types: by their annotation, or tagged where it is silent.

A tree is made of None, bool, int, float, str, list and dict with str keys (and bytes, where the format has
them). Reading needs no annotation but for Unions: tags are resolved by the parser, and the correction makes
of the tree what the annotation says. Whatever would not come back as the same value of the same type is
refused when it is written.
"""

from __future__ import annotations

import collections
import collections.abc
import datetime as dt
import enum
import functools
import pathlib
import types
import typing
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from dingo.marshaller.annotations import (
    Unresolved,
    alias_value,
    is_alias,
    is_anything,
    is_union,
    strip,
    text,
)
from dingo.marshaller.correction import (
    MAX_DEPTH,
    Correction,
    Mismatch,
    correction,
    cut,
    record_corrections,
    shown,
    shown_key,
)
from dingo.marshaller.records import Model, Record, model_of, record_of
from dingo.marshaller.scalars import bytes_to_text, timedelta_to_text
from dingo.marshaller.tags import (
    CONTAINER_TAGS,
    MEMBER,
    SCALAR_TAGS,
    Member,
    is_marked,
    moment_text,
    revive,
    unwrapped,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

# Forms kept for reuse by one codec; beyond it all are dropped.
CACHE_LIMIT = 4096

# encode(value, depth) -> its tree; raises Uncarried.
Encode: TypeAlias = Callable[[Any, int], Any]
Decode: TypeAlias = Callable[[Any], Any]


class Uncarried(Exception):
    """A value that cannot travel: `path` leads to it, `why` says what is in the way."""

    def __init__(self, why: str, path: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.path = path

    def inside(self, step: str) -> Uncarried:
        """Put a step before the path: the value stands inside another one. Returns itself."""
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"{cut(self.path)}: {self.why}" if self.path else self.why


class Form(NamedTuple):
    """How the values of one annotation travel.

    `encode` writes a corrected value (None: it is written as it is); `decode` takes a tree in which a Union
    marked its members and makes what the correction understands.
    """

    encode: Encode | None
    decode: Decode = unwrapped


PLAIN = Form(None)
_PLAIN_TYPES: frozenset[type] = frozenset({int, str, float, bool, types.NoneType})


class Codec:
    """The forms of all annotations for one format, `name`, that has bytes of its own or not."""

    def __init__(self, name: str, *, carries_bytes: bool) -> None:
        self.name = name
        self._carries_bytes = carries_bytes
        self._forms: dict[tuple[Any, str], Form] = {}
        self._texts: dict[Any, Callable[[Any], str | None]] = {
            dt.datetime: moment_text,
            dt.time: moment_text,
            dt.date: dt.date.isoformat,
            dt.timedelta: timedelta_to_text,
            uuid.UUID: str,
            Decimal: str,
            bytes: bytes_to_text,
        }
        self._writers: dict[type, Encode | None] = dict.fromkeys(_PLAIN_TYPES)
        self._writers |= {cls: _scalar_writer(*tag) for cls, tag in SCALAR_TAGS.items()}
        self._writers |= {cls: functools.partial(self._tagged, tag) for cls, tag in CONTAINER_TAGS.items()}
        self._writers |= {list: self._list, dict: self._dict}
        if carries_bytes:
            self._writers[bytes] = None
        self.undecided = Form(self.write)

    # --- by the value alone

    def write(self, value: Any, depth: int = 0) -> Any:
        """Write a value whose type no annotation tells. Raises `Uncarried`."""
        try:
            writer = self._writers[type(value)]
        except KeyError:
            raise self.uncarried(value) from None
        return value if writer is None else writer(value, depth)

    def uncarried(self, value: Any) -> Uncarried:
        """Make the error for a value of a type that does not travel."""
        cls = type(value)
        article = "an" if cls.__name__[:1].lower() in set("aeiou") else "a"
        hint = " unless the annotation says so" if self.form(cls) is not self.undecided else ""
        return Uncarried(f"{article} {cls.__name__} cannot be carried by the {self.name} marshaller{hint}")

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        return encoded(value, self.write, depth)

    def _tagged(self, tag: str, value: Iterable[Any], depth: int) -> dict[str, Any]:
        return {tag: encoded(value, self.write, depth)}

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        return self._pairs(value, self.undecided, self.undecided, depth)

    # --- by the annotation

    def form(self, annotation: Any) -> Form:
        """Return the form of an annotation's values, one per annotation."""
        try:
            key = (annotation, repr(annotation))
            known = self._forms.get(key)
        except TypeError:  # not hashable, as Annotated[int, []]
            return self._form(annotation)
        if known is None:
            if len(self._forms) >= CACHE_LIMIT:
                self._forms.clear()
            known = self._forms[key] = self._form(annotation)
        return known

    def _form(self, annotation: Any) -> Form:
        bare = strip(annotation)
        if is_anything(bare):
            return self.undecided
        if is_alias(bare):
            return self._alias_form(bare)
        if is_union(bare):
            return self._union_form(bare)
        if typing.get_origin(bare) is Literal:
            return self._literal_form(bare)
        if isinstance(bare, type):
            simple = self._simple_form(bare)
            if simple is not None:
                return simple
        if model := model_of(bare):
            return Form(self._model_encode(bare, model))
        if record := record_of(bare):
            return self._record_form(bare, record)
        return self._container_form(bare) or self.undecided

    def _alias_form(self, bare: Any) -> Form:
        # An alias may refer to itself: it is followed when the first value comes.
        def encode(value: Any, depth: int) -> Any:
            inner = self.form(alias_value(bare)).encode
            return value if inner is None else inner(value, depth)

        return Form(encode, lambda tree: self.form(alias_value(bare)).decode(tree))

    def _simple_form(self, bare: type) -> Form | None:
        if bare in _PLAIN_TYPES or (bare is bytes and self._carries_bytes):
            return PLAIN
        if bare in self._texts:
            return Form(self._text_encode(bare, self._texts[bare]))
        if issubclass(bare, enum.Enum):
            return Form(self._by_value(bare))
        if issubclass(bare, pathlib.PurePath):
            return Form(self._text_encode(_concrete(bare), str))
        return None

    def _text_encode(self, cls: type, said: Callable[[Any], str | None]) -> Encode:
        def encode(value: Any, depth: int) -> Any:
            tree = said(value) if type(value) is cls else None
            return self.write(value, depth) if tree is None else tree

        return encode

    def _by_value(self, bare: Any) -> Encode:
        """Write enum members by their value, where that is enough to find them again."""
        known = correction(bare)

        def encode(value: Any, depth: int) -> Any:
            if not isinstance(value, enum.Enum):
                return self.write(value, depth)
            tree = self.write(value.value, depth)
            if not _gives(known, value.value, value):
                raise Uncarried(f"{shown(value)} is not found again by its value")
            return tree

        return encode

    def _literal_form(self, bare: Any) -> Form:
        if all(type(each) in _PLAIN_TYPES for each in typing.get_args(bare)):
            return PLAIN
        return Form(self._by_value(bare))

    # --- unions

    def _union_form(self, bare: Any) -> Form:
        arguments = typing.get_args(bare)
        others = [each for each in arguments if strip(each) is not types.NoneType]
        if len(others) == 1:
            return self._optional_form(self.form(others[0]))
        members = {
            label: (correction(each), self.form(each)) for label, each in zip(_labels(others), others, strict=True)
        }
        if all(form is PLAIN for _, form in members.values()):
            return PLAIN
        return Form(self._union_encode(members), _union_decode(members))

    def _optional_form(self, form: Form) -> Form:
        inner = form.encode
        if inner is None:
            return form

        def encode(value: Any, depth: int) -> Any:
            if value is None:
                return None
            tree = inner(value, depth)
            if tree is None:
                raise Uncarried(f"{shown(value)} would arrive as None")
            return tree

        return Form(encode, form.decode)

    def _union_encode(self, members: dict[str, tuple[Correction, Form]]) -> Encode:
        def encode(value: Any, depth: int) -> Any:
            try:
                return self.write(value, depth)
            except Uncarried as error:
                refusal = error
            for label, (part, form) in members.items():
                if form.encode is not None and _stays(part, value):
                    return {MEMBER: [label, form.encode(value, depth)]}
            raise refusal

        return encode

    # --- records and models

    def _record_form(self, bare: Any, record: Record) -> Form:
        corrections = record_corrections(record)
        forms = functools.cache(lambda: {name: self.form(field.annotation) for name, field in record.fields.items()})
        whole = correction(bare)

        def encode(value: Any, depth: int) -> Any:
            if type(value) is not record.type:
                return self.write(value, depth)
            tree = self._fields(_read(record, value), corrections(), forms(), depth)
            if not record.exact:
                _rebuilds(value, lambda: whole.apply(revive(tree)), record.attributes)
            return escaped(tree)

        def decode(tree: Any) -> Any:
            if type(tree) is not dict:
                return unwrapped(tree)
            known = forms()
            return {name: known.get(name, self.undecided).decode(each) for name, each in tree.items()}

        return Form(encode, decode)

    def _fields(
        self, fields: dict[str, Any], corrections: dict[str, Correction], forms: dict[str, Form], depth: int
    ) -> dict[str, Any]:
        _not_too_deep(depth)
        tree = {}
        name = ""
        try:
            for name, item in fields.items():
                _declared(corrections.get(name), item)
                encode = forms[name].encode
                tree[name] = item if encode is None else encode(item, depth + 1)
        except Uncarried as error:
            raise error.inside(f".{name}") from None
        return tree

    def _model_encode(self, bare: Any, model: Model) -> Encode:
        whole = correction(bare)

        def encode(value: Any, depth: int) -> Any:
            if type(value) is not model.cls:
                return self.write(value, depth)
            try:
                dumped = model.dump(value)
            except Exception as error:
                raise Uncarried(f"{shown(value)} cannot be dumped: {error}") from error
            tree = self.write(dumped, depth)
            _rebuilds(value, lambda: whole.apply(revive(tree)), lambda _: ())
            return tree

        return encode

    # --- containers

    def _container_form(self, bare: Any) -> Form | None:
        origin: Any = typing.get_origin(bare) or bare
        arguments = typing.get_args(bare)
        if not isinstance(origin, type):
            return None
        if origin is tuple:
            return self._tuple_form(bare, arguments)
        if origin in {dict, collections.OrderedDict, collections.abc.Mapping, collections.abc.MutableMapping}:
            return self._mapping_form(origin, arguments or (Any, Any))
        if origin is collections.Counter:
            return self._mapping_form(origin, (*(arguments or (Any,)), int))
        part = self.form(arguments[0] if arguments else Any)
        if origin in {list, set, frozenset, collections.deque}:
            return Form(self._elements_encode({origin: None}, part), _elements_decode(part))
        if origin in _SETS:
            return Form(self._elements_encode({set: None, **_TAGGED}, part), _elements_decode(part))
        if origin in _ITERABLES:
            return Form(self._elements_encode({list: None, **_TAGGED}, part), _elements_decode(part))
        return None

    def _elements_encode(self, kinds: dict[type, str | None], part: Form) -> Encode:
        """Write containers of the given types: as a list (None), or as a list with a tag."""

        def encode(value: Any, depth: int) -> Any:
            kind = type(value)
            if kind not in kinds or getattr(value, "maxlen", None) is not None:
                return self.write(value, depth)
            tag = kinds[kind]
            if part.encode is None:
                _not_too_deep(depth)
                tree = value if kind is list else list(value)
            else:
                # The elements of a tagged set are hashed as they are read, before any correction.
                hashed = tag is not None and kind is not tuple
                tree = encoded(value, self.write if hashed else part.encode, depth)
            return tree if tag is None else {tag: tree}

        return encode

    def _tuple_form(self, bare: Any, arguments: tuple[Any, ...]) -> Form:
        if bare is tuple or bare is typing.Tuple:  # noqa: UP006 - the alias is what a user may have written
            arguments = (Any, ...)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            part = self.form(arguments[0])
            return Form(self._elements_encode({tuple: None}, part), _elements_decode(part))
        forms = [self.form(each) for each in arguments]

        def encode(value: Any, depth: int) -> Any:
            if type(value) is not tuple or len(value) != len(forms):
                return self.write(value, depth)
            _not_too_deep(depth)
            tree: list[Any] = []
            try:
                for form, item in zip(forms, value, strict=True):
                    tree.append(item if form.encode is None else form.encode(item, depth + 1))
            except Uncarried as error:
                raise error.inside(f"[{len(tree)}]") from None
            return tree

        def decode(tree: Any) -> Any:
            if type(tree) not in {list, tuple} or len(tree) != len(forms):
                return unwrapped(tree)
            return [form.decode(item) for form, item in zip(forms, tree, strict=True)]

        return Form(encode, decode)

    def _mapping_form(self, origin: type, arguments: tuple[Any, ...]) -> Form:
        key, item = map(self.form, arguments)
        kind: Any = dict if origin in {collections.abc.Mapping, collections.abc.MutableMapping} else origin

        def encode(value: Any, depth: int) -> Any:
            if type(value) is not kind:
                return self.write(value, depth)
            return self._pairs(value, key, item, depth)

        def decode(tree: Any) -> Any:
            if type(tree) is not dict:
                return unwrapped(tree)
            return {name: item.decode(each) for name, each in tree.items()}

        return Form(encode, decode)

    def _pairs(self, value: dict[Any, Any], key: Form, item: Form, depth: int) -> dict[str, Any]:
        """Write a dict: as an object if its keys are written as text, as a list of pairs if not."""
        _not_too_deep(depth)
        encode = item.encode
        if {*map(type, value)} <= {str} and (key.encode is None or key is self.undecided):
            if encode is None:
                return escaped(dict(value) if type(value) is not dict else value)
            return escaped(self._items(value, encode, depth))
        names = self._names(value, key, depth)
        items = list(value.values()) if encode is None else self._items(value, encode, depth).values()
        if {*map(type, names)} <= {str} and len(set(names)) == len(names):
            return escaped(dict(zip(names, items, strict=True)))
        return {"~dict": [list(pair) for pair in zip(names, items, strict=True)]}

    def _items(self, value: dict[Any, Any], encode: Encode, depth: int) -> dict[Any, Any]:
        tree = {}
        name = None
        try:
            for name, item in value.items():
                tree[name] = encode(item, depth + 1)
        except Uncarried as error:
            raise error.inside(f"[{shown_key(name)}]") from None
        return tree

    def _names(self, value: dict[Any, Any], form: Form, depth: int) -> list[Any]:
        """Write keys. They are hashed as they are read: what is no scalar then must be tagged."""
        names = []
        name = None
        try:
            for name in value:
                tree = name if form.encode is None else form.encode(name, depth + 1)
                names.append(tree if type(tree) in _PLAIN_TYPES else self.write(name, depth + 1))
        except Uncarried as error:
            raise error.inside(f"<key {shown_key(name)}>") from None
        return names


_TAGGED: dict[type, str | None] = {**CONTAINER_TAGS}
_SETS = frozenset({collections.abc.Set, collections.abc.MutableSet})
_ITERABLES = frozenset(
    {
        *(collections.abc.Iterable, collections.abc.Reversible, collections.abc.Collection),
        *(collections.abc.Sequence, collections.abc.MutableSequence),
    }
)


def encoded(values: Iterable[Any], encode: Encode, depth: int) -> list[Any]:
    """Write elements. Raises `Uncarried` with the index in its path."""
    _not_too_deep(depth)
    tree: list[Any] = []
    try:
        for item in values:
            tree.append(encode(item, depth + 1))  # noqa: PERF401 - its length tells where it failed
    except Uncarried as error:
        raise error.inside(f"[{len(tree)}]") from None
    return tree


def _scalar_writer(tag: str, write: Callable[[Any], Any]) -> Encode:
    def writer(value: Any, depth: int) -> dict[str, Any]:  # noqa: ARG001
        try:
            return {tag: write(value)}
        except ValueError as error:
            raise Uncarried(f"{shown(value)} cannot be carried: {error}") from None

    return writer


def escaped(tree: dict[str, Any]) -> dict[str, Any]:
    """Write a dict that looks like a tag as what it is."""
    if len(tree) == 1 and is_marked(next(iter(tree))):
        return {"~dict": [list(pair) for pair in tree.items()]}
    return tree


def _not_too_deep(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Uncarried(f"nested more than {MAX_DEPTH} deep (or contains itself)")


def _stays(part: Correction, value: Any) -> bool:
    """Whether a value fits as it is."""
    try:
        return part.apply(value) is value
    except Mismatch:
        return False


def _declared(part: Correction | None, item: Any) -> None:
    """Refuse a field's value that is not as declared: it would be corrected and not arrive as it is.

    Nobody has looked inside an instance before.
    """
    if part is None:
        raise Uncarried("no such key is declared")
    if not _stays(part, item):
        raise Uncarried(f"{shown(item)} where {text(part.annotation)} is declared")


def _gives(part: Correction, value: Any, member: enum.Enum) -> bool:
    """Whether the correction of a value gives that member."""
    try:
        found = part.apply(value)
    except Mismatch:
        return False
    return type(found) is type(member) and bool(found == member)


def _read(record: Record, value: Any) -> dict[str, Any]:
    try:
        return record.read(value) if record.fields else {}
    except (AttributeError, Unresolved) as error:
        raise Uncarried(f"{shown(value)} cannot be rebuilt from its attributes: {error}") from None


def _rebuilds(value: Any, rebuild: Callable[[], Any], attributes: Callable[[Any], Iterable[str]]) -> None:
    """Refuse an instance that is not rebuilt from what was written, for its class has a say in that."""
    try:
        rebuilt = rebuild()
        same = type(rebuilt) is type(value) and (rebuilt == value or not _has_equality(type(value)))
        same = same and all(_same(getattr(rebuilt, each), getattr(value, each)) for each in attributes(value))
    except Exception as error:  # whatever the class raises
        raise Uncarried(f"{shown(value)} cannot be rebuilt: {error}") from error
    if not same:
        raise Uncarried(f"{shown(value)} would not arrive as it is: its class does not rebuild it from its fields")


def _has_equality(cls: Any) -> bool:
    return bool(cls.__eq__ is not object.__eq__)


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _concrete(cls: type[pathlib.PurePath]) -> type:
    """Return the class of what the constructor makes: Path makes a PosixPath or a WindowsPath."""
    try:
        return type(cls())
    except NotImplementedError:  # the flavour of another system
        return cls


def _labels(annotations: list[Any]) -> list[str]:
    """Name the members of a Union, each name once."""
    names = [text(each) for each in annotations]
    return [
        name if names.count(name) == 1 else f"{name}#{names[:number].count(name)}" for number, name in enumerate(names)
    ]


def _union_decode(members: dict[str, tuple[Correction, Form]]) -> Decode:
    def decode(tree: Any) -> Any:
        if type(tree) is not Member:
            return unwrapped(tree)
        if tree.label not in members:  # the other side's annotation differs: the correction shall judge
            return unwrapped(tree)
        part, form = members[tree.label]
        return part.apply(form.decode(tree.tree))

    return decode


def _elements_decode(part: Form) -> Decode:
    def decode(tree: Any) -> Any:
        if type(tree) not in {list, tuple}:
            return unwrapped(tree)
        return type(tree)(map(part.decode, tree))

    return decode
