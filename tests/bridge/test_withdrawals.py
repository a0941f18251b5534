"""What workers are told of cancelled calls, where no broker can take them back."""

import time

import pytest
from conftest import PATIENCE

import dingo
from dingo.bridge import withdrawals
from dingo.bridge.memory import MemoryHerald, Wire
from dingo.bridge.news import Stop, Wish, read_wish, stop_frame
from dingo.bridge.withdrawals import Withdrawals
from dingo.errors import BadMessage


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def app():
    app = dingo.App("local")
    yield app
    app.close()


@pytest.fixture
def told(wire, app):
    told = Withdrawals(MemoryHerald(wire), app.hub, app.config)
    yield told
    told.close(PATIENCE)


def known(wire, expected):
    """Wait until this is what workers know."""
    worker, until = MemoryHerald(wire), time.monotonic() + PATIENCE
    while (now := [read_wish(one) for one in worker.wishes()]) != expected:
        assert time.monotonic() < until, now
        time.sleep(0.005)


def test_a_cancelled_call_is_told_until_it_has_ended(told, wire):
    told.add("add", "1")
    known(wire, [Stop(frozenset({("add", "1")}))])
    told.add("add", "2")
    told.add("sub", "1")
    known(wire, [Stop(frozenset({("add", "1"), ("add", "2"), ("sub", "1")}))])
    told.over("add", "1")
    told.over("other", "2")
    known(wire, [Stop(frozenset({("add", "2"), ("sub", "1")}))])
    told.over("add", "2")
    told.over("sub", "1")
    known(wire, [])
    told.add("add", "3")
    known(wire, [Stop(frozenset({("add", "3")}))])


def test_what_was_cancelled_last_is_told_before_the_end(told, wire):
    told.add("add", "1")
    told.close(PATIENCE)
    known(wire, [Stop(frozenset({("add", "1")}))])


def test_when_there_are_more_than_can_be_told_that_is_said_once(told, wire, app, monkeypatch):
    monkeypatch.setattr(withdrawals, "STOPS_MOST", 2)
    events = app.listen(level=dingo.Level.WARNING)
    for number in range(5):
        told.add("add", str(number))
    known(wire, [Stop(frozenset({("add", "3"), ("add", "4")}))])
    app.close()
    assert [event.code for event in events] == ["cancel.unsure"]


def test_wishes_and_stops_are_told_apart_and_what_is_neither_is_refused():
    assert read_wish(Wish(1, 10).frame()) == Wish(1, 10)
    assert read_wish(stop_frame([])) == Stop(frozenset())
    stops = (b'{"v":1,"k":"stop"}', b'{"v":1,"k":"stop","c":[["a","b"]]}', b'{"v":1,"k":"stop","c":{"a":1}}')
    for bad in (*stops, b"", b"{}", b'{"v":2,"k":"stop","c":{}}', b'{"v":1,"k":"news"}'):
        with pytest.raises(BadMessage):
            read_wish(bad)
