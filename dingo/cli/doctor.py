"""`dingo doctor`: look at everything that can be wrong between here and the workers, and say what to do."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dingo.cli.finding import find
from dingo.cli.says import DONE, FAILED, command
from dingo.errors import BrokerUnavailable, NotAttached
from dingo.kombu.checkups import NOTE, OK, WARNING, WRONG, Finding, backend_checkup, checkup

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from dingo.app import App
    from dingo.inspection import WorkerInfo

_SIGNS = {OK: "ok     ", NOTE: "note   ", WARNING: "WARNING", WRONG: "WRONG  "}


def add_to(commands: Any) -> None:
    """Add the command of this module."""
    doctor = command(commands, "doctor", _doctor, "look at all that can be wrong, and say what to do about it")
    doctor.add_argument("--json", action="store_true", help="one JSON object a line")


def _doctor(arguments: argparse.Namespace) -> int:
    app = find(arguments)
    logging.getLogger("dingo").setLevel(logging.CRITICAL)  # what there is to say is said in the findings
    wrong = 0
    for finding in _findings(app):
        wrong += finding.verdict == WRONG
        print(json.dumps(asdict(finding)) if arguments.json else _line(finding), flush=True)
    return FAILED if wrong else DONE


def _line(finding: Finding) -> str:
    advice = f"\n         -> {finding.advice}" if finding.advice else ""
    return f"{_SIGNS[finding.verdict]}  {finding.check}: {finding.seen}{advice}"


def _findings(app: App) -> Iterator[Finding]:
    names = ", ".join(app.names)
    yield (
        Finding("app", OK, f"{len(app.names)} tasks are registered: {names}")
        if app.names
        else Finding("app", WARNING, "no task is registered", "import their modules, or name them: App(include=...)")
    )
    yield from _configuration(app)
    if app.broker is None:
        advice = "--broker URL, DINGO_BROKER=URL, or App(URL)"
        yield Finding("broker", NOTE, "this app is local: there is no broker to look at", advice)
        return
    try:
        yield from checkup(app.broker, app.config, _queues(app))
        if app.backend not in (None, app.broker):
            yield backend_checkup(app.backend or "", app.config)
        yield from _paused(app)
        yield from _fleet(app)
    except BrokerUnavailable as error:
        yield Finding("broker", WRONG, f"it cannot be reached: {error}", "is it running, and the URL right?")
    finally:
        app.close(5)


def _configuration(app: App) -> Iterator[Finding]:
    config = app.config
    if config.accept_pickle:
        yield Finding("pickle", WARNING, "pickle is accepted: who has a signing key can run any code here", "use json")
    if config.signing_keys:
        yield Finding("signing", OK, f"messages are signed ({len(config.signing_keys)} keys)")
    elif app.broker is not None:
        advice = "set signing_keys where others than you can reach the broker"
        yield Finding("signing", NOTE, "messages are not signed: who reaches the broker can make calls", advice)


def _queues(app: App) -> list[str]:
    """Return the queues that this app's calls go to."""
    return sorted({app.config.queue, *(queue for _, queue in app.task_queues() if queue is not None)})


def _paused(app: App) -> Iterator[Finding]:
    with suppress(NotAttached):  # where nothing can be paused, nothing is
        for queue in app.paused():
            yield Finding(f"queue {queue}", WARNING, "it is paused: nothing of it starts", f"dingo resume ... {queue}")


def _fleet(app: App) -> Iterator[Finding]:
    """Compare what the workers serve with what is registered here."""
    try:
        workers = app.workers()
    except NotAttached as error:
        yield Finding("workers", NOTE, str(error))
        return
    if not workers:
        yield Finding("workers", WARNING, "no worker lives: calls wait", "dingo worker MODULE:APP")
        return
    yield Finding("workers", OK, f"{len(workers)} live: {', '.join(one.name for one in workers)}")
    for name, queue in app.task_queues():
        yield from _served(name, queue or app.config.queue, workers)
    strange = sorted({task for one in workers for task in one.tasks} - set(app.names))
    if strange:
        yield Finding("tasks", NOTE, f"workers serve what is not registered here: {', '.join(strange)}")


def _served(name: str, queue: str, workers: list[WorkerInfo]) -> Iterator[Finding]:
    if not any(name in one.tasks for one in workers):
        advice = "start a worker with the code that registers it: its calls are parked, and end NOT_REGISTERED"
        yield Finding(f"task {name}", WRONG, "no worker has registered it", advice)
    elif not any(name in one.tasks and queue in one.queues for one in workers):
        advice = f"dingo worker ... -Q {queue}"
        yield Finding(f"task {name}", WRONG, f"no worker serves its queue {queue!r}: its calls wait", advice)
