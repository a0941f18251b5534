"""`dingo events` and `dingo workers`: what the workers of a broker say of themselves."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dingo.cli.finding import find
from dingo.cli.says import DONE, command
from dingo.errors import BadConfig
from dingo.events import Level, Origin

if TYPE_CHECKING:
    import argparse

    from dingo.app import App
    from dingo.events import Event
    from dingo.inspection import WorkerInfo


def add_to(commands: Any) -> None:
    """Add the commands of this module."""
    events = command(commands, "events", _events, "print the events of all workers until Ctrl-C")
    events.add_argument("-l", "--level", default="INFO", choices=[one.name for one in Level])
    events.add_argument("--origin", default="all", help="of which parts, with commas: worker,consumer")
    events.add_argument("--json", action="store_true", help="one JSON object a line")
    workers = command(commands, "workers", _workers, "list the workers that live")
    workers.add_argument("--json", action="store_true", help="one JSON object a line")


def connected(arguments: argparse.Namespace) -> App:
    """Find an App that goes over a broker. Raises WrongModule, BadConfig."""
    app = find(arguments)
    if not app.remote:
        raise BadConfig("this is about a broker: --broker URL, DINGO_BROKER=URL, or App(URL)")
    return app


def _origin(names: str) -> Origin:
    chosen = Origin(0)
    for name in names.split(","):
        try:
            chosen |= Origin[name.strip().upper()]
        except KeyError:
            known = ", ".join(one.lower() for one in Origin.__members__)
            raise BadConfig(f"no origin is called {name.strip()!r}: there are {known}") from None
    return chosen


def _events(arguments: argparse.Namespace) -> int:
    origin = _origin(arguments.origin)
    with connected(arguments) as app:
        events = app.listen(origin, Level[arguments.level], fleet=True)
        workers = [one.name for one in app.workers()]
        print(f"listening to {len(workers)} workers: {', '.join(workers)}", file=sys.stderr, flush=True)
        try:
            for event in events:
                print(_json(event) if arguments.json else _line(event), flush=True)
        except KeyboardInterrupt:
            return DONE
        except BrokenPipeError:  # who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return DONE
        finally:
            if events.dropped:
                print(f"{events.dropped} events were lost: they came too fast", file=sys.stderr)
    return DONE


def _line(event: Event) -> str:
    time = datetime.fromtimestamp(event.time).astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{time} {event.level.name:7} {event.worker or 'here'}  {event.code}  {event.message}"


def _json(event: Event) -> str:
    from dingo.bridge.news import plain  # noqa: PLC0415 - only for those who ask for it

    return json.dumps({
        "time": datetime.fromtimestamp(event.time, UTC).isoformat(), "level": event.level.name,
        "origin": (event.origin.name or "").lower(), "worker": event.worker, "code": event.code,
        "message": event.message, "payload": plain(event.payload),
    })  # fmt: skip


def _workers(arguments: argparse.Namespace) -> int:
    with connected(arguments) as app:
        for worker in app.workers():
            print(json.dumps(asdict(worker), default=str) if arguments.json else _row(worker))
    return DONE


def _row(worker: WorkerInfo) -> str:
    what = f"{worker.name}  {worker.host} {worker.pid}  busy {worker.busy} of {worker.workers}"
    return f"{what}  since {worker.since:%Y-%m-%d %H:%M:%S}  {','.join(worker.queues)}  {','.join(worker.tasks)}"
