"""marshal_locally: what would fail on the wire fails at the desk."""

import asyncio
import dataclasses
import datetime
import decimal
import enum
import threading
import uuid

import pytest
from conftest import text_of

import dingo
from dingo import Code


@pytest.fixture
def desk():
    app = dingo.App("local", config=dingo.Config(workers=2, marshal_locally=True))
    yield app
    app.close(timeout=5, drain=False)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Order:
    id: int
    lines: list[tuple[str, int]]
    due: datetime.datetime | None = None


VALUES = [
    (int, 2**200), (float, 0.1), (str, "ä\n"), (bool, True), (bytes, b"\0\xff"), (None, None),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}), (frozenset[str], frozenset("ab")), (list[list[int]], [[1], []]), (dict[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}), (datetime.date, datetime.date(2030, 1, 2)),
    (datetime.timedelta, datetime.timedelta(1, 2, 3)),
    (datetime.datetime, datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)), (uuid.UUID, uuid.UUID(int=5)),
    (decimal.Decimal, decimal.Decimal("1.10")), (Colour, Colour.RED), (Order, Order(1, [("a", 2)])), (int | None, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=lambda one: text_of(one)[:30])
def test_what_arrives_equals_what_was_sent_in_type_and_value(desk, kind, value):
    def echo(a):
        assert type(a) is type(value)
        return a

    echo.__annotations__ = {"a": kind, "return": kind}
    desk.register("echo", echo)
    result = desk.call("echo", value).result(10)
    assert result == value
    assert type(result) is type(value)


def test_arguments_and_results_are_copies(desk):
    given = [1]

    @desk.task
    def grow(a: list[int]) -> list[int]:
        a.append(2)
        return a

    assert grow.call(given).result(10) == [1, 2]
    assert given == [1]


def test_without_it_objects_are_passed_as_they_are(app):
    given = object()
    app.register("same", lambda a: a)
    assert app.call("same", given).result(10) is given


@pytest.mark.parametrize("value", [object(), threading.Lock(), lambda: None, iter([1]), {1: object()}, [[object()]]])
def test_what_cannot_be_carried_is_refused_at_the_call_and_nothing_is_sent(desk, value):
    ran = []
    desk.register("job", ran.append)
    with pytest.raises(dingo.BadArguments, match="job"):
        desk.call("job", value)
    desk.close(timeout=10)
    assert ran == []


def test_a_list_that_holds_itself_is_refused(desk):
    value = []
    value.append(value)
    desk.register("job", lambda a: None)
    with pytest.raises(dingo.BadArguments):
        desk.call("job", value)


@pytest.mark.parametrize("kind", ["thread", "async"])
def test_a_value_that_cannot_be_carried_ends_bad_return_and_is_not_retried(desk, kind):
    runs = []

    def job():
        runs.append(1)
        return threading.Lock()

    async def ajob():
        return job()

    desk.register("job", job if kind == "thread" else ajob, retry=dingo.Retry(max=3, base=0))
    failure = desk.call("job").exception(10).failure
    assert failure.code is Code.BAD_RETURN
    assert "job" in failure.message
    assert len(runs) == 1


def test_tuples_stay_tuples_where_nothing_is_annotated(desk):
    desk.register("echo", lambda *args, **kwargs: (args, kwargs))
    assert desk.call("echo", (1, (2,)), a={3}).result(10) == (((1, (2,)),), {"a": {3}})


def test_defaults_keywords_and_surplus_arguments_travel(desk):
    @desk.task
    def job(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> tuple:
        return (a, b, rest, c, more)

    assert job.call(1).result(10) == (1, 2, (), 3, {})
    assert job.call(1, 5, 6, c=7, d=8).result(10) == (1, 5, (6,), 7, {"d": 8})


def test_a_context_is_not_carried(desk):
    @desk.task
    def job(context: dingo.Context, a: int) -> tuple:
        return (context.name, a)

    assert job.call(1).result(10) == ("job", 1)


def test_retries_see_the_arguments_as_they_were_sent(desk):
    @desk.task(retry=dingo.Retry(max=1, base=0))
    def job(context: dingo.Context, a: int) -> int:
        if context.attempt == 1:
            raise ValueError
        return a

    assert job.call(5).result(10) == 5


def test_every_option_works_through_the_marshaller_too(desk):
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(1)

    @desk.task
    def job(a: int) -> int:
        return a

    options = [
        {"ignore_report": False}, {"monitor_progress": True}, {"retry": 2}, {"timeout": 60}, {"delay": 0.01},
        {"eta": moment},
        {"expires": 60}, {"priority": 9}, {"queue": "slow"}, {"id": "one"}, {"headers": {"a": 1}}, {"unique": True},
        {"unique": "key"}, {"max_concurrency": 1}, {"rate_limit": "1000/s"}, {"keep_result": 5},
    ]  # fmt: skip
    for one in options:
        assert job.options(**one).call(5).result(10) == 5
        assert asyncio.run(awaited(job.options(**{**one, "id": None}).call(5))) == 5


async def awaited(result):
    return await result


def test_a_failure_keeps_its_cause_at_hand(desk):
    desk.register("bad", lambda: 1 / 0)
    assert isinstance(desk.call("bad").exception(10).__cause__, ZeroDivisionError)


def test_call_many_refuses_all_before_the_first_is_sent(desk):
    ran = []

    @desk.task
    def job(a: int) -> None:
        ran.append(a)

    with pytest.raises(dingo.BadArguments):
        job.call_many([(1,), (2,), ("x",)])
    desk.close(timeout=10)
    assert ran == []


@pytest.mark.parametrize("key", ["json", "msgpack", "pickle"])
def test_each_built_in_marshaller_carries_calls(desk, key):
    @desk.task(marshaller=key, report_marshaller=key)
    def job(order: Order) -> Order:
        return dataclasses.replace(order, id=order.id + 1)

    assert job.call(Order(1, [("a", 1)])).result(10) == Order(2, [("a", 1)])
    assert job.call({"id": 1, "lines": []}).result(10) == Order(2, [])


def test_pickle_carries_closures(desk):
    number = 5
    desk.register("apply", lambda fn: fn, marshaller="pickle", report_marshaller="pickle")
    assert desk.call("apply", lambda: number).result(10)() == 5
