"""Config: every knob of dingo, from arguments, the environment or a YAML file.

    knobs.py        Config: what there is to set, and its defaults
    reconnect.py    Reconnect: one of them, which has fields of its own
    kinds.py        what a knob takes; fields.py: values are checked when a Config is made
    files.py        YAML into values; watching.py: a file that is read again when it changes

A `Config` is a frozen value. A wrong one is refused with a `BadConfig` that names the key, the value and what would be
right. Secrets never appear in a text made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.config.knobs import Config
from dingo.config.reconnect import Reconnect

__all__ = ["Config", "ConfigFile", "Reconnect"]

if TYPE_CHECKING:
    from dingo.config.watching import ConfigFile


def __getattr__(name: str) -> Any:
    """Bring ConfigFile when it is asked for: few watch a file."""
    if name == "ConfigFile":
        from dingo.config.watching import ConfigFile  # noqa: PLC0415 - as said

        return ConfigFile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
