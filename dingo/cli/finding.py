"""Finding the App that a command is about."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from dingo.app import App
from dingo.errors import BadConfig

if TYPE_CHECKING:
    import argparse


class WrongModule(Exception):
    """The module or the App in it cannot be had."""


def find(arguments: argparse.Namespace) -> App:
    """Import MODULE:APP, and the modules of tasks that the App names; connect it as the command line says.

    Raises WrongModule, BadConfig.
    """
    where = arguments.app
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    module_name, _, attribute = where.partition(":")
    app = getattr(_imported(module_name), attribute or "app", None)
    if not isinstance(app, App):
        raise WrongModule(f"{module_name}.{attribute or 'app'} is no dingo App: name it as MODULE:APP")
    for module in app.modules:
        _imported(module)
    app.redirect(arguments.broker, arguments.backend)
    return app


def _imported(name: str) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise WrongModule(f"module {name!r} cannot be imported: {error}") from error
    except BadConfig as error:  # it says what is wrong, and often it is no code but the environment
        raise WrongModule(f"module {name!r} cannot be imported: {error}") from error
    except Exception as error:
        traceback.print_exc()  # it is the user's code that is wrong, and this says where
        raise WrongModule(f"module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
