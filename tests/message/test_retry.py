"""Retry: the arithmetic of waiting."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dingo
from dingo import Retry

ATTEMPTS = st.integers(1, 10**9)
SECONDS = st.floats(0, 1e6)
NAMES = st.sampled_from(["fibonacci", "exponential", "fixed"])


def waits(**fields):
    return [Retry(jitter=False, **fields).delay(attempt) for attempt in range(1, 7)]


def test_fibonacci_is_1_2_3_5_8():
    assert waits(backoff="fibonacci") == [1, 2, 3, 5, 8, 13]


def test_exponential_doubles():
    assert waits(backoff="exponential") == [1, 2, 4, 8, 16, 32]


def test_fixed_stays():
    assert waits(backoff="fixed", base=7) == [7] * 6


def test_base_scales_and_cap_bounds():
    assert waits(backoff="fibonacci", base=10, cap=45) == [10, 20, 30, 45, 45, 45]


def test_a_callable_says_the_seconds_itself():
    assert waits(backoff=lambda n: n * 100, cap=450) == [100, 200, 300, 400, 450, 450]


def test_a_callable_that_says_nonsense_means_at_once():
    assert waits(backoff=lambda n: -5.0) == [0] * 6
    assert waits(backoff=lambda n: math.nan) == [0] * 6


@given(ATTEMPTS)
def test_fibonacci_grows_by_adding_up(attempt):
    policy = Retry(backoff="fibonacci", jitter=False, cap=1e12)
    if attempt > 2:
        both = policy.delay(attempt - 1) + policy.delay(attempt - 2)
        assert policy.delay(attempt) == min(1e12, both)


@given(NAMES, ATTEMPTS, SECONDS, SECONDS, st.booleans())
def test_a_wait_is_a_finite_number_from_zero_to_the_cap(backoff, attempt, base, cap, jitter):
    delay = Retry(backoff=backoff, base=base, cap=cap, jitter=jitter).delay(attempt)
    assert 0 <= delay <= cap


@given(NAMES, ATTEMPTS)
def test_a_base_of_zero_never_waits(backoff, attempt):
    assert Retry(backoff=backoff, base=0, jitter=False).delay(attempt) == 0


@given(st.sampled_from(["fibonacci", "fixed"]), ATTEMPTS, SECONDS)
def test_jitter_stays_within_a_quarter(backoff, attempt, base):
    plain = Retry(backoff=backoff, base=base, cap=1e9, jitter=False).delay(attempt)
    drawn = Retry(backoff=backoff, base=base, cap=1e9).delay(attempt)
    assert plain * 0.75 <= drawn <= min(1e9, plain * 1.25)


@given(ATTEMPTS, SECONDS)
def test_exponential_jitter_is_anything_up_to_the_full_wait(attempt, base):
    plain = Retry(backoff="exponential", base=base, jitter=False).delay(attempt)
    assert 0 <= Retry(backoff="exponential", base=base).delay(attempt) <= plain


def test_jitter_spreads():
    assert len({Retry(base=100).delay(3) for _ in range(50)}) > 10


@pytest.mark.parametrize(
    "fields",
    [
        {"max": -1}, {"max": 1.0}, {"max": True}, {"max": math.inf}, {"backoff": "linear"}, {"base": -1},
        {"base": math.nan},
        {"base": True}, {"cap": math.inf}, {"cap": "600"}, {"on": (int,)}, {"on": ("ValueError",)},
        {"give_up_on": [None]},
        {"on": 5}, {"jitter": "much"},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused_when_it_is_made(fields):
    with pytest.raises(dingo.BadOption, match=f"Retry.{next(iter(fields))}"):
        Retry(**fields)


def test_wants_what_is_in_on_and_not_in_give_up_on():
    policy = Retry(on=(OSError, ValueError), give_up_on=(FileNotFoundError,))
    assert policy.wants(PermissionError())
    assert policy.wants(ValueError())
    assert not policy.wants(FileNotFoundError())
    assert not policy.wants(KeyError())


def test_one_class_stands_for_a_tuple_of_one():
    assert Retry(on=ValueError, give_up_on=UnicodeError).on == (ValueError,)


def test_a_class_may_be_named_instead_and_its_subclasses_are_meant_too():
    policy = dingo.Retry(on="builtins.OSError", give_up_on=("builtins.ConnectionError",))
    assert policy.wants(FileNotFoundError())
    assert not policy.wants(ConnectionResetError())
    assert not policy.wants(ValueError())


def test_base_exceptions_are_not_retried_unless_named():
    assert not Retry().wants(KeyboardInterrupt())
    assert Retry(on=(BaseException,)).wants(KeyboardInterrupt())
