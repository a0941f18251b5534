"""The `dingo` command: serve, call and look from a terminal."""

from dingo.cli.main import main

__all__ = ["main"]
