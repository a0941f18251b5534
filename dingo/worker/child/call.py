"""Call: what stands in a child where the parent has a Job, for the Context and `dingo.current()`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from dingo.job import Detail
from dingo.message.option import Option
from dingo.message.retry import Retry
from dingo.worker.child.cargo import dump, load
from dingo.worker.child.wire import ASK, PROGRESS, SAVED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dingo.job import Job
    from dingo.message.report import Failure, Progress, Status
    from dingo.worker.child.serve import Server


class Facts:
    """What the context of a call says. Made by the parent, at once or when the child asks."""

    __slots__ = ("attempt", "deadline", "due", "errors", "headers", "id", "name", "previous", "queue", "retries")

    def __init__(self, job: Job) -> None:
        plan, detail = job._plan, job._detail or Detail()
        self.id = job.id
        self.name = plan.name
        self.attempt = max(1, job.attempt)
        self.retries = plan.option.retry.max if plan.option.retry is not None else None
        self.headers = dict(plan.option.headers if detail.headers is None else detail.headers)
        self.queue = job.queue
        self.errors = detail.errors
        self.due = detail.due
        self.deadline = detail.deadline
        self.previous = detail.previous


class Seat:
    """The main thread of a child: it has one call at a time, and nobody stands in for it."""

    abandoned = False

    def __init__(self) -> None:
        self.job: Any = None

    def away(self) -> AbstractContextManager[None]:
        """Do nothing: the parent has other children."""
        return contextlib.nullcontext()

    def deadline_of(self, job: Job) -> float | None:
        """Return None: the call itself knows."""
        del job
        return None

    def help(self, job: Job) -> bool:
        """Return False: what waits here waits in another pool."""
        del job
        return False


class _Place:
    """Stands for the plan, the bridge and the config of a call, as far as a Context looks into them."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def bridge(self) -> _Place:
        return self

    @property
    def config(self) -> _Place:
        return self

    @property
    def state(self) -> Any:
        return self._call.server.state

    @property
    def queue(self) -> str:
        return self._call.facts.queue

    @property
    def option(self) -> Option:
        facts = self._call.facts
        retry = None if facts.retries is None else Retry(max=facts.retries)
        return Option(retry=retry, headers=facts.headers, queue=facts.queue, monitor_progress=True)


class Call:
    """The call that runs in this process."""

    __slots__ = ("_detail_made", "_facts", "number", "server")

    ended = False  # a call that nobody waits for any more is killed, and its process with it

    def __init__(self, server: Server, number: int, facts: Facts | None) -> None:
        self.server = server
        self.number = number
        self._facts = facts
        self._detail_made: Detail | None = None

    @property
    def facts(self) -> Facts:
        """What the parent says about it; asked for at the first look."""
        if self._facts is None:
            self._facts = load(self.server.ask(ASK, self.number))
            if self._facts is None:
                raise RuntimeError("the call has ended: its context must be looked at before that")
        return self._facts

    @property
    def _plan(self) -> Any:
        return _Place(self)

    @property
    def id(self) -> str:
        """Its id."""
        return self.facts.id

    @property
    def name(self) -> str:
        """The name of its task."""
        return self.facts.name

    @property
    def queue(self) -> str:
        """The queue it waited in."""
        return self.facts.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is."""
        return self.facts.attempt

    @property
    def _detail(self) -> Detail:
        return self.detail()

    def detail(self) -> Detail:
        """Return the rest of what a context shows."""
        if self._detail_made is None:
            facts, detail = self.facts, Detail()
            detail.errors, detail.headers, detail.previous = facts.errors, facts.headers, facts.previous
            detail.due, detail.deadline = facts.due, facts.deadline
            self._detail_made = detail
        return self._detail_made

    def mark(self, status: Status, value: Any = None, failure: Failure | None = None,
             progress: Progress | None = None) -> None:  # fmt: skip
        """Report to the parent. Raises where a value that is to be saved cannot be pickled."""
        del status, failure
        if progress is not None:
            self.server.send(PROGRESS, self.number, 0, dump((progress.done, progress.total, progress.message)))
        else:
            self.server.send(SAVED, self.number, 0, dump(value))
