"""Suspects: who is started together, who alone, and who not at all."""

from types import SimpleNamespace

import pytest

from dingo.bridge import suspects
from dingo.bridge.suspects import Suspects
from dingo.contracts import Delivery, Envelope
from dingo.message.report import Code


def suspect(number, starts=0, *, redeliver=True, ended=False):
    option = SimpleNamespace(redeliver=redeliver)
    delivery = Delivery(Envelope(str(number), "task", "default", b""), number, suspect=True, starts=starts)
    return SimpleNamespace(id=number, delivery=delivery, ended=ended, _plan=SimpleNamespace(option=option))


class Worker:
    """Notes what is started; nothing ends before it is told to."""

    def __init__(self, jobs, *, groups=True):
        self.groups, self.unrun = [], []
        self.suspects = Suspects(self.start, lambda *told: self.unrun.append(told), groups=groups)
        for job in jobs:
            self.suspects.add(job)
        self.jobs = jobs

    def start(self, group):
        self.groups.append([job.id for job in group])
        self.newest = group
        for job in group:
            job.delivery.starts += 1

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
    assert [len(group) for group in worker.run_all()] == [1, 2, 4, 8, 16, 32, 64, 64, 9]
    assert sum(worker.groups, []) == list(range(200))


def test_where_starts_are_recorded_singly_each_runs_alone():
    groups = Worker([suspect(number) for number in range(5)], groups=False).run_all()
    assert groups == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("other", [{"starts": 1}, {"redeliver": False}])
def test_who_has_a_start_recorded_or_may_run_once_only_runs_alone(other):
    jobs = [suspect(0), suspect(1), suspect(2), suspect(3, **other), suspect(4), suspect(5)]
    assert Worker(jobs).run_all() == [[0], [1, 2], [3], [4, 5]]


def test_what_is_not_to_run_again_ends_unrun():
    jobs = [suspect(0, 2), suspect(1, 1, redeliver=False), suspect(2, ended=True), suspect(3)]
    worker = Worker(jobs)
    assert worker.run_all() == [[3]]
    assert [(job.id, code) for job, code, _ in worker.unrun] == [(0, Code.POISONED), (1, Code.WORKER_LOST)]


def test_nobody_waits_for_a_task_that_runs_long(monkeypatch):
    worker = Worker([suspect(number) for number in range(4)])
    worker.suspects.turn()
    worker.suspects.turn()
    assert worker.groups == [[0]]
    late = worker.suspects._alone_until
    monkeypatch.setattr(suspects, "monotonic", lambda: late)
    worker.suspects.turn()
    worker.suspects.turn()
    assert worker.groups == [[0], [1, 2]]


def test_of_those_with_a_start_recorded_no_two_run_at_once_and_others_pass_them(monkeypatch):
    jobs = [suspect(0, 1), suspect(1, 1), suspect(2, 2), suspect(3), suspect(4, redeliver=False)]
    worker = Worker(jobs)
    now = 0.0
    monkeypatch.setattr(suspects, "monotonic", lambda: now)
    for _ in jobs:
        now += suspects.ALONE_FOR
        worker.suspects.turn()
    assert worker.groups == [[0], [3], [4]]
    assert [job.id for job, _, _ in worker.unrun] == [2]
    worker.suspects.left(jobs[0].delivery)
    now += suspects.ALONE_FOR
    worker.suspects.turn()
    assert worker.groups == [[0], [3], [4], [1]]


def test_that_another_delivery_is_settled_starts_nobody():
    worker = Worker([suspect(0), suspect(1)])
    worker.suspects.turn()
    worker.suspects.left(Delivery(Envelope("x", "task", "default", b""), 0, suspect=True))
    worker.suspects.turn()
    assert [job.id for job in worker.suspects.waiting()] == [1]


def test_killers_among_many_are_found_out_and_harm_nobody():
    """A worker dies of each killer that runs; the next gets all that is left, and the starts that were recorded."""
    killers, left, deaths, ended = {7, 40}, dict.fromkeys(range(60), 0), 1, []  # they were claimed by one who died
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
    assert deaths == 1 + 2 * len(killers)
