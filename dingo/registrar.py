"""Registrar: what is said of tasks before any is called: their functions, options and components, and hooks.

It is the half of an `App` that opens nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, Unpack, cast, overload

from dingo.allocation import check_pool
from dingo.components import Components
from dingo.events import Hub
from dingo.hooks import Hooks
from dingo.message.option import Option, OptionFields
from dingo.registry import AsyncTask, Registration, Registry, Task

if TYPE_CHECKING:
    from dingo.app import App
    from dingo.contracts import IDMaker, Marshaller
    from dingo.worker.context import Context

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])


class _Unrelated:
    """What only a parameter annotated `Any` or `object` takes: so they are told from one annotated Context."""


class Registrar:
    """The tasks of an app, and what is to happen around them. What is said later holds for the calls after it."""

    def __init__(self, include: Iterable[str]) -> None:
        self.modules: tuple[str, ...] = tuple(include)
        """Modules of tasks, imported by `run()` and the `dingo` commands."""
        self._lock = threading.RLock()
        self._registry = Registry()
        self._components = Components()
        self._hub = Hub(self._refresh)
        self._hooks = Hooks(self._hub)
        self._lifespan: Callable[[], Any] | None = None

    def _refresh(self, name: str | None = None) -> None:
        """Have calls go by what has changed: of one task, or of all."""
        raise NotImplementedError

    def _forget(self, name: str) -> None:
        """Let go of what is known of a name: another function has it now."""
        raise NotImplementedError

    # -- tasks -------------------------------------------------------------------------------------

    @overload
    def register(self, name: str, fn: Callable[Concatenate[_Unrelated, P], Coroutine[Any, Any, R]], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> AsyncTask[Concatenate[Any, P], R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[Concatenate[_Unrelated, P], R], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> Task[Concatenate[Any, P], R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> AsyncTask[P, R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[Concatenate[Context, P], R], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> Task[P, R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[P, Coroutine[Any, Any, R]], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> AsyncTask[P, R]: ...  # fmt: skip
    @overload
    def register(self, name: str, fn: Callable[P, R], *,
                 replace: bool = ..., types: Mapping[str, Any] | None = ...,
                 **options: Unpack[OptionFields]) -> Task[P, R]: ...  # fmt: skip
    def register(self, name: str, fn: Callable[..., Any], *, replace: bool = False,
                 types: Mapping[str, Any] | None = None, **options: Unpack[OptionFields]) -> Any:  # fmt: skip
        """Make a callable known under a name. Its annotations are read here, once.

        `types` supplies names that only the type checker imports. Raises TypeError (not callable, a generator
        function, a name that is no text), ValueError (an impossible name), AlreadyRegistered, BadOption.
        """
        if isinstance(fn, Task):
            fn = fn.fn
        registration = Registration(name, fn, options, types)
        self._components.check(registration.option)
        check_pool(registration, registration.option)
        with self._lock:
            self._registry.add(registration, replace=replace)
            self._forget(name)
        is_async = registration.unresolved is None and registration.binding.is_async
        return (AsyncTask if is_async else Task)(cast("App", self), registration)

    @overload
    def task(
        self, fn: Callable[Concatenate[_Unrelated, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[Concatenate[Any, P], R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[_Unrelated, P], R], /) -> Task[Concatenate[Any, P], R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def task(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, name: str | None = ..., replace: bool = ..., types: Mapping[str, Any] | None = ...,
             **options: Unpack[OptionFields]) -> _Decorator: ...  # fmt: skip
    def task(self, fn: Callable[..., Any] | None = None, /, *, name: str | None = None, replace: bool = False,  # type: ignore[misc]
             types: Mapping[str, Any] | None = None, **options: Unpack[OptionFields]) -> Any:  # fmt: skip
        """Register the decorated function: `@app.task` or `@app.task(name=..., **options)`. Raises as `register`."""

        def decorate(fn: Callable[..., Any]) -> Any:
            known_as = getattr(fn, "__name__", "") if name is None else name
            return self.register(known_as, fn, replace=replace, types=types, **options)

        return decorate if fn is None else decorate(fn)

    def include(self, *modules: str) -> None:
        """Name modules of tasks that `run()` and the `dingo` commands import."""
        self.modules = (*self.modules, *modules)

    @property
    def names(self) -> list[str]:
        """The names of all registered tasks."""
        return [one.name for one in self._registry]

    def task_queues(self) -> list[tuple[str, str | None]]:
        """Return the name and the queue of each registered task; None: the default one."""
        return [(one.name, one.option.queue) for one in self._registry]

    # -- how they are carried out --------------------------------------------------------------------

    def set_option(self, name: str, **options: Unpack[OptionFields]) -> None:
        """Change the options of a registered task. Raises NotRegistered, BadOption."""
        registration = self._registry.get(name)
        changed = Option.of(options, registration.option, on_task=True)
        self._components.check(changed)
        check_pool(registration, changed)
        registration.option = changed
        self._refresh(name)

    def add_marshaller(self, key: str, marshaller: Marshaller) -> None:
        """Make a marshaller known under a key, the same at callers and workers. Raises BadOption."""
        self._components.marshallers.add(key, marshaller)

    def set_marshaller(self, name: str, *, task: str | None = None, report: str | None = None) -> None:
        """Choose the marshallers for a task's arguments and for its reports. Raises NotRegistered, BadOption."""
        registration = self._registry.get(name)
        for key in (task, report):
            if key is not None:
                self._components.marshaller(key)
        registration.marshaller = task or registration.marshaller
        registration.report_marshaller = report or registration.report_marshaller
        self._refresh(name)

    def add_id_maker(self, key: str, maker: IDMaker) -> None:
        """Make an id maker known under a key. Raises BadOption."""
        self._components.id_makers.add(key, maker)

    def set_id_maker(self, name: str, key: str) -> None:
        """Choose who makes the ids of a task's calls. Raises NotRegistered, BadOption."""
        registration = self._registry.get(name)
        self._components.id_maker(key)
        registration.id_maker = key
        self._refresh(name)

    def lifespan(self, fn: F) -> F:
        """Have a context manager (sync or async) entered once in every worker process: `context.state`."""
        self._lifespan = fn
        return fn

    # -- hooks -------------------------------------------------------------------------------------

    def on_error(self, handler: F) -> F:
        """Have `handler(context, exception)` called when a task's last attempt has raised."""
        return self._add_hook("on_error", handler)

    def on_publish(self, fn: F) -> F:
        """Have `fn(context)` called before a call is sent; it may change `context.headers`."""
        return self._add_hook("on_publish", fn)

    def before_task(self, fn: F) -> F:
        """Have `fn(context)` called before each attempt, where the task runs."""
        return self._add_hook("before_task", fn)

    def after_task(self, fn: F) -> F:
        """Have `fn(context, report)` called after each attempt, however it ended."""
        return self._add_hook("after_task", fn)

    def on_retry(self, fn: F) -> F:
        """Have `fn(context, exception)` called when an attempt failed and there will be another."""
        return self._add_hook("on_retry", fn)

    def on_success(self, fn: F) -> F:
        """Have `fn(context, value)` called after each SUCCESS."""
        return self._add_hook("on_success", fn)

    def on_failure(self, fn: F) -> F:
        """Have `fn(context, failure)` called after each final FAILURE."""
        return self._add_hook("on_failure", fn)

    def _add_hook(self, moment: str, fn: F) -> F:
        self._hooks.add(moment, fn)
        self._refresh()
        return fn


class _Decorator:
    """What `@app.task(...)` returns, as type checkers see it."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Unrelated, P], Coroutine[Any, Any, R]], /
    ) -> AsyncTask[Concatenate[Any, P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[_Unrelated, P], R], /) -> Task[Concatenate[Any, P], R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context, P], R], /) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        """Never called: `task` returns a plain function."""
        raise NotImplementedError
