"""Reading annotations: what stands behind an alias, how to name it, and resolving forward references."""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any, ForwardRef, Literal, TypeVar, Union

if TYPE_CHECKING:
    from collections.abc import Mapping

# Wrappers that say something about a field and nothing about its values. Compared by name: typing and
# typing_extensions have one each.
_QUALIFIERS = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})
_ANYTHING: tuple[Any, ...] = (Any, object, inspect.Parameter.empty)


class Unresolved(Exception):
    """A forward reference names something that does not exist (yet).

    `parameter` is where it stands (`"return"` for the return annotation), `reference` its text.
    """

    def __init__(self, parameter: str, reference: str) -> None:
        super().__init__(f"parameter {parameter!r}: nothing is called {reference!r} (yet)")
        self.parameter = parameter
        self.reference = reference


def strip(annotation: Any) -> Any:
    """Return the annotation that decides about values.

    Annotated, Required and the like, NewType and TypeVar are seen through (a TypeVar is its bound, the union
    of its constraints, or anything).
    """
    while True:
        if annotation is None:
            return types.NoneType
        if isinstance(annotation, TypeVar):
            annotation = _of_type_variable(annotation)
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif _is_wrapper(annotation):
            annotation = typing.get_args(annotation)[0]
        else:
            return annotation


def _is_wrapper(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    return origin is typing.Annotated or getattr(origin, "_name", None) in _QUALIFIERS


def _of_type_variable(variable: TypeVar) -> Any:
    if variable.__bound__ is not None:
        return variable.__bound__
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - the members are only known at run time
    return Any


def is_anything(annotation: Any) -> bool:
    """Whether the annotation accepts every value."""
    return any(annotation is one for one in _ANYTHING)


def is_union(annotation: Any) -> bool:
    """Whether it is a Union, an Optional or `X | Y`."""
    return typing.get_origin(annotation) in (Union, types.UnionType)


def is_alias(annotation: Any) -> bool:
    """Whether it is a `type X = ...` alias, which may refer to itself."""
    return hasattr(annotation, "__value__") and hasattr(annotation, "__type_params__")


def alias_value(annotation: Any) -> Any:
    """Return what a `type X = ...` alias stands for, its parameters filled in."""
    origin = typing.get_origin(annotation)
    if origin is None:
        return annotation.__value__
    return substitute(origin.__value__, dict(zip(origin.__type_params__, typing.get_args(annotation), strict=True)))


def substitute(annotation: Any, arguments: Mapping[Any, Any]) -> Any:
    """Fill type variables in: `list[T]` with `{T: int}` is `list[int]`."""
    if isinstance(annotation, TypeVar):
        return arguments.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if isinstance(annotation, type) or not parameters:
        return annotation
    return annotation[tuple(arguments.get(each, each) for each in parameters)]


def text(annotation: Any) -> str:
    """Name an annotation as its author would write it."""
    if annotation is types.NoneType or annotation is None:
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, ForwardRef):
        return annotation.__forward_arg__
    arguments = typing.get_args(annotation)
    if is_union(annotation):
        return " | ".join(map(text, arguments))
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if isinstance(origin, type) and arguments and not any(isinstance(each, list) for each in arguments):
        return f"{text(origin)}[{', '.join(map(text, arguments))}]"
    if origin is None and isinstance(annotation, type):
        return annotation.__qualname__.rpartition("<locals>.")[2]
    name = getattr(annotation, "__name__", None)
    if origin is None and isinstance(name, str):
        return name
    return repr(annotation).replace("typing.", "").replace("collections.abc.", "")


def resolve(place: str, annotation: Any, names: dict[str, Any], extra: dict[str, Any]) -> Any:
    """Evaluate the forward references in an annotation.

    `place` is the parameter it belongs to, `names` the globals and `extra` the locals of the evaluation.
    Raises `Unresolved`.
    """
    holder = types.SimpleNamespace(__annotations__={place: annotation})
    try:
        return typing.get_type_hints(holder, names, extra, include_extras=True)[place]
    except NameError as error:
        raise Unresolved(place, error.name or text(annotation)) from error
    except (AttributeError, SyntaxError, TypeError, LookupError) as error:
        raise Unresolved(place, text(annotation)) from error
