"""What the `dingo` command understands, and what it exits with.

0 done    1 failed, or stopped by force    2 wrong usage, or the module cannot be imported
3 the broker cannot be reached at the start
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dingo.app import App
from dingo.config import mask_url
from dingo.errors import BadConfig, BrokerUnavailable, DingoError

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE, FAILED, WRONG, UNREACHABLE = 0, 1, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        app = _app(arguments)
        return int(arguments.run(app, arguments))
    except BrokerUnavailable as error:
        return _say(UNREACHABLE, f"the broker cannot be reached: {error}")
    except (BadConfig, _WrongModule) as error:
        return _say(WRONG, str(error))
    except DingoError as error:
        return _say(FAILED, str(error))
    except KeyboardInterrupt:
        return FAILED


def _say(code: int, what: str) -> int:
    print(f"dingo: {what}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dingo", description="An in-process job pool that becomes a task queue.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    worker = _command(commands, "worker", _worker, "serve as a worker until SIGTERM or SIGINT")
    worker.add_argument("-Q", "--queues", default="", help="queues to serve, with commas; the first one first")
    worker.add_argument("-c", "--concurrency", type=int, help="how many threads run tasks")
    worker.add_argument("--name", help="what this worker is called")
    worker.add_argument("--prefetch", type=int, help="how many tasks it holds at most (default: by how long they take)")
    worker.add_argument("-l", "--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    worker.add_argument("--burst", action="store_true", help="end when the queues are empty")

    call = _command(commands, "call", _call, "call a task and print its value as JSON")
    call.add_argument("name")
    call.add_argument("arguments", nargs="*", metavar="ARG", help="JSON if it parses, else text")
    call.add_argument("--timeout", type=float, help="seconds to wait for the value")

    for name, help in (
        ("pending", "list the calls that wait for a worker"),
        ("delayed", "list the calls that wait for their time"),
        ("failed", "list the failed calls that are kept"),
    ):
        listing = _command(commands, name, _list, help)
        listing.set_defaults(listing=name)
        listing.add_argument("--json", action="store_true", help="one JSON object a line")
    purge = _command(commands, "purge", _purge, "cancel all calls that wait in a queue")
    purge.add_argument("queue", nargs="?", default=None)
    return parser


def _command(commands: Any, name: str, run: Any, help: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    command.add_argument("app", metavar="MODULE:APP", help="where the App is, as in tasks:app")
    command.add_argument("--broker", help="the broker's URL; else DINGO_BROKER, or what the module says")
    command.set_defaults(run=run)
    return command


class _WrongModule(Exception):
    """The module or the App in it cannot be had."""


def _app(arguments: argparse.Namespace) -> App:
    if arguments.broker:
        os.environ["DINGO_BROKER"] = arguments.broker
    sys.path.insert(0, str(Path.cwd()))
    module_name, _, attribute = arguments.app.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise _WrongModule(f"module {module_name!r} cannot be imported: {error}") from error
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, App):
        raise _WrongModule(f"{module_name}.{attribute or 'app'} is no dingo App: name it as MODULE:APP")
    return app


def _worker(app: App, arguments: argparse.Namespace) -> int:
    from dingo.worker.serve import serve  # noqa: PLC0415 - only this command serves

    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    changes = {"workers": arguments.concurrency, "prefetch": arguments.prefetch}
    app.config = app.config.replace(**{key: value for key, value in changes.items() if value is not None})
    if not app.remote:
        raise BadConfig("a worker needs a broker: --broker URL, DINGO_BROKER=URL, or App(URL)")
    queues = tuple(one for one in arguments.queues.split(",") if one)
    print(_banner(app, queues), file=sys.stderr)
    return serve(app, queues, name=arguments.name, burst=arguments.burst)


def _banner(app: App, queues: tuple[str, ...]) -> str:
    from dingo import __version__  # noqa: PLC0415 - the package is ready by now

    broker = mask_url(os.environ.get("DINGO_BROKER") or app.config.broker or app.broker or "")
    lines = [
        f"dingo {__version__}  {app.name}",
        f"  broker       {broker}",
        f"  queues       {', '.join(queues or (app.config.queue,))}",
        f"  concurrency  {app.config.workers} threads",
        f"  tasks        {', '.join(app.names) or 'none'}",
    ]
    return "\n".join(lines)


def _call(app: App, arguments: argparse.Namespace) -> int:
    with app:
        result = app.call(arguments.name, *(_argument(one) for one in arguments.arguments))
        print(json.dumps(result.result(arguments.timeout), default=str))
    return DONE


def _argument(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _list(app: App, arguments: argparse.Namespace) -> int:
    with app:
        for call in getattr(app, arguments.listing)():
            if arguments.json:
                print(json.dumps(asdict(call), default=str))
            else:
                what = call.failure or (call.eta.isoformat() if call.eta else "")
                print(f"{call.id}  {call.name}  {call.status.name}  {call.queue}  {what}".rstrip())
    return DONE


def _purge(app: App, arguments: argparse.Namespace) -> int:
    with app:
        print(f"{app.purge(arguments.queue or app.config.queue)} calls cancelled")
    return DONE
