"""Reconnect: what makes one, and what does not."""

import math

import pytest
from saying import refusal

from dingo.config import Config, Reconnect


def test_reconnect_takes_the_name_of_a_policy():
    assert Config(reconnect="fibonacci").reconnect == Reconnect("fibonacci")


def test_reconnect_takes_a_mapping():
    assert Config(reconnect={"policy": "fixed", "tries": 3}).reconnect == Reconnect("fixed", tries=3)


def test_reconnect_takes_fields_in_text():
    made = Reconnect.of("fixed, tries=5, base=1.5, jitter=no")
    assert made == Reconnect("fixed", tries=5, base=1.5, jitter=False)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"policy": "linear"}, "policy"),
        ({"tries": 0}, "tries"),
        ({"tries": True}, "tries"),
        ({"base": 0}, "base"),
        ({"base": math.nan}, "base"),
        ({"cap": -1}, "cap"),
        ({"base": 2, "cap": 1}, "cap must be >= base"),
        ({"jitter": 1}, "jitter"),
        ({"trys": 3}, "'tries'"),
    ],
)
def test_reconnect_refuses(fields, named):
    assert named in refusal(Reconnect, **fields)


@pytest.mark.parametrize("value", ["fixed,tris=3", {"tris": 3}])
def test_an_unknown_field_of_reconnect_names_the_nearest(value):
    assert "'tries'" in refusal(Config, reconnect=value)


def test_a_key_of_reconnect_that_is_no_text_is_refused():
    assert "unknown key 1" in refusal(Reconnect.of, {1: 2})


def test_a_field_given_twice_in_text_is_refused():
    assert "twice" in refusal(Reconnect.of, "fixed,tries=1,tries=2")
