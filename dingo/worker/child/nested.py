"""Nested: the App and the Tasks that a function of `__main__` refers to, as they stand in a child.

A function that travels by value takes along what it refers to. An App is threads and locks, so in its place
goes a token, and with it the tasks registered in it, as far as they can be pickled. In the child an App of
its own stands for each token: calls made through it run in the child.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.app import App
from dingo.registry import Task
from dingo.worker.child.cargo import dump_with, load

if TYPE_CHECKING:
    from collections.abc import Callable

# Of an app: its name, and its tasks by name (options and function).
_Parts = tuple[str, list[tuple[str, bytes]]]

_apps: dict[int, App] = {}
_parts: dict[int, _Parts] = {}


class _TaskLater:
    """A task of an app in a child, looked up when it is used: tasks refer to each other in circles."""

    def __init__(self, token: int, name: str) -> None:
        self._token = token
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._task()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._task(), name)

    def _task(self) -> Task[..., Any]:
        app = _app_of(self._token)
        return Task(app, app._registry.get(self._name))


def dump_with_apps(fn: Callable[..., Any]) -> tuple[bytes, dict[int, _Parts]]:
    """Write a function by value, and the apps it refers to. Raises whatever pickling it does."""
    met: dict[int, App] = {}

    def reduce(part: Any) -> Any:
        if isinstance(part, App):
            met[id(part)] = part
            return _app_of, (id(part),)
        if isinstance(part, Task):
            met[id(part._app)] = part._app
            return _TaskLater, (id(part._app), part.name)
        return NotImplemented

    data = dump_with(reduce, fn)
    parts: dict[int, _Parts] = {}
    while met:
        token, app = met.popitem()
        if token not in parts:
            parts[token] = app.name, []  # before its tasks: they refer to it
            parts[token][1].extend(_tasks_of(app, reduce))
    return data, parts


def _tasks_of(app: App, reduce: Callable[[Any], Any]) -> list[tuple[str, bytes]]:
    tasks = []
    for registration in app._registry:
        try:
            data = dump_with(reduce, (registration.given, registration.fn))
        except Exception:  # noqa: S112 - who calls it there is told that it is not registered
            continue
        tasks.append((registration.name, data))
    return tasks


def load_with_apps(data: bytes, parts: dict[int, _Parts]) -> Callable[..., Any]:
    """Read what `dump_with_apps` wrote. Raises whatever reading it does."""
    for token, one in parts.items():
        _parts.setdefault(token, one)
    fn: Callable[..., Any] = load(data)
    return fn


def _app_of(token: int) -> App:
    app = _apps.get(token)
    if app is None:
        name, tasks = _parts[token]
        app = _apps[token] = App("local", name=name)
        for task, data in tasks:
            given, fn = load(data)
            app.register(task, fn, replace=True, **given)
    return app
