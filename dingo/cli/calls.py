"""`dingo call`, and the commands that look into the queues: pending, delayed, failed, purge."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dingo.cli.finding import find
from dingo.cli.says import DONE, command
from dingo.cli.values import printed, typed

if TYPE_CHECKING:
    import argparse

_LISTINGS = (
    ("pending", "list the calls that wait for a worker"),
    ("delayed", "list the calls that wait for their time"),
    ("failed", "list the failed calls that are kept"),
)


def add_to(commands: Any) -> None:
    """Add the commands of this module."""
    call = command(commands, "call", _call, "call a task and print its value as JSON")
    call.add_argument("name", metavar="NAME")
    call.add_argument(
        "arguments", nargs="*", metavar="ARG", help="JSON if it parses, else text; those with a dash: after --"
    )
    call.add_argument("--timeout", type=float, metavar="SECONDS", help="how long to wait for the value")
    for name, help in _LISTINGS:
        listing = command(commands, name, _list, help)
        listing.set_defaults(listing=name)
        listing.add_argument("--json", action="store_true", help="one JSON object a line")
    purge = command(commands, "purge", _purge, "cancel all calls that wait in a queue")
    purge.add_argument("queue", nargs="?", default=None)
    purge.add_argument("--json", action="store_true", help="a JSON object")


def _call(arguments: argparse.Namespace) -> int:
    app = find(arguments)
    # Who waits at a terminal is told of a broker that is away as soon as it is known.
    app.config = app.config.replace(send_timeout_seconds=app.config.connect_timeout_seconds)
    with app:
        result = app.options(confirm=True).call(arguments.name, *map(typed, arguments.arguments))
        print(printed(result.result(arguments.timeout)))
    return DONE


def _list(arguments: argparse.Namespace) -> int:
    with find(arguments) as app:
        for call in getattr(app, arguments.listing)():
            if arguments.json:
                print(json.dumps(asdict(call) | {"status": call.status.name}, default=str))
            else:
                what = call.failure or (call.eta.isoformat() if call.eta else "")
                print(f"{call.id}  {call.name}  {call.status.name}  {call.queue}  {what}".rstrip())
    return DONE


def _purge(arguments: argparse.Namespace) -> int:
    with find(arguments) as app:
        queue = arguments.queue or app.config.queue
        cancelled = app.purge(queue)
    print(json.dumps({"queue": queue, "cancelled": cancelled}) if arguments.json else f"{cancelled} calls cancelled")
    return DONE
