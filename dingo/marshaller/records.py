"""Classes with named fields: dataclass, TypedDict, NamedTuple, attrs, and the models of pydantic and msgspec.

They are recognised by the marks that they bear: none of those packages is imported here.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import typing
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any

from dingo.marshaller.annotations import Unresolved, strip, substitute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `attribute` is where an instance keeps it, `required` whether building needs it."""

    attribute: str
    annotation: Any
    required: bool


class Record:
    """How to build and read the instances of a class whose fields are known.

    `cls` is the class (`dict` for a TypedDict) and `label` its name. `exact` tells that building from the
    fields read gives the same instance back: no hook of the class's own takes part in its construction.
    Reading `fields` raises `Unresolved` while a field's type does not exist.
    """

    def __init__(
        self, cls: type, declared: type, fields: Callable[[], dict[str, Field]], *, exact: bool = True
    ) -> None:
        self.cls: Callable[..., Any] = cls
        self.type = cls
        self.label = declared.__name__
        self.exact = exact
        self._fields = fields

    @functools.cached_property
    def fields(self) -> dict[str, Field]:
        """The fields by the names that building takes."""
        return self._fields()

    def read(self, instance: Any) -> dict[str, Any]:
        """Return the values of an instance's fields. Raises AttributeError where it lacks one."""
        if self.type is dict:
            return dict(instance)
        return {name: getattr(instance, field.attribute) for name, field in self.fields.items()}

    def attributes(self, instance: Any) -> list[str]:
        """Return the names of all attributes that make an instance what it is."""
        if dataclasses.is_dataclass(self.type):
            return [each.name for each in dataclasses.fields(self.type)]
        kept = getattr(type(instance), "__attrs_attrs__", ())
        return [each.name for each in kept] or [each.attribute for each in self.fields.values()]


def record_of(annotation: Any) -> Record | None:
    """Return the record that an annotation (a class or a generic of one) is, None if it is none."""
    declared = typing.get_origin(annotation) or annotation
    if not isinstance(declared, type):
        return None
    if hasattr(declared, "__required_keys__") and hasattr(declared, "__total__"):
        return Record(dict, declared, functools.partial(_typed_dict_fields, annotation))
    if issubclass(declared, tuple) and hasattr(declared, "_fields"):
        # Only a class derived from the generated one can have a constructor of its own.
        generated = tuple in declared.__bases__
        return Record(declared, declared, functools.partial(_tuple_fields, annotation), exact=generated)
    if dataclasses.is_dataclass(declared):
        fields = functools.partial(_init_fields, annotation, {})
        return Record(declared, declared, fields, exact=_is_simple_dataclass(declared))
    if hasattr(declared, "__attrs_attrs__"):
        # Converters and validators may change what they are given.
        attributes = {each.alias: each.name for each in declared.__attrs_attrs__ if each.alias}
        return Record(declared, declared, functools.partial(_init_fields, annotation, attributes), exact=False)
    return None


def _hints(annotation: Any) -> dict[str, Any]:
    """Resolve the annotations of a class; type variables of a generic are filled in."""
    declared = typing.get_origin(annotation) or annotation
    try:
        # A recursive class inside a function is not in its module's namespace.
        hints = typing.get_type_hints(declared, localns={declared.__name__: declared}, include_extras=True)
    except NameError as error:
        raise Unresolved(declared.__name__, error.name or "?") from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise Unresolved(declared.__name__, str(error)) from error
    variables = getattr(declared, "__parameters__", ())
    filled = dict(zip(variables, typing.get_args(annotation), strict=False))
    return {name: substitute(hint, filled) for name, hint in hints.items()}


def _typed_dict_fields(annotation: Any) -> dict[str, Field]:
    declared: Any = typing.get_origin(annotation) or annotation
    return {
        name: Field(name, strip(hint), _is_required(hint, required=name in declared.__required_keys__))
        for name, hint in _hints(annotation).items()
    }


def _is_required(hint: Any, *, required: bool) -> bool:
    # What the class says of itself is wrong where its annotations are text: the wrapper has the last word.
    while (origin := typing.get_origin(hint)) is not None:
        name = getattr(origin, "_name", None)
        if name in {"Required", "NotRequired"}:
            return bool(name == "Required")
        if name != "ReadOnly" and origin is not typing.Annotated:
            break
        hint = typing.get_args(hint)[0]
    return required


def _tuple_fields(annotation: Any) -> dict[str, Field]:
    declared: Any = typing.get_origin(annotation) or annotation
    hints = _hints(annotation)
    return {name: Field(name, hints.get(name, Any), name not in declared._field_defaults) for name in declared._fields}


def _init_fields(annotation: Any, attributes: Mapping[str, str]) -> dict[str, Field]:
    """Take the fields that the constructor takes; `attributes` are those kept under another name."""
    declared = typing.get_origin(annotation) or annotation
    hints = _hints(annotation)
    fields = {}
    for name, parameter in inspect.signature(declared).parameters.items():
        attribute = attributes.get(name, name)
        hint = hints.get(attribute, Any)
        if isinstance(hint, InitVar):
            hint = hint.type
        fields[name] = Field(attribute, hint, parameter.default is inspect.Parameter.empty)
    return fields


def _is_simple_dataclass(cls: Any) -> bool:
    return (
        "__dataclass_fields__" in vars(cls)
        and not hasattr(cls, "__pydantic_validator__")
        and cls.__dataclass_params__.init
        and not hasattr(cls, "__post_init__")
        and cls.__new__ is object.__new__
        and type(cls) is type
        and all(field.init for field in dataclasses.fields(cls))
        and len(inspect.signature(cls).parameters) == len(dataclasses.fields(cls))
    )


class Model:
    """A class that builds and dumps its instances by itself (pydantic, msgspec).

    `load(data)` builds an instance and raises whatever the package raises; `dump(instance)` gives a tree of
    plain JSON types; `keys` are the only keys it knows, None where it takes any; `fault(error)` makes
    a path and a sentence of its exception.
    """

    def __init__(
        self,
        cls: type,
        load: Callable[[Any], Any],
        dump: Callable[[Any], Any],
        keys: frozenset[str] | None,
        *,
        root: bool = False,
    ) -> None:
        self.cls = cls
        self.load = load
        self.dump = dump
        self.keys = keys
        self.root = root

    def fault(self, error: Exception) -> tuple[str, str]:
        """Return the path of the offending field ("" if unknown) and what is wrong with it."""
        errors = getattr(error, "errors", None)
        if not callable(errors):
            return "", str(error)
        first = errors(include_url=False, include_context=False)[0]
        path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in first["loc"])
        return path, first["msg"]


def model_of(annotation: Any) -> Model | None:
    """Return the model that an annotation is, None if it is none."""
    cls: Any = typing.get_origin(annotation) or annotation
    if not isinstance(cls, type):
        return None
    if hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_validate"):
        return _pydantic_model(cls)
    if hasattr(cls, "__struct_fields__") and hasattr(cls, "__struct_config__"):
        return _struct_model(cls, annotation)
    return None


def _pydantic_model(cls: Any) -> Model:
    def dump(instance: Any) -> Any:
        return instance.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)

    root = bool(getattr(cls, "__pydantic_root_model__", False))
    return Model(cls, cls.model_validate, dump, None if root else _pydantic_keys(cls), root=root)


def _pydantic_keys(cls: Any) -> frozenset[str] | None:
    if cls.model_config.get("extra") in {"allow", "forbid"}:
        return None
    keys = set(cls.model_fields)
    for field in cls.model_fields.values():
        for alias in (field.alias, field.validation_alias):
            if isinstance(alias, str):
                keys.add(alias)
            elif alias is not None:  # a path or a choice: pydantic alone can tell
                return None
    return frozenset(keys)


def _struct_model(cls: Any, annotation: Any) -> Model:
    msgspec = sys.modules["msgspec"]
    tag = cls.__struct_config__.tag_field
    keys = frozenset(cls.__struct_encode_fields__) | ({tag} if tag else frozenset())
    return Model(
        cls,
        functools.partial(msgspec.convert, type=annotation),
        functools.partial(msgspec.to_builtins, str_keys=False),
        frozenset(keys),
    )
