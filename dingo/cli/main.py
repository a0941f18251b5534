"""What the `dingo` command understands, and what it exits with.

0 done    1 failed, or stopped by force    2 wrong usage, or the module cannot be imported
3 the broker cannot be reached at the start
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from dingo import __version__
from dingo.cli import calls, doctor, fleet, queues, worker
from dingo.cli.finding import WrongModule
from dingo.cli.says import FAILED, UNREACHABLE, WRONG, say
from dingo.errors import BadConfig, BrokerUnavailable, DingoError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = _parser()
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(argv, argparse.Namespace(argv=argv))
    if arguments.run is None:
        parser.print_help(sys.stderr)
        return WRONG
    if arguments.broker:
        os.environ["DINGO_BROKER"] = arguments.broker
    if arguments.backend:
        os.environ["DINGO_BACKEND"] = arguments.backend
    try:
        return int(arguments.run(arguments))
    except BrokerUnavailable as error:
        return say(UNREACHABLE, f"the broker cannot be reached: {error}")
    except (BadConfig, WrongModule) as error:
        return say(WRONG, str(error))
    except DingoError as error:
        return say(FAILED, str(error))
    except KeyboardInterrupt:
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dingo", description="An in-process job pool that becomes a task queue.")
    parser.add_argument("--version", action="version", version=f"dingo {__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    for group in (worker, calls, queues, fleet, doctor):
        group.add_to(commands)
    return parser
