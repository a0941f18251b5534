"""dingo: an in-process job pool that becomes a distributed task queue without a change to the tasks.

    app = dingo.App()

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    with app:
        print(app.call("add", 2, 3).result(timeout=5))

The way of a call, and where to read about each step:

    caller                       bridge                     worker
    App.call      app.py         LocalBridge  bridge/       ThreadPool   worker/threads.py
      Plan.call   plan.py          accept                     LoopPool   worker/loops.py
        check     marshaller/      route                      Attempt    worker/attempt.py
    Result        caller/        Job          job.py          Context    worker/context.py

What is said of tasks stands in `registrar.py` and `registry.py`. An app's first call opens its Session (`session.py`),
which builds the bridge and compiles the plans. Over a broker RemoteCaller (`bridge/remote.py`) sends what RemoteWorker
(`bridge/serving.py`) runs in the same pools; `kombu/` and `store/` have what is behind the URLs. `message/` is what
travels, `channel.py` how reports and events reach those who listen. docs/architecture.md has the whole way, and every
module.
"""

from __future__ import annotations

from dingo.allocation import Allocation
from dingo.app import App
from dingo.caller.result import Result
from dingo.caller.several import as_completed, gather, wait
from dingo.channel import Channel
from dingo.config import Config
from dingo.errors import (
    AlreadyAttached,
    AlreadyRegistered,
    AppClosed,
    BadArguments,
    BadConfig,
    BadMessage,
    BadOption,
    BadReturn,
    BrokerUnavailable,
    Cancelled,
    ChannelClosed,
    DingoError,
    NotAttached,
    NotRegistered,
    QueueFull,
    ReportIgnored,
    ResultNotFound,
    ResultTimeout,
    RetryLater,
    SendUncertain,
    TaskFailed,
)  # fmt: skip
from dingo.events import Event, Level, Origin, Subscription
from dingo.inspection import CallInfo, WorkerInfo
from dingo.message.report import Code, Failure, Progress, Report, Status
from dingo.message.retry import Retry
from dingo.message.signature import Signature
from dingo.registry import AsyncTask, Task
from dingo.worker.context import Context, current

__version__ = "0.1.0"

__all__ = [
    "Allocation", "AlreadyAttached", "AlreadyRegistered", "App", "AppClosed", "AsyncTask", "BadArguments",
    "BadConfig", "BadMessage", "BadOption", "BadReturn", "BrokerUnavailable", "CallInfo", "Cancelled", "Channel",
    "ChannelClosed", "Code", "Config", "Context", "DingoError", "Event", "Failure", "Level", "NotAttached",
    "NotRegistered", "Origin", "Progress", "QueueFull", "Report", "ReportIgnored", "Result", "ResultNotFound",
    "ResultTimeout", "Retry", "RetryLater", "SendUncertain", "Signature", "Status", "Subscription", "Task",
    "TaskFailed", "WorkerInfo", "as_completed", "current", "gather", "wait",
]  # fmt: skip
