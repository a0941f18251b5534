"""Classes of attrs, pydantic and msgspec are built from dicts and carried as dicts."""

import datetime as dt
from decimal import Decimal

import attrs
import msgspec
import pydantic
import pytest
from marshaller_strategies import same

from dingo.errors import BadArguments
from dingo.marshaller import JsonMarshaller, Mismatch, MsgpackMarshaller, PickleMarshaller, correction
from dingo.message.task import Header, TaskMessage

HEADER = Header("id-1", "work")
MARSHALLERS = [JsonMarshaller(), MsgpackMarshaller(), PickleMarshaller()]
each_marshaller = pytest.mark.parametrize("marshaller", MARSHALLERS, ids=lambda each: each.key)


@attrs.define
class Attrs:
    amount: Decimal
    _private: int = 0
    many: list["Attrs"] = attrs.Factory(list)


@attrs.define
class Lower:
    text: str = attrs.field(converter=str.lower)


@attrs.define
class Positive:
    value: int = attrs.field(validator=attrs.validators.gt(0))


class Pydantic(pydantic.BaseModel):
    amount: Decimal
    when: dt.datetime | None = None
    many: list["Pydantic"] = []


class Aliased(pydantic.BaseModel):
    number: int = pydantic.Field(alias="Number")


class Numbers(pydantic.RootModel[list[int]]): ...


class Masked(pydantic.BaseModel):
    word: str

    @pydantic.field_serializer("word")
    def mask(self, word):
        return "***"


@pydantic.dataclasses.dataclass
class PydanticData:
    amount: Decimal


class Struct(msgspec.Struct):
    amount: Decimal
    when: dt.datetime | None = None
    raw: bytes = b""
    many: list["Struct"] = []


class Tagged(msgspec.Struct, tag=True, frozen=True):
    value: int


def carried(marshaller, annotation, value):
    def work(value): ...

    work.__annotations__["value"] = annotation
    data = marshaller.encode_task(work, TaskMessage(HEADER, (value,)))
    return marshaller.decode_task(work, HEADER, data).args[0]


NOON = dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "annotation, value, expected",
    [
        (Attrs, {"amount": "1.5", "private": 2.0}, Attrs(Decimal("1.5"), 2)),
        (Attrs, {"amount": "1", "many": [{"amount": "2"}]}, Attrs(Decimal(1), many=[Attrs(Decimal(2))])),
        (Lower, {"text": "ABC"}, Lower("abc")),
        (Pydantic, {"amount": "1.5"}, Pydantic(amount="1.5")),
        (Pydantic, {"amount": "1", "many": [{"amount": "2"}]}, Pydantic(amount=1, many=[Pydantic(amount=2)])),
        (Aliased, {"Number": 1}, Aliased(Number=1)),
        (Numbers, [1, 2], Numbers([1, 2])),
        (PydanticData, {"amount": "1.5"}, PydanticData("1.5")),
        (Struct, {"amount": "1.5", "when": "2024-01-02T12:00:00Z"}, Struct(Decimal("1.5"), NOON)),
        (Tagged, {"type": "Tagged", "value": 1}, Tagged(1)),
        (list[Pydantic | None], [{"amount": "1"}, None], [Pydantic(amount=1), None]),
    ],
    ids=str,
)
def test_a_dict_becomes_the_model(annotation, value, expected):
    assert correction(annotation).fix(value) == expected


@pytest.mark.parametrize(
    "annotation, value, message",
    [
        (Attrs, {"amount": 1.5}, r"at \.amount: expected Decimal"),
        (Attrs, {"amount": "1", "more": 1}, "unknown key 'more'"),
        (Attrs, {}, "missing 'amount'"),
        (Positive, {"value": -1}, "ValueError"),
        (Pydantic, {"amount": "x"}, r"at \.amount: expected Pydantic"),
        (Pydantic, {"amount": "1", "many": [{"amount": "x"}]}, r"at \.many\[0\]\.amount"),
        (Pydantic, {"amount": "1", "more": 1}, "unknown key 'more'"),
        (Pydantic, [], "expected Pydantic"),
        (Numbers, ["x"], r"at \[0\]"),
        (PydanticData, {"amount": []}, "expected PydanticData|expected Decimal"),
        (Struct, {"amount": "x"}, "expected Struct"),
        (Struct, {"amount": "1", "more": 1}, "unknown key 'more'"),
        (Struct, {}, "missing required field `amount`"),
        (list[Struct], [{"amount": "1"}, 5], r"at \[1\]: expected Struct"),
    ],
)
def test_what_does_not_fit_is_refused(annotation, value, message):
    with pytest.raises(Mismatch, match=message):
        correction(annotation).fix(value)


@each_marshaller
@pytest.mark.parametrize(
    "value",
    [
        Attrs(Decimal("1.5"), 2, [Attrs(Decimal(2))]),
        Lower("abc"),
        Pydantic(amount="1.5", when=NOON, many=[Pydantic(amount=2)]),
        Aliased(Number=1),
        Numbers([1, 2]),
        PydanticData("1.5"),
        Struct(Decimal("1.5"), NOON, b"raw", [Struct(Decimal(2))]),
        Tagged(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_instance_arrives_as_it_was_sent(marshaller, value):
    assert same(carried(marshaller, type(value), value), value)
    assert same(carried(marshaller, list[type(value) | int], [value, 1]), [value, 1])


@pytest.mark.parametrize("marshaller", MARSHALLERS[:2], ids=lambda each: each.key)
@pytest.mark.parametrize(
    "value",
    [Masked(word="secret"), Pydantic.model_construct(amount="1")],
    ids=lambda value: type(value).__name__,
)
def test_an_instance_that_its_class_does_not_bring_back_is_refused(marshaller, value):
    with pytest.raises(BadArguments, match="rebuild|rebuilt"):
        carried(marshaller, type(value), value)


def test_instances_are_passed_as_they_are():
    for value in (Attrs(Decimal(1)), Pydantic(amount=1), Struct(Decimal(1))):
        assert correction(type(value)).exact is type(value)
        assert correction(type(value)).fix(value) is value
