"""The arithmetic of limits: starts, turns, and when to come for a place."""

from dingo.bridge.ledger import BURST, HORIZON, STEP_MOST, Pace

NOW = 1_800_000_000.0


def test_starts_are_evenly_spaced_and_only_a_little_is_caught_up_with():
    pace, starts, now = Pace(), [], NOW
    while now < NOW + 10:
        if pace.start(5.0, now):
            starts.append(now)
        now += 0.001 if now < NOW + 2 or now > NOW + 8 else 6.0  # nobody asks for six seconds
    assert len(starts) <= (10 - 6 + BURST) * 5 + 2
    assert all(later - before >= 0.15 - 1e-6 for before, later in zip(starts, starts[1:], strict=False))


def test_a_clock_that_is_set_back_does_not_stop_the_starts():
    pace = Pace()
    assert pace.start(10.0, NOW)
    assert not pace.start(10.0, NOW - 3600)
    assert pace.start(10.0, NOW - 3600 + 0.11)


def test_a_new_rate_holds_from_its_first_start():
    pace = Pace()
    assert pace.start(1 / 3600, NOW)
    assert not pace.start(10.0, NOW)
    assert pace.start(10.0, NOW + 0.11)


def test_turns_are_one_interval_apart_and_nobody_is_sent_away_for_long():
    pace = Pace()
    assert pace.start(10.0, NOW)
    turns = [pace.turn(NOW, had_one=False) for _ in range(5000)]
    given = [turn for turn in turns if turn is not None]
    assert all(abs(later - before - 0.1) < 1e-3 for before, later in zip(given, given[1:], strict=False))
    assert HORIZON - 1 < given[-1] - NOW < HORIZON + 1
    assert len(given) < len(turns)
    assert pace.turn(NOW, had_one=True) - NOW < 1  # who has waited once does not stand behind all the others


def test_who_waits_for_a_place_comes_the_later_the_more_there_are():
    pace = Pace()
    pace.given_back(60.0)
    waits = [pace.come_again(1, NOW) for _ in range(5000)]
    assert waits[:100] == sorted(waits[:100])
    assert abs(waits[99] - 100 * STEP_MOST) < 1e-3
    assert max(waits) <= HORIZON + STEP_MOST
