"""`dingo pause` and `dingo resume`: hold a queue back, at all workers of a fleet, and let it go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.cli.finding import find
from dingo.cli.says import DONE, command
from dingo.errors import BadConfig

if TYPE_CHECKING:
    import argparse


def add_to(commands: Any) -> None:
    """Add the commands of this module."""
    for name, help in (
        ("pause", "have no worker start anything more of a queue"),
        ("resume", "have the workers go on with a queue"),
    ):
        change = command(commands, name, _change, help)
        change.add_argument("queue", metavar="QUEUE", nargs="?", default=None, help="else the app's default one")
        change.set_defaults(change=name)


def _change(arguments: argparse.Namespace) -> int:
    with find(arguments) as app:
        if not app.remote:
            raise BadConfig("to pause or resume a queue needs a broker: --broker URL, DINGO_BROKER=URL, or App(URL)")
        getattr(app, arguments.change)(arguments.queue or app.config.queue)
        print(f"paused: {', '.join(app.paused()) or 'nothing'}")
    return DONE
