"""Ids, and looking calls up by them."""

from __future__ import annotations

import gc
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import PATIENCE

import dingo
from dingo import BadOption, ResultNotFound, Status


def same(value=None):
    return value


def test_ids_are_unique_and_stay(app):
    results = app.register("t", same).call_many([()] * 1000)
    ids = [result.id for result in results]
    assert len(set(ids)) == 1000
    assert ids == [result.id for result in results]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)


def test_an_id_read_by_many_threads_at_once_is_one(app):
    task = app.register("t", same)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(100):
            result, go = task.call(), threading.Barrier(8)
            ids = set(threads.map(lambda _, go=go, result=result: (go.wait(PATIENCE), result.id)[1], range(8)))
            assert len(ids) == 1


def test_ids_of_two_apps_differ(make_app):
    apps = [make_app(), make_app()]
    ids = {app.register("t", same).call().id for app in apps}
    assert len(ids) == 2


def test_a_call_is_found_by_its_id_while_queued_running_and_ended(single, gate):
    running = threading.Event()

    def hold() -> int:
        running.set()
        gate.wait(PATIENCE)
        return 1

    single.register("t", hold)
    first, second = single.call("t"), single.call("t")
    assert running.wait(PATIENCE)
    assert single.result(first.id) is first
    assert single.result(second.id, "t") is second
    gate.set()
    assert single.result(second.id).result(PATIENCE) == 1


def test_an_unknown_id_is_an_error(app):
    app.register("t", same)
    for name in (None, "t", "other"):
        with pytest.raises(ResultNotFound) as caught:
            app.result("nothing", name)
        assert isinstance(caught.value, LookupError)
        with pytest.raises(ResultNotFound):
            app.forget("nothing", name)


def test_a_call_is_known_while_somebody_holds_it_whatever_is_kept(make_app):
    app = make_app(local_results=0)
    result = app.register("t", same).call(5)
    assert result.result(PATIENCE) == 5
    one = result.id
    assert app.result(one) is result
    app.close(PATIENCE)
    app.__enter__()
    del result
    gc.collect()
    with pytest.raises(ResultNotFound):
        app.result(one)


def finished_ids(app, values) -> list[str]:
    ids = []
    for value in values:
        result = app.call("t", value)
        ids.append(result.id)
        result.result(PATIENCE)
        del result
    app.call("t", None).result(PATIENCE)
    for thread in threading.enumerate():  # a worker holds its last call until it takes the next
        del thread
    app.allocate("t", 1)
    gc.collect()
    return ids


def known(app, ids) -> list[bool]:
    found = []
    for one in ids:
        try:
            app.result(one)
        except ResultNotFound:
            found.append(False)
        else:
            found.append(True)
    return found


def test_the_newest_finished_calls_are_kept(make_app):
    app = make_app(local_results=3, workers=1)
    app.register("t", same)
    ids = finished_ids(app, range(10))
    assert known(app, ids) == [False] * 7 + [True] * 3


def test_no_more_bytes_are_kept_than_the_limit(make_app):
    app = make_app(local_results_bytes=10_000, workers=1)
    app.register("t", same)
    ids = finished_ids(app, [bytes(4000)] * 5)
    assert known(app, ids) == [False] * 3 + [True] * 2
    (big,) = finished_ids(app, [bytes(20_000)])
    assert known(app, [big]) == [False]


class Sizeless:
    @property
    def nbytes(self):
        raise RuntimeError("unknown")


class Method:
    def nbytes(self):
        return 5

    def __sizeof__(self):
        raise RuntimeError("unknown")


@pytest.mark.parametrize("value", [Sizeless(), Method()])
def test_a_value_that_does_not_tell_its_size_is_kept_all_the_same(app, value):
    result = app.register("t", same).call(value)
    result.wait(PATIENCE)
    assert app.result(result.id).result(0) is value


def test_reading_the_id_twice_counts_the_call_once(make_app):
    app = make_app(local_results=2, workers=1)
    app.register("t", same)
    first, second = app.call("t", 1), app.call("t", 2)
    for _ in range(5):
        assert first.id
        assert second.id
    first.wait(PATIENCE)
    second.wait(PATIENCE)
    ids = [first.id, second.id]
    del first, second
    app.call("t").result(PATIENCE)
    assert known(app, ids) == [True, True]


def test_forget_deletes(app):
    result = app.register("t", same).call(1)
    result.wait(PATIENCE)
    app.forget(result.id)
    with pytest.raises(ResultNotFound):
        app.result(result.id)
    assert result.result(0) == 1
    assert app.succeeded() == []


def test_a_forgotten_call_that_still_runs_goes_on(app, gate):
    result = app.register("t", gate.wait).call(PATIENCE)
    app.forget(result.id, "t")
    gate.set()
    assert result.result(PATIENCE) is True


def test_a_given_id_is_the_calls_id(app):
    result = app.register("t", same).options(id="order-1").call(1)
    assert result.id == "order-1"
    assert app.result("order-1") is result
    assert result.result(PATIENCE) == 1
    assert next(iter(result.reports())).id == "order-1"


def test_a_given_id_is_refused_while_a_call_of_that_name_has_it(app, gate):
    app.register("t", gate.wait)
    first = app.options(id="x").call("t", PATIENCE)
    with pytest.raises(BadOption, match="'x'"):
        app.options(id="x").call("t", PATIENCE)
    assert app.result("x") is first
    gate.set()
    first.wait(PATIENCE)
    second = app.options(id="x").call("t", PATIENCE)
    assert second.result(PATIENCE) is True
    assert app.result("x") is second


def test_name_and_id_together_are_the_identity(app):
    app.register("a", same)
    app.register("b", same)
    first, second = app.options(id="x").call("a", 1), app.options(id="x").call("b", 2)
    assert app.result("x", "a") is first
    assert app.result("x", "b") is second
    with pytest.raises(ResultNotFound, match="name"):
        app.result("x")
    assert (first.result(PATIENCE), second.result(PATIENCE)) == (1, 2)


@pytest.mark.parametrize("how", ["option", "set", "call", "object"])
def test_a_custom_id_maker_makes_the_ids(app, how):
    class Maker:
        def __init__(self) -> None:
            self.number = 0

        def new_id(self) -> str:
            self.number += 1
            return f"mine-{self.number}"

    maker = Maker()
    app.add_id_maker("mine", maker)
    call = app.call
    if how == "option":
        app.register("t", same, id_maker="mine")
    elif how == "set":
        app.register("t", same)
        app.set_id_maker("t", "mine")
    else:
        app.register("t", same)
        call = app.options(id_maker="mine" if how == "call" else maker).call
    results = [call("t", n) for n in range(3)]
    assert [result.id for result in results] == ["mine-1", "mine-2", "mine-3"]
    assert [result.result(PATIENCE) for result in results] == [0, 1, 2]


def test_built_in_id_makers(app):
    app.register("s", same, id_maker="sequence")
    app.register("u", same, id_maker="uuid")
    assert [app.call("s").id for _ in range(2)] == ["1", "2"]
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-.*", app.call("u").id)


def test_bad_id_makers_are_refused(app):
    app.register("t", same)
    for key, maker in [("x", object()), ("uuid", dingo), ("", None), (3, None)]:
        with pytest.raises(BadOption):
            app.add_id_maker(key, maker)
    with pytest.raises(BadOption):
        app.set_id_maker("t", "nothing")
    with pytest.raises(dingo.NotRegistered):
        app.set_id_maker("nothing", "uuid")


@pytest.mark.parametrize("made", [None, 3, "", b"x", ZeroDivisionError()])
def test_an_id_maker_that_makes_no_id_is_an_error_of_the_call_and_takes_no_room(make_app, made):
    class Maker:
        def new_id(self):
            if isinstance(made, Exception):
                raise made
            return made

    app = make_app(max_pending=1)
    app.add_id_maker("broken", Maker())
    app.register("t", same)
    for _ in range(3):
        with pytest.raises((BadOption, ZeroDivisionError)):
            app.options(id_maker="broken").call("t")
    assert app.call("t", 5).result(PATIENCE) == 5


def test_two_live_calls_with_the_same_id_are_both_answered(app):
    class Constant:
        def new_id(self) -> str:
            return "always"

    app.add_id_maker("constant", Constant())
    app.register("t", same, id_maker="constant")
    results = [app.call("t", n) for n in range(10)]
    assert [result.result(PATIENCE) for result in results] == list(range(10))


def test_failed_and_succeeded_list_what_is_known(app):
    def fail() -> None:
        raise ValueError("no")

    app.register("fail", fail)
    app.register("t", same)
    failed, good = app.call("fail"), app.call("t")
    failed.wait(PATIENCE)
    good.wait(PATIENCE)
    assert good.id
    (info,) = app.failed()
    assert (info.id, info.name, info.status, info.failure.type) == (failed.id, "fail", Status.FAILURE, "ValueError")
    assert [info.id for info in app.succeeded()] == [good.id]
