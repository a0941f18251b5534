"""Recording: an app that runs nothing and remembers what it was asked to run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dingo.bridge.local import LocalBridge
from dingo.caller.result import IgnoredResult, Result
from dingo.testing.desk import detached
from dingo.worker.threads import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dingo.app import App
    from dingo.events import Hub
    from dingo.job import Job
    from dingo.plan import Plan


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made: arguments as the task would have had them, and the options given to it."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class _Recorder(ThreadPool):
    """A pool without threads that writes down what is put into it."""

    def __init__(self, hub: Hub) -> None:
        super().__init__("recorder", 0, hub)
        self.jobs: list[Job] = []
        self.calls: list[Call] = []
        self.put = self.record

    def record(self, job: Job) -> None:
        plan = job._plan
        self.jobs.append(job)
        options = {**plan.registration.given, **plan.given}
        self.calls.append(Call(job.name, job._args, dict(job._kwargs or {}), options))


class _RecordingBridge(LocalBridge):
    """Every call ends at the recorder."""

    recorder: Any = None

    def pool_for(self, plan: Plan) -> Any:
        del plan
        return self.recorder

    def accept(self, job: Result[Any]) -> Result[Any]:
        self.recorder.put(job)
        return IgnoredResult(job) if job._plan.option.ignore_report else job


@contextlib.contextmanager
def record(app: App) -> Iterator[list[Call]]:
    """Run nothing for a while; the list holds the calls made so far.

    Arguments and options are checked as always. The Results stay PENDING and are cancelled at the end: code that
    waits for one cannot be tested with this.
    """
    with detached(app, app.config):
        recorder = _Recorder(app._hub)
        session = app._session
        bridge = _RecordingBridge(
            app.config, app._hub, app._hooks, session.send_following, session.refresh, lifespan=None
        )  # fmt: skip
        bridge.recorder = recorder
        session.caller = session.here = bridge
        for registration in app._registry:
            registration.demand()
        try:
            yield recorder.calls
        finally:
            session.refuse_calls()
            for job in recorder.jobs:
                job._plan.cancel(job)
            bridge.close(0, drain=False)
