"""Suspects: who is started together, who alone, and who not at all."""

from types import SimpleNamespace

import pytest

from dingo.bridge.suspects import Suspects
from dingo.contracts import Delivery, Envelope
from dingo.message.report import Code


def suspect(number, starts=0, *, redeliver=True, ended=False):
    option = SimpleNamespace(redeliver=redeliver)
    delivery = Delivery(Envelope(str(number), "task", "default", b""), number, suspect=True, starts=starts)
    return SimpleNamespace(id=number, delivery=delivery, ended=ended, _plan=SimpleNamespace(option=option))


class Worker:
    """Records what is started; nothing ends before it is told to."""

    def __init__(self, jobs, *, groups=True, records=True):
        self.records = records
        self.groups, self.put, self.unrun = [], [], []
        self.suspects = Suspects(
            self.record, lambda job: self.put.append(job.id), lambda *told: self.unrun.append(told), groups=groups
        )
        for job in jobs:
            self.suspects.add(job)
        self.jobs = jobs

    def record(self, group):
        self.groups.append([job.id for job in group])
        self.newest = group
        return self.records

    def run_all(self):
        self.suspects.turn()
        while self.suspects._running:
            for job in self.newest:
                self.suspects.turn()  # which starts no more while some run
                self.suspects.left(job.delivery)
            self.suspects.turn()
        return self.groups


def test_groups_grow_while_the_worker_lives():
    worker = Worker([suspect(number) for number in range(200)])
    groups = worker.run_all()
    assert [len(group) for group in groups] == [1, 2, 4, 8, 16, 32, 64, 64, 9]
    assert worker.put == list(range(200))


def test_where_starts_are_recorded_singly_each_runs_alone():
    groups = Worker([suspect(number) for number in range(5)], groups=False).run_all()
    assert groups == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("other", [{"starts": 1}, {"starts": 2}, {"redeliver": False}])
def test_who_has_a_start_recorded_or_may_run_once_only_runs_alone(other):
    jobs = [suspect(0), suspect(1), suspect(2), suspect(3, **other), suspect(4), suspect(5)]
    assert Worker(jobs).run_all() == [[0], [1, 2], [3], [4, 5]]


def test_what_is_not_to_run_again_ends_unrun():
    jobs = [suspect(0, 3), suspect(1, 1, redeliver=False), suspect(2, ended=True), suspect(3)]
    worker = Worker(jobs)
    assert worker.run_all() == [[3]]
    assert [(job.id, code) for job, code, _ in worker.unrun] == [(0, Code.POISONED), (1, Code.WORKER_LOST)]


def test_a_group_whose_starts_cannot_be_recorded_is_not_put():
    worker = Worker([suspect(0), suspect(1)], records=False)
    worker.suspects.turn()
    assert (worker.groups, worker.put) == ([[0]], [])
    worker.suspects.left(Delivery(Envelope("x", "task", "default", b""), 0, suspect=True))  # another one
    worker.suspects.turn()
    assert [job.id for job in worker.suspects.waiting()] == [1]


def test_killers_among_many_are_found_out_and_harm_nobody():
    """A worker dies of each killer that runs; the next gets all that is left, and the starts that were recorded."""
    killers, left, deaths, ended = {7, 40}, dict.fromkeys(range(60), 0), 0, []
    while left:
        worker = Worker([suspect(number, starts) for number, starts in left.items()])
        worker.suspects.turn()
        while worker.suspects._running:
            for job in worker.newest:
                left[job.id] += 1
            if killers & {job.id for job in worker.newest}:
                deaths += 1
                break
            for job in worker.newest:
                del left[job.id]
                worker.suspects.left(job.delivery)
            worker.suspects.turn()
        for job, code, _ in worker.unrun:
            assert code is Code.POISONED
            ended.append(job.id)
            left.pop(job.id, None)
    assert set(ended) == killers
    assert deaths == 3 * len(killers)
