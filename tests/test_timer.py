"""Timer: alarms, never early."""

import threading
import time

import pytest

from dingo.timer import Timer


@pytest.fixture
def errors():
    return []


@pytest.fixture
def timer(errors):
    timer = Timer(errors.append)
    yield timer
    timer.close()


def test_an_alarm_is_called_not_before_its_time(timer):
    rang, at = threading.Event(), []
    due = timer.time() + 0.05
    timer.at(due, lambda: (at.append(time.time()), rang.set()))
    assert rang.wait(10)
    assert at[0] >= due


def test_an_alarm_in_the_past_is_called_at_once(timer):
    rang = threading.Event()
    timer.at(0, rang.set)
    assert rang.wait(10)


def test_alarms_are_called_in_the_order_they_are_due_and_then_in_that_of_being_set(timer):
    order = []
    now = timer.time()
    for delay, name in [(30, "c"), (10, "a"), (20, "b1"), (20, "b2")]:
        timer.at(now + delay, lambda name=name: order.append(name))
    timer.advance(60)
    assert order == ["a", "b1", "b2", "c"]


def test_advance_returns_after_what_is_due_has_been_called(timer):
    called = []
    timer.after(100, lambda: called.append(1))
    timer.after(300, lambda: called.append(2))
    timer.advance(200)
    assert called == [1]


def test_advance_from_an_alarm_does_not_wait_for_itself(timer):
    rang = threading.Event()
    timer.after(0, lambda: timer.advance(1000))
    timer.after(500, rang.set)
    assert rang.wait(10)


def test_an_earlier_alarm_set_later_is_called_first(timer):
    rang = threading.Event()
    timer.after(3600, lambda: None)
    timer.after(0, rang.set)
    assert rang.wait(10)


def test_a_cancelled_alarm_is_not_called(timer):
    called = []
    alarm = timer.after(10, lambda: called.append("cancelled"))
    timer.after(20, lambda: called.append("kept"))
    alarm.cancel()
    alarm.cancel()
    timer.advance(60)
    assert called == ["kept"]


def test_an_alarm_may_set_another(timer):
    rang = threading.Event()
    timer.after(0, lambda: timer.after(0, rang.set))
    assert rang.wait(10)


def test_an_alarm_that_raises_is_told_of_and_the_next_ones_ring(timer, errors):
    rang = threading.Event()

    def bad():
        raise RuntimeError("no")

    timer.after(0, bad)
    timer.after(0, rang.set)
    assert rang.wait(10)
    assert [str(error) for error in errors] == ["no"]


def test_nothing_is_called_after_close(timer):
    called = []
    timer.after(10, lambda: called.append(1))
    timer.close()
    timer.advance(60)
    timer.at(0, lambda: called.append(2))
    assert called == []


def test_no_thread_runs_before_the_first_alarm(timer):
    assert timer._thread is None


def test_cancelled_alarms_do_not_pile_up(timer):
    for _ in range(5000):
        timer.after(3600, lambda: None).cancel()
    assert len(timer._whiles.alarms) < 3000
