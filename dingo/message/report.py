"""Status, Failure, Progress and Report: what a caller learns about its call."""

from __future__ import annotations

import enum
import time as clock
import traceback
from dataclasses import dataclass, field
from typing import Any


class Status(enum.IntEnum):
    """Where a call stands. Ordered: a later status compares greater; from SUCCESS on it is final."""

    PENDING = 0
    SENT = 1
    RECEIVED = 2
    STARTED = 3
    PROGRESS = 4
    RETRY = 5
    SUCCESS = 6
    FAILURE = 7
    CANCELLED = 8

    @property
    def final(self) -> bool:
        """Whether nothing can follow it."""
        return self >= Status.SUCCESS


class Code(enum.StrEnum):
    """Why a call did not succeed (`Failure.code`). CANCELLED goes with that status, all others with FAILURE."""

    EXCEPTION = "EXCEPTION"
    BAD_ARGUMENTS = "BAD_ARGUMENTS"
    BAD_RETURN = "BAD_RETURN"
    NOT_REGISTERED = "NOT_REGISTERED"
    TIMEOUT = "TIMEOUT"
    EXPIRED = "EXPIRED"
    SHUTDOWN = "SHUTDOWN"
    WORKER_LOST = "WORKER_LOST"
    POISONED = "POISONED"
    BAD_MESSAGE = "BAD_MESSAGE"
    NOT_SENT = "NOT_SENT"
    CANCELLED = "CANCELLED"


# A message longer than this is cut: one exception must not fill a log or a broker (4 KiB and 64 KiB are
# what error trackers commonly keep of a message and of a traceback).
MESSAGE_LIMIT = 4 * 1024
TRACEBACK_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed. `type` is the exception's class name and `traceback` its formatted text, if any."""

    code: Code
    type: str = ""
    message: str = ""
    traceback: str = ""

    def __str__(self) -> str:
        what = f"{self.type}: {self.message}" if self.type else self.message
        return f"[{self.code}] {what}"

    @classmethod
    def of(cls, code: Code, error: BaseException) -> Failure:
        """Describe an exception, also one whose `__str__` raises."""
        return cls(code, type(error).__name__, _text_of(error)[:MESSAGE_LIMIT], _traceback_of(error))


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as broken:
        return f"<{type(error).__name__} whose __str__ raised {type(broken).__name__}>"


def _traceback_of(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    try:
        text = "".join(traceback.format_exception(error))
    except BaseException:  # of its own `__str__`, or of Python 3.11, which cannot parse in two threads (gh-106905)
        frames = traceback.extract_tb(error.__traceback__)
        text = "".join(f'  File "{one.filename}", line {one.lineno}, in {one.name}\n' for one in frames)
        text += type(error).__name__
    return text[-TRACEBACK_LIMIT:]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running task says it is: `done` of `total` (None: unknown), with an optional message."""

    done: float
    total: float | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened to a call. `time` is seconds since the epoch, where it happened.

    `value` is the result of a SUCCESS, or what the task saved in a PROGRESS report; `failure` is set for
    FAILURE, CANCELLED and RETRY; `attempt` counts from 1 (0: not started).
    """

    id: str
    name: str
    status: Status
    value: Any = None
    failure: Failure | None = None
    progress: Progress | None = None
    attempt: int = 0
    time: float = field(default_factory=clock.time)

    @property
    def final(self) -> bool:
        """Whether this is the call's last report."""
        return self.status.final
