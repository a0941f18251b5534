"""The order in which a worker claims from its queues."""

from collections import Counter

import pytest

import dingo
from dingo.bridge.turns import Turns


def claim(turns, stock, room):
    """Claim as a broker does: the best of the first queue first."""
    taken = []
    order = turns.order(())
    for name in order:
        while stock.get(name) and len(taken) < room:
            stock[name] -= 1
            taken.append(name)
    turns.took(order, taken)
    return taken


def test_without_weights_the_first_queue_comes_first_always():
    turns, stock = Turns(["a", "b"]), {"a": 5, "b": 5}
    assert claim(turns, stock, 7) == ["a"] * 5 + ["b"] * 2
    assert turns.order(()) == ("a", "b")
    assert turns.order({"a"}) == ("b",)


@pytest.mark.parametrize("room", [1, 4, 10])
def test_with_weights_each_queue_gets_its_share(room):
    turns, stock = Turns(["a=3", "b=1", "c"]), dict.fromkeys("abc", 10_000)
    shares = Counter()
    for _ in range(1000 // room):
        shares.update(claim(turns, stock, room))
    assert abs(shares["a"] - 600) <= 2 * room
    assert abs(shares["b"] - 200) <= 2 * room
    assert abs(shares["c"] - 200) <= 2 * room


def test_single_claims_are_mixed_smoothly():
    turns, stock = Turns(["a=3", "b=1"]), {"a": 100, "b": 100}
    assert all(
        Counter(one[0] for one in [claim(turns, stock, 1) for _ in range(4)]) == {"a": 3, "b": 1} for _ in range(10)
    )


def test_a_queue_that_was_empty_does_not_make_up_for_it():
    turns, stock = Turns(["a=1", "b=1"]), {"a": 1000}
    for _ in range(500):
        claim(turns, stock, 1)
    stock["b"] = 1000
    shares = Counter(claim(turns, stock, 1)[0] for _ in range(100))
    assert 49 <= shares["a"] <= 51


@pytest.mark.parametrize("text", ["a=0", "a=x", "a=", "=3", "a=-1", "a=nan", ""])
def test_wrong_weights_are_refused(text):
    with pytest.raises(dingo.BadConfig, match="queue"):
        Turns([text])
    with pytest.raises(dingo.BadConfig, match="queue"):
        dingo.Config(queues=[text])


def test_queues_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("DINGO_QUEUES", "a=3, b")
    assert dingo.Config.from_env().queues == ("a=3", "b")
