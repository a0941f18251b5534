"""Expiry: calls made within a moment share when they expire, and none does early."""

from math import inf

import pytest

from dingo.worker.expiry import Expiries


class FakeTimer:
    """A timer whose time stands still until it is moved."""

    def __init__(self):
        self.now, self.ahead, self.alarms = 100.0, 0.0, []

    def clock(self):
        return self.now + self.ahead

    def after(self, seconds, fn):
        self.alarms.append((seconds, fn))

    def ring(self):
        alarms, self.alarms = self.alarms, []
        for _, fn in alarms:
            fn()


@pytest.fixture
def timer():
    return FakeTimer()


def take(expiries):
    """Do what a call does."""
    expiry = expiries.now
    if not expiries.going:
        expiries.begin()
    return expiry


def test_calls_of_one_moment_share_an_expiry_that_is_reckoned_from_its_end(timer):
    expiries = Expiries(timer, 60.0)
    first = take(expiries)
    timer.now += 0.04
    assert take(expiries) is first
    assert (first.until, len(timer.alarms)) == (inf, 1)
    timer.now += 3.0  # the process was held up
    timer.ring()
    assert first.until == timer.now + 60


def test_the_next_moment_begins_with_the_next_call(timer):
    expiries = Expiries(timer, 60.0)
    first = take(expiries)
    timer.ring()
    assert timer.alarms == []
    timer.now += 1000
    second = take(expiries)
    timer.ring()
    assert (first.until, second.until) == (160.0, 1160.0)


def test_a_call_that_comes_while_a_moment_ends_is_not_forgotten(timer):
    expiries = Expiries(timer, 60.0)
    take(expiries)
    taken = []
    clock = timer.clock
    timer.clock = lambda: (taken.append(take(expiries)), clock())[1]
    timer.ring()
    timer.clock = clock
    assert taken[0].until == inf
    timer.ring()
    assert taken[0].until == 160.0


def test_putting_the_clock_forward_ages_the_calls_made_before(timer):
    expiries = Expiries(timer, 60.0)
    expiry = take(expiries)
    timer.ahead += 60
    timer.ring()
    assert expiry.until <= timer.clock()
