"""Directory: which call has which id, for looking a call up by its id alone.

A call enters when its id is first read or was given: most never do. Locally it is known while somebody holds
its Result, and among the newest finished ones; `keep_result` holds it for a time after its end.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from dingo.errors import BadOption, ResultNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dingo.job import Job
    from dingo.message.report import Status


class DefaultIDMaker:
    """Ids that are unique everywhere: 80 random bits per process, then a count."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Draw a new prefix: after a fork the child must not repeat its parent's ids."""
        self._prefix = os.urandom(10).hex()
        self._number = itertools.count(1)

    def new_id(self) -> str:
        """Return an id never returned before, by any process."""
        return f"{self._prefix}{next(self._number):012x}"


def is_default_id(id: str) -> bool:
    """Whether it looks like one of these, alone or in a pack: then only one call has it."""
    return re.fullmatch(r"[0-9a-f]{32}(?:p[0-9]+(?:i[0-9]+)?)?", id) is not None


class SequenceIDMaker:
    """Ids that count from 1: short and readable, unique only within this object."""

    def __init__(self) -> None:
        self._number = itertools.count(1)

    def new_id(self) -> str:
        """Return the next number, as text."""
        return str(next(self._number))


class UUIDMaker:
    """Ids that are random UUIDs (version 4), for systems that expect them."""

    def new_id(self) -> str:
        """Return a new UUID, as text."""
        from uuid import uuid4  # noqa: PLC0415 - only for those who use it

        return str(uuid4())


class Directory:
    """The calls that can be looked up. Any thread may use it."""

    def __init__(self, keep: int, keep_bytes: int) -> None:
        self._lock = threading.RLock()
        self._calls: weakref.WeakValueDictionary[tuple[str, str], Job] = weakref.WeakValueDictionary()
        self._newest: deque[tuple[Job, int]] = deque()
        self._newest_bytes = 0
        self._keep = keep
        self._keep_bytes = keep_bytes

    def enter(self, job: Job, make_id: Any) -> str:
        """Give a call its id, unless it has one."""
        with self._lock:
            if job._id is not None:
                return job._id
            made = self._write(job, make_id())
        if not job.watch(callback=self._ended):
            self._ended(job)
        return made

    def remember(self, job: Job) -> None:
        """Keep an ended call whose id nobody has asked for: somebody may look for it among the failed ones."""
        if job._id is None:
            job._plan.identify(job)

    def enter_as(self, job: Job, id: str) -> None:
        """Give a call the id its caller chose. Raises BadOption while another call of that name has it."""
        with self._lock:
            other = self._calls.get((job.name, id))
            if other is not None and not other.ended:
                raise BadOption(f"id {id!r} belongs to a call of {job.name!r} that has not ended: choose another")
            self._write(job, id)
        job.watch(callback=self._ended)

    def _write(self, job: Job, id: object) -> str:
        if not isinstance(id, str) or not id:
            raise BadOption(f"the id maker of task {job.name!r} returned {id!r}: an id is a text with characters")
        job._id = id
        self._calls[job.name, id] = job
        return id

    def find(self, id: str, names: Iterable[str]) -> Job:
        """Look a call up among tasks of these names. Raises ResultNotFound."""
        with self._lock:
            found = [job for name in names if (job := self._calls.get((name, id))) is not None]
        if len(found) > 1:
            several = ", ".join(job.name for job in found)
            raise ResultNotFound(f"id {id!r} belongs to calls of several tasks ({several}): give the name too")
        if not found:
            raise ResultNotFound(f"no call with id {id!r} is known here: it never was, or nobody kept its result")
        return found[0]

    def forget(self, job: Job) -> None:
        """Let go of a call: it cannot be looked up any more."""
        with self._lock:
            self._calls.pop((job.name, job.id), None)
            kept = [(one, size) for one, size in self._newest if one is not job]
            self._newest = deque(kept)
            self._newest_bytes = sum(size for _, size in kept)

    def renew(self) -> list[Job]:
        """In the child of a fork: renew the lock and return all calls that are known."""
        self._lock = threading.RLock()
        return list(self._calls.values())

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._calls.clear()
            self._newest.clear()
            self._newest_bytes = 0

    def ended(self, status: Status) -> list[Job]:
        """Return the calls that ended so and can be looked up now, oldest first."""
        with self._lock:
            found = [job for job in self._calls.values() if job._status is status]
        return sorted(found, key=lambda job: job._time)

    def _ended(self, job: Job) -> None:
        size = _size_of(job._value)
        with self._lock:
            self._newest.append((job, size))
            self._newest_bytes += size
            while self._newest and (len(self._newest) > self._keep or self._newest_bytes > self._keep_bytes):
                self._newest_bytes -= self._newest.popleft()[1]


def _size_of(value: Any) -> int:
    """Estimate what keeping a value costs, in bytes: itself, not what it refers to (arrays know theirs)."""
    try:
        return int(getattr(value, "nbytes", 0) or 0) + sys.getsizeof(value, 0)
    except Exception:  # the value's own words about its size
        return 0
