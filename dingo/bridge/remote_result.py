"""RemoteResult: what a caller holds of a call that runs in another process."""

from __future__ import annotations

from typing import Any

from dingo.caller.result import Result
from dingo.message.report import Status


class RemoteResult(Result[Any]):
    """A Result whose function runs elsewhere. Its arguments are gone as soon as it is sent."""

    __slots__ = ()

    @property
    def status(self) -> Status:
        """Where it stands, as far as this process has been told."""
        if self._status >= Status.SUCCESS:
            return self._status
        if self._detail is not None and self._detail.status is not None:
            return self._detail.status
        if not self.started:
            return Status.PENDING
        under_way = getattr(self._plan.bridge, "under_way", ())
        return Status.PENDING if any(job is self or job.holds(self) for job, _ in under_way) else Status.SENT

    @property
    def attempt(self) -> int:
        """The attempt of the newest report; 0 before one came."""
        if self._detail is not None and self._detail.attempt:
            return self._detail.attempt
        return 1 if self._status in (Status.SUCCESS, Status.FAILURE) else 0
