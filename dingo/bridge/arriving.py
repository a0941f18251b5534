"""Reports that come home to a caller over a broker: read, checked, and made the ends of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.bridge.packing import PackedCalls
from dingo.bridge.short import Returns, plain_id
from dingo.errors import BadMessage, BadReturn
from dingo.events import Level, Origin
from dingo.job import Fault
from dingo.message import packed
from dingo.message.frame import NotForUs, unpack
from dingo.message.report import Code, Failure, Report, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.bridge.codec import Codec
    from dingo.bridge.open_calls import OpenCalls
    from dingo.config import Config
    from dingo.events import Hub
    from dingo.job import Job


_FINAL = tuple(one.value for one in Status if one.final)


class Arrivals:
    """Ends open calls as their reports say. Plain successes take a short way."""

    def __init__(self, config: Config, hub: Hub, codec: Codec, open_calls: OpenCalls,
                 forget: Callable[[Job | PackedCalls], None]) -> None:  # fmt: skip
        self.config = config
        self.seconds: dict[str, float] = {}
        """How long calls of a task take, by its name, as workers say."""
        self._hub = hub
        self._codec = codec
        self._open_calls = open_calls
        self._forget = forget
        self._returns = Returns()
        self.unclaimed: Callable[[str, str], object] | None = None
        """Told the name and id of calls that have ended without anybody waiting for it here."""

    def receive(self, data: bytes) -> None:
        """Take the reports that came together."""
        try:
            for frame in unpack(data):
                self._take_report(frame)
        except BadMessage as error:
            self.refuse(error)

    def _take_report(self, frame: bytes) -> None:
        if self._take_success(frame):
            return
        try:
            header, body = self._codec.open_report(frame)
            pack = self._open_calls.by_id.get(header["id"])
            if isinstance(pack, PackedCalls):
                for index, job in enumerate(pack.jobs):
                    member = header | {"id": job.id}
                    self._take_opened(member, packed.member_report(body, index), len(frame))
            else:
                self._take_opened(header, body, len(frame))
        except NotForUs as error:
            self.refuse(error)
            self._end_unread(error)
        except BadMessage as error:
            self.refuse(error)

    def _end_unread(self, error: NotForUs) -> None:
        """End the call whose final report cannot be read here: no other will come."""
        call_id, name = error.header["id"], error.header["n"]
        job = self._open_calls.by_id.get(call_id)
        if not isinstance(job, PackedCalls):
            job = self._open_calls.get(call_id, name)
        if job is not None and job.name == name and error.header.get("s") in _FINAL:
            self._forget(job)
            job.finish(Status.FAILURE, Fault.saying(Code.BAD_MESSAGE, f"the report of this call is {error}"))

    def _take_opened(self, header: dict[str, Any], body: bytes, size: int) -> None:
        job = self._open_calls.get(header["id"], header["n"])
        if job is None:  # abandoned, or the same report again after a redelivery: the first one counts
            if self.unclaimed is not None and header.get("s") in _FINAL:
                self.unclaimed(header["n"], header["id"])
            return
        report = self.read(header, body, size, job)
        if report.final:
            self._forget(job)
            if report.attempt != 1:
                job.detail().attempt = report.attempt
            _end(job, report)
        else:
            _show(job, report)

    def _take_success(self, frame: bytes) -> bool:
        """Take a report by the short way. False where it is not that plain."""
        unseal = self._codec.unseal_report
        if unseal is not None:
            try:
                frame = unseal(frame)
            except BadMessage:
                return False
        call_id, at = plain_id(frame)
        job = self._open_calls.by_id.get(call_id)
        if job is None or len(frame) > self.config.max_message_bytes:
            return False
        if isinstance(job, PackedCalls):
            return self._take_successes(job, frame, at)
        success = self._returns.of(job._plan).success(frame, at)
        if success is None:
            return False
        self._forget(job)
        if success.attempt != 1:
            job.detail().attempt = success.attempt
        job.finish(Status.SUCCESS, success.value)
        self._learn(job.name, success.seconds)
        return True

    def _take_successes(self, pack: PackedCalls, frame: bytes, at: int) -> bool:
        """Take the report of a pack whose calls have all succeeded. False where it is not that plain."""
        success = self._returns.of(pack.jobs[0]._plan).successes(frame, at, len(pack.jobs))
        if success is None:
            return False
        self._forget(pack)
        for job, value in zip(pack.jobs, success.value, strict=True):
            job.finish(Status.SUCCESS, value)
        self._learn(pack.name, success.seconds)
        return True

    def _learn(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self.seconds[name] = seconds

    def read(self, header: dict[str, Any], body: bytes, size: int, job: Job) -> Report:
        """Read a report that is to be this call's. Raises BadMessage."""
        check_belongs(header, job.id, job.name)
        why: Exception
        if size > self.config.max_message_bytes:
            why = BadReturn(f"a report of {size} bytes: at most {self.config.max_message_bytes} are read here")
        else:
            try:
                return self._codec.report_of(header, body, job._plan)
            except BadMessage:
                raise
            except Exception as error:  # the value cannot be read here: the worker's code is not ours
                why = error
        return Report(job.id, job.name, Status.FAILURE, failure=Failure.of(Code.BAD_RETURN, why))

    def refuse(self, error: BadMessage) -> None:
        """Tell of a report that is not taken."""
        self._hub.emit(Origin.STORE, Level.ERROR, "report.refused", f"a report was refused: {error}", {"error": error})

    def end_as_kept(self, job: Job, frame: bytes) -> None:
        """End a call as the report says that is kept of it, or of its pack. Raises BadMessage."""
        header, body = self._codec.open_report(frame)
        member = packed.member_of(job.id)
        if member is not None and header["id"] == member.pack:
            header, body = header | {"id": job.id}, packed.member_report(body, member.number)
        _end(job, self.read(header, body, len(frame), job))


def check_belongs(header: dict[str, Any], id: str, name: str) -> None:
    """Raise BadMessage if a report is another call's."""
    if header["id"] != id or header["n"] != name:
        raise BadMessage(f"a report of {header['n']!r} {header['id']} that came as one of {name!r} {id}")


def _end(job: Job, report: Report) -> None:
    """End a call as its final report says."""
    if report.status is Status.SUCCESS:
        job.finish(Status.SUCCESS, report.value)
    else:
        failure = report.failure or Failure(Code.BAD_MESSAGE, message="a final report without a value or failure")
        job.finish(report.status, Fault(failure.code, failure=failure))


def _show(job: Job, report: Report) -> None:
    """Show an intermediate report to who follows the call."""
    detail = job.detail()
    detail.attempt = report.attempt
    if report.status is Status.PROGRESS and report.progress is None:
        detail.saved = report.value
    job.mark(report.status, report.value, report.failure, report.progress)
