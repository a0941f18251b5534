"""What is SQLite's own: how long the file is locked, and what becomes of a claim that fails half-way."""

import sqlite3
from functools import partial

import pytest
from by_url import ByURL

from dingo.contracts import Settlement
from dingo.errors import BrokerUnavailable
from dingo.kombu.sqlite import database
from dingo.kombu.sqlite.rows import SIZES, portions
from dingo.testing.suites.making import envelope, opened, report

MANY = 500


class Watched(sqlite3.Connection):
    """A connection that tells its statements, and fails with some of them once."""

    said: list[str]
    failing: list[str]

    def execute(self, statement, *values):
        for start in self.failing:
            if statement.startswith(start):
                self.failing.remove(start)
                raise sqlite3.OperationalError("disk I/O error")
        return super().execute(statement, *values)


@pytest.fixture
def watched(monkeypatch):
    """Watch all connections to files that are opened from now on."""
    Watched.said, Watched.failing = [], []

    def connect(*args, **options):
        connection = sqlite_connect(*args, **options, factory=Watched)
        connection.set_trace_callback(Watched.said.append)
        return connection

    sqlite_connect = sqlite3.connect
    monkeypatch.setattr(database.sqlite3, "connect", connect)
    return Watched


@pytest.fixture
def parts(tmp_path, watched):
    """Return what makes and opens the parts of a broker."""
    yield from opened(ByURL(f"sqlite:///{tmp_path}/jobs.db"))


def written_in(watched, act):
    """Return the statements that wrote while `act` was done."""
    watched.said.clear()
    act()
    verbs = ("INSERT", "UPDATE", "DELETE")
    return [one for one in watched.said if one.startswith(verbs)]


def test_many_tasks_are_sent_claimed_and_settled_in_few_statements(parts, watched):
    """Between two of them the file stays locked for as long as other threads keep the interpreter to themselves."""
    producer, worker = parts("producer"), parts("worker")
    producer.send([envelope("warm")])
    tasks = [envelope(str(number), reply="me") for number in range(MANY)]
    claimed = []
    assert len(written_in(watched, partial(producer.send, tasks))) == 1
    assert len(written_in(watched, lambda: claimed.extend(worker.claim(["default"], MANY + 1, 1.0)))) == 1
    settlements = [Settlement(one, reports=[report(one.envelope.id, reply="me")]) for one in claimed]
    assert len(settlements) == MANY + 1
    assert len(written_in(watched, lambda: worker.settle(settlements))) == 4  # 500 and 1 of each kind


def test_what_was_claimed_when_reading_it_failed_comes_with_the_next_claim(parts, watched):
    """The file says that this worker has it, so nobody else would ever run it."""
    parts("producer").send([envelope("1"), envelope("2")])
    worker = parts("worker")
    watched.failing.append("SELECT seq, id")
    with pytest.raises(BrokerUnavailable, match="disk I/O"):
        worker.claim(["default"], 10, 1.0)
    claimed = worker.claim(["default"], 10, 1.0)
    assert [one.envelope.id for one in claimed] == ["1", "2"]
    assert worker.settle([Settlement(one) for one in claimed]) == []


@pytest.mark.parametrize("count", [0, 1, 3, 499, 1000, 1234])
def test_rows_are_parted_into_few_of_known_sizes(count):
    """None is left out, and none comes twice."""
    parted = list(portions([(number, "x") for number in range(count)]))
    assert [number for _, values in parted for number in values[::2]] == list(range(count))
    assert all(len(values) == 2 * size and size in SIZES for size, values in parted)
    assert len(parted) <= 12
