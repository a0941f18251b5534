"""Finding the App that a command is about."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from dingo.app import App


class WrongModule(Exception):
    """The module or the App in it cannot be had."""


def find(where: str) -> App:
    """Import MODULE:APP, and the modules of tasks that the App names. Raises WrongModule."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module_name, _, attribute = where.partition(":")
    app = getattr(_imported(module_name), attribute or "app", None)
    if not isinstance(app, App):
        raise WrongModule(f"{module_name}.{attribute or 'app'} is no dingo App: name it as MODULE:APP")
    for module in app.modules:
        _imported(module)
    return app


def _imported(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise WrongModule(f"module {name!r} cannot be imported: {error}") from error
    except Exception as error:
        traceback.print_exc()  # it is the user's code that is wrong, and this says where
        raise WrongModule(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
