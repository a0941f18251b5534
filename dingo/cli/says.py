"""How the commands of `dingo` look, and what all of them say alike: their exit codes and what goes to stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DONE, FAILED, WRONG, UNREACHABLE = 0, 1, 2, 3


def say(code: int, what: str) -> int:
    """Tell the user why the command ends, and return the exit code."""
    print(f"dingo: {what}", file=sys.stderr)
    return code


def command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str) -> argparse.ArgumentParser:
    """Add a command that takes an App."""
    made: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    made.add_argument("app", metavar="MODULE:APP", help="where the App is, as in tasks:app")
    made.add_argument("--broker", metavar="URL", help="the broker's URL; else DINGO_BROKER, or what the module says")
    made.add_argument("--backend", metavar="URL", help="the URL of the store of results; else DINGO_BACKEND, ...")
    made.set_defaults(run=run)
    return made
