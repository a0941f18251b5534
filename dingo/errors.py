"""Every error dingo raises, in one tree.

Each message says which task, what is wrong and what to do about it. Errors of the standard library
that a caller would naturally catch (`TypeError`, `TimeoutError` ...) are bases where that is true.
"""

from __future__ import annotations

import concurrent.futures
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingo.message.report import Failure, Report


class DingoError(Exception):
    """The root: catch this to catch everything dingo raises."""


class NotRegistered(DingoError):
    """No task of that name is known to this app: register it, or correct the name."""


class AlreadyRegistered(DingoError):
    """The name is taken: choose another, or pass `replace=True` to mean it."""


class BadArguments(DingoError, TypeError):
    """The arguments do not fit the task's signature, and nothing was sent."""


class BadReturn(DingoError, TypeError):
    """What a task returned does not fit its return annotation. Ends the call as FAILURE/BAD_RETURN."""


class BadOption(DingoError, TypeError, ValueError):
    """An option is unknown, has a wrong value, or makes no sense where it was given."""


class BadConfig(DingoError, ValueError):
    """A configuration key is unknown or its value is wrong."""


class BadMessage(DingoError, ValueError):
    """Bytes from the wire are not a message this version can read."""


class TaskFailed(DingoError):
    """The call ended in FAILURE.

    `failure` says why (code, type, message, traceback); `report` is the final report. In the process
    that ran the function, `__cause__` is the original exception.
    """

    def __init__(self, report: Report) -> None:
        failure = report.failure
        assert failure is not None
        super().__init__(f"task {report.name!r} failed: {failure}")
        self.report = report
        self.failure: Failure = failure

    def __reduce__(self) -> tuple[type[TaskFailed], tuple[Report]]:
        return type(self), (self.report,)


class RetryLater(DingoError):
    """Raised *by a task* to ask for another attempt, counted against its `retry` limit (10 if it has none).

    `delay` is in seconds; None leaves it to the task's retry policy. Raises BadOption for another value.
    """

    def __init__(self, why: str = "", *, delay: float | None = None) -> None:
        if delay is not None and (type(delay) not in (int, float) or not 0 <= delay < math.inf):
            raise BadOption(f"the delay of RetryLater is a number of seconds from 0, or None, not {delay!r}")
        super().__init__(why)
        self.delay = delay


class ResultNotFound(DingoError, LookupError):
    """No call of that id is known here: it never was, or its result is no longer kept."""


class ResultTimeout(DingoError, TimeoutError):
    """The result was not there in time. The call goes on; ask again later."""


class Cancelled(DingoError, concurrent.futures.CancelledError):
    """The call was cancelled. Never `asyncio.CancelledError`: a cancelled call does not cancel who awaits it."""


class ReportIgnored(DingoError):
    """The call was sent with `ignore_report=True`: it has no result to wait for."""


class AppClosed(DingoError, RuntimeError):
    """The app is closed. Open it again with `with app:` or make a new one."""

    def __init__(self, message: str = "the app is closed: open it again (`with app:`) or make a new one") -> None:
        super().__init__(message)


class QueueFull(DingoError):
    """`max_pending` calls are waiting already. Wait for some, or set `when_full="wait"`."""


class NotAttached(DingoError):
    """What was asked for needs a component (or a feature of one) that this app does not have."""


class AlreadyAttached(DingoError):
    """The role is taken by another component: limit this one with `roles=`."""


class BrokerUnavailable(DingoError, ConnectionError):
    """The broker does not answer."""


class SendUncertain(DingoError):
    """The connection died before the broker confirmed: the call may or may not have been accepted."""


class ChannelClosed(DingoError):
    """The channel has ended: nothing more will come."""
