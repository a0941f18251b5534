"""Status, Failure and Report."""

import dataclasses
import pickle

import pytest

from dingo import Code, Failure, Progress, Report, Status
from dingo.message.report import MESSAGE_LIMIT, TRACEBACK_LIMIT


def test_statuses_are_in_order():
    names = ["PENDING", "SENT", "RECEIVED", "STARTED", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "CANCELLED"]
    assert [status.name for status in sorted(Status)] == names


def test_three_statuses_are_final():
    assert [status.name for status in Status if status.final] == ["SUCCESS", "FAILURE", "CANCELLED"]


def test_codes_are_their_names_as_text():
    assert all(code == code.name and isinstance(code, str) for code in Code)
    named = "EXCEPTION BAD_ARGUMENTS BAD_RETURN NOT_REGISTERED TIMEOUT EXPIRED SHUTDOWN WORKER_LOST POISONED"
    assert {*named.split(), "BAD_MESSAGE", "NOT_SENT"} <= set(Code)


@pytest.mark.parametrize("value", [Report("1", "a", Status.SENT), Failure(Code.TIMEOUT), Progress(1)])
def test_reports_are_frozen_and_travel(value):
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)
    assert pickle.loads(pickle.dumps(value)) == value


def caught(error):
    try:
        raise error
    except BaseException as raised:
        return raised


def test_a_failure_tells_type_text_and_traceback():
    failure = Failure.of(Code.EXCEPTION, caught(ValueError("bad seed")))
    assert (failure.code, failure.type, failure.message) == (Code.EXCEPTION, "ValueError", "bad seed")
    assert "in caught" in failure.traceback
    assert "ValueError: bad seed" in failure.traceback
    assert str(failure) == "[EXCEPTION] ValueError: bad seed"


def test_an_exception_that_cannot_be_printed_is_described_all_the_same():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError("no")

    failure = Failure.of(Code.EXCEPTION, caught(Broken()))
    assert failure.type == "Broken"
    assert "whose __str__ raised RuntimeError" in failure.message


def test_long_texts_are_cut_at_the_interesting_end():
    failure = Failure.of(Code.EXCEPTION, caught(ValueError("x" * 10**6)))
    assert len(failure.message) == MESSAGE_LIMIT
    assert len(failure.traceback) <= TRACEBACK_LIMIT
    deep = Failure.of(Code.EXCEPTION, caught(ValueError("the end")))
    assert deep.traceback.rstrip().endswith("the end")


def test_an_exception_never_raised_has_no_traceback():
    assert Failure.of(Code.TIMEOUT, TimeoutError("late")).traceback == ""
