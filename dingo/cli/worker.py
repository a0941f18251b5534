"""`dingo worker`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from dingo.bridge.turns import Turns
from dingo.cli.finding import find
from dingo.cli.fleet import connected
from dingo.cli.says import DONE, FAILED, command, say
from dingo.errors import BadConfig
from dingo.masking import mask_url

if TYPE_CHECKING:
    import argparse

    from dingo.app import App


def add_to(commands: Any) -> None:
    """Add the command of this module."""
    worker = command(commands, "worker", _worker, "serve as a worker until SIGTERM or SIGINT")
    worker.add_argument(
        "-Q",
        "--queues",
        default="",
        metavar="A,B",
        help="queues to serve, the first one first; A=3,B=1: each its share",
    )
    worker.add_argument("-c", "--concurrency", type=int, metavar="N", help="how many threads or processes run tasks")
    worker.add_argument("--pool", choices=["thread", "process"], help="what runs plain functions")
    worker.add_argument("--name", help="what this worker is called")
    worker.add_argument("--prefetch", type=int, metavar="N", help="how many tasks it holds at most")
    worker.add_argument("-l", "--log-level", default="WARNING", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    worker.add_argument("--reload", action="store_true", help="start anew when a Python file here changes")
    worker.add_argument("--check", action="store_true", help="serve nothing: exit with 0 if a worker (--name) lives")
    worker.add_argument("--burst", action="store_true", help="end when the queues are empty")


def _check(arguments: argparse.Namespace) -> int:
    """Tell by the exit code whether a worker lives: the one of that name, or any."""
    with connected(arguments) as app:
        for worker in app.find_workers():
            if arguments.name in (None, worker.name):
                print(f"{worker.name} lives: process {worker.pid} on {worker.host}")
                return DONE
    return say(FAILED, f"no worker {'lives' if arguments.name is None else f'called {arguments.name!r} lives'}")


def _worker(arguments: argparse.Namespace) -> int:
    if arguments.check:
        return _check(arguments)
    if arguments.reload:
        from dingo.cli.reload import watch  # noqa: PLC0415 - for development only

        return watch(arguments.argv)
    from dingo.worker.serve import serve  # noqa: PLC0415 - only this command serves

    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = find(arguments)
    app.config = app.config.replace(**_changes(arguments))
    if not app.remote:
        raise BadConfig("a worker needs a broker: --broker URL, DINGO_BROKER=URL, or App(URL)")
    queues = tuple(one.strip() for one in arguments.queues.split(",") if one.strip())
    Turns(queues)  # a wrong weight is told before anything is opened
    print(_banner(app, queues), file=sys.stderr)
    return serve(app, queues, name=arguments.name, burst=arguments.burst)


def _changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of the configuration."""
    workers = arguments.concurrency
    if workers is None and arguments.pool == "process":
        from dingo.worker.processes import usable_cores  # noqa: PLC0415 - only where processes run tasks

        workers = usable_cores()  # the default is meant for threads, of which most wait
    changes = {"workers": workers, "pool": arguments.pool, "prefetch": arguments.prefetch}
    return {key: value for key, value in changes.items() if value is not None}


def _banner(app: App, queues: tuple[str, ...]) -> str:
    from dingo import __version__  # noqa: PLC0415 - the package is ready by now

    config = app.config
    broker = mask_url(app.broker) if app.broker else "what the program has attached"
    kind = "processes" if config.pool == "process" else "threads"
    lines = [
        f"dingo {__version__}  {app.name}",
        f"  broker       {broker}",
        f"  queues       {', '.join(queues or config.queues or (config.queue,))}",
        f"  concurrency  {config.workers} {kind}",
        f"  tasks        {', '.join(app.names) or 'none'}",
    ]
    return "\n".join(lines)
