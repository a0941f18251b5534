"""The calls of a process that have not ended, over a broker: single ones, packs, and how many more there may be."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from dingo.blocking import away
from dingo.bridge.packing import PackedCalls
from dingo.errors import QueueFull
from dingo.message import packed

if TYPE_CHECKING:
    from dingo.config import Config
    from dingo.job import Job

# Over a broker a caller that sends faster than the broker takes would grow for ever.
MAX_PENDING = 100_000


class OpenCalls:
    """Whoever calls enters them, whoever ends one drops it. Any thread may do either."""

    def __init__(self, config: Config) -> None:
        self.by_id: dict[str, Job | PackedCalls] = {}
        """The calls whose reports are waited for; those in a pack stand there by the id of the pack.

        Who comes to an id that a call of another name has, stands there by both: ids are a user's own business.
        """
        self._namesakes = False  # whether there ever was one
        self._room = threading.Condition()
        self._waiters = 0  # how many callers wait for room
        self._in_packs = 0  # how many calls there are in packs beyond the packs themselves
        self._ignored = self._ignored_sent = 0  # how many calls that nobody waits for were taken, and sent
        self._ignored_numbers = itertools.count(1)
        self._closed = False
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go by the `max_pending` and `when_full` of a configuration."""
        self._limit = config.max_pending or MAX_PENDING
        self._waits = config.when_full != "raise"

    def count(self) -> int:
        """How many calls this process holds."""
        return len(self.by_id) + self._in_packs + self._ignored - self._ignored_sent

    def take_room(self) -> None:
        """Return when there is room for another call. Raises QueueFull."""
        if self.count() < self._limit:
            return
        if not self._waits:
            raise QueueFull(
                f"{self._limit} calls (max_pending) have not ended, or have not been sent where their reports are "
                'ignored: wait for some, or set when_full="wait"'
            )
        with away(), self._room:
            self._waiters += 1
            try:
                self._room.wait_for(lambda: self.count() < self._limit or self._closed)
            finally:
                self._waiters -= 1

    def enter(self, job: Job) -> bool:
        """Hold a call. False: one of that name and id is held already."""
        if self._namesakes and (held := self.by_id.get(_both(job.id, job.name))) is not None:
            return held is job
        held = self.by_id.setdefault(job.id, job)
        if held is job or held.name == job.name:
            return held is job
        self._namesakes = True
        return self.by_id.setdefault(_both(job.id, job.name), job) is job

    def enter_pack(self, pack: PackedCalls) -> None:
        """Hold the calls of a pack."""
        with self._room:
            self._in_packs += len(pack.jobs) - 1
        self.by_id[pack.id] = pack

    def enter_ignored(self) -> None:
        """Count a call whose report nobody waits for, until it is sent."""
        self._ignored = next(self._ignored_numbers)

    @property
    def awaits_sending(self) -> bool:
        """Whether there are calls whose reports nobody waits for and that have not been sent."""
        return self._ignored != self._ignored_sent

    def ignored_are_sent(self, count: int) -> None:
        """Count so many of them no more. For the sender's thread only."""
        self._ignored_sent += count
        if self._waiters:
            with self._room:
                self._room.notify_all()

    def get(self, call_id: str, name: str) -> Job | None:
        """Return the call of that id and name, single or in a pack."""
        job = self.by_id.get(call_id)
        if job is None or job.name != name:
            job = self.by_id.get(_both(call_id, name)) if self._namesakes else None
        if job is None and (member := packed.member_of(call_id)) is not None:
            pack = self.by_id.get(member.pack)
            return pack.jobs[member.number] if isinstance(pack, PackedCalls) and pack.name == name else None
        return None if isinstance(job, PackedCalls) else job

    def drop(self, job: Job | PackedCalls) -> PackedCalls | None:
        """Hold a call or a pack no more. Returns the pack of a call that was the last open one of it."""
        key = job._id or ""
        if self._namesakes and self.by_id.get(key) is not job:
            key = _both(key, job.name)
        found = self.by_id.pop(key, None)
        emptied = None
        if found is None:
            emptied = self._drop_member(job._id or "")
        elif isinstance(found, PackedCalls):
            with self._room:
                self._in_packs -= len(found.jobs) - 1
        if self._waiters:  # who comes later looks at `by_id` after having made itself known
            with self._room:
                self._room.notify()
        return emptied

    def _drop_member(self, call_id: str) -> PackedCalls | None:
        member = packed.member_of(call_id)
        pack = None if member is None else self.by_id.get(member.pack)
        if member is None or not isinstance(pack, PackedCalls):
            return None
        pack.left.discard(member.number)
        return None if pack.left else pack

    def close(self) -> None:
        """Let nobody wait for room any longer."""
        self._closed = True
        with self._room:
            self._room.notify_all()


def _both(call_id: str, name: str) -> str:
    return f"{call_id}\0{name}"
