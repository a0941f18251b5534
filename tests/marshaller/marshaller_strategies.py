"""Values, and annotations with values that fit them, for the properties of this directory."""

import datetime as dt
import enum
import math
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union
from zoneinfo import ZoneInfo

from hypothesis import strategies as st


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Right(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass(frozen=True)
class Line:
    start: Point
    end: Point
    name: str | None = None
    tags: tuple[str, ...] = ()


@dataclass
class Node:
    value: Decimal
    children: list["Node"] = field(default_factory=list)


@dataclass
class Circle:
    size: float


@dataclass
class Square:
    size: float


class Pair(NamedTuple):
    first: int
    second: dt.date


class Address(TypedDict):
    street: str
    number: NotRequired[int]


def same(one, other):
    """Equal in type and value at any depth; NaN is itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, Decimal):
        return one.as_tuple() == other.as_tuple()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(*keys) and same(*values)
            for keys, values in zip(
                zip(one, other, strict=True), zip(one.values(), other.values(), strict=True), strict=True
            )
        )
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and all(any(same(each, it) for it in other) for each in one)
    if hasattr(type(one), "__dataclass_fields__"):
        return same(vars(one), vars(other))
    if isinstance(one, dt.datetime | dt.time):
        return one == other and one.fold == other.fold and one.utcoffset() == other.utcoffset()
    return one == other


zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))),
    st.sampled_from(["Europe/Paris", "America/New_York", "UTC"]).map(ZoneInfo),
)
texts = st.text(st.characters(), max_size=8)  # lone surrogates too
# Away from the ends, where no offset fits.
datetimes = st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=zones)
scalars = {
    int: st.integers() | st.integers(-(10**30), 10**30),
    float: st.floats(),
    bool: st.booleans(),
    str: texts,
    bytes: st.binary(max_size=12),
    dt.datetime: datetimes,
    dt.date: st.dates(),
    dt.time: st.times(timezones=zones),
    dt.timedelta: st.timedeltas(),
    uuid.UUID: st.uuids(),
    Decimal: st.decimals(),
    type(None): st.none(),
}
exact_decimals = st.decimals(allow_nan=False)
points = st.builds(Point, st.integers(), st.floats())
nodes = st.recursive(
    st.builds(Node, exact_decimals),
    lambda inner: st.builds(Node, exact_decimals, st.lists(inner, max_size=3)),
    max_leaves=6,
)
named = {
    Colour: st.sampled_from(Colour),
    Size: st.sampled_from(Size),
    Right: st.sampled_from([Right.READ, Right.WRITE, Right.READ | Right.WRITE, Right(0)]),
    pathlib.Path: st.text("abc/.", min_size=1, max_size=6).map(pathlib.Path),
    Point: points,
    Line: st.builds(Line, points, points, st.none() | texts, st.lists(texts, max_size=2).map(tuple)),
    Node: nodes,
    Pair: st.builds(Pair, st.integers(), st.dates()),
    Address: st.fixed_dictionaries({"street": texts}, optional={"number": st.integers()}),
    Circle | Square: st.builds(Circle, st.floats()) | st.builds(Square, st.floats()),
    Literal["a", 1, None]: st.sampled_from(["a", 1, None]),
    Literal[Colour.RED, "x"]: st.sampled_from([Colour.RED, "x"]),
}


def hashable(strategy):
    return strategy.filter(lambda value: value == value and not isinstance(value, Decimal))


# Whatever a value without an annotation may be.
untyped = st.recursive(
    st.one_of(*scalars.values()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(st.one_of(st.integers(), texts, st.binary(max_size=3), st.tuples(st.integers())), max_size=4),
        st.frozensets(st.integers() | texts, max_size=4),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(st.sampled_from(["~", "~tuple", "~x", "~dict", "~member", "a"]), inner, max_size=1),
        st.dictionaries(st.integers() | texts | st.tuples(st.integers(), texts) | st.dates(), inner, max_size=3),
    ),
    max_leaves=12,
)


def _wider(pairs):
    """Make annotations with values out of annotations with values."""
    annotation, values = pairs
    few = st.lists(values, max_size=3)
    return st.sampled_from(
        [
            (list[annotation], few),
            (tuple[annotation, ...], few.map(tuple)),
            (tuple[annotation, int], st.tuples(values, st.integers())),
            (dict[str, annotation], st.dictionaries(texts, values, max_size=3)),
            (dict[int, annotation], st.dictionaries(st.integers(), values, max_size=3)),
            (dict[dt.date, annotation], st.dictionaries(st.dates(), values, max_size=2)),
            (dict[Colour, annotation], st.dictionaries(st.sampled_from(Colour), values, max_size=2)),
            (
                Mapping[tuple[int, str], annotation],
                st.dictionaries(st.tuples(st.integers(), texts), values, max_size=2),
            ),
            (Optional[annotation], st.none() | values),
            (Sequence[annotation], few | few.map(tuple)),
        ]
    )


annotated = st.recursive(
    st.sampled_from([*scalars.items(), *named.items(), (Any, untyped)]),
    lambda inner: inner.flatmap(_wider),
    max_leaves=3,
)


@st.composite
def typed_values(draw):
    """Draw an annotation and a value that fits it."""
    annotation, values = draw(annotated)
    return annotation, draw(values)


union_members = [
    int,
    str,
    float,
    dt.datetime,
    Colour,
    Point,
    Circle,
    Square,
    list[int],
    tuple[str, ...],
    uuid.UUID,
]
by_annotation = {
    **scalars,
    **named,
    Circle: st.builds(Circle, st.floats()),
    Square: st.builds(Square, st.floats()),
    list[int]: st.lists(st.integers(), max_size=3),
    tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
}


@st.composite
def union_values(draw):
    """Draw a union and a value of one of its members."""
    members = draw(st.lists(st.sampled_from(union_members), min_size=2, max_size=4, unique_by=str))
    return Union[tuple(members)], draw(by_annotation[draw(st.sampled_from(members))])
