"""Registry: what `register` wrote down, and Task, the handle on it.

A registration holds a name, its function, its options and which components (marshallers, id maker) it uses.
Names, not code, are what callers and workers share.
"""

from __future__ import annotations

import difflib
import inspect
import weakref
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast

from dingo.errors import AlreadyRegistered, NotRegistered
from dingo.marshaller.binding import Binding, Unresolved, binding_of
from dingo.message.option import Option, OptionFields, laid_over
from dingo.message.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping

    from dingo.app import App
    from dingo.caller.result import Result
    from dingo.plan import Plan

P = ParamSpec("P")
R = TypeVar("R")

NAME_LIMIT = 255


class Registration:
    """One registered task. Its binding is made at once if every annotation is known, else at first use."""

    def __init__(self, name: str, fn: Callable[..., Any], given: Mapping[str, Any],
                 types: Mapping[str, Any] | None) -> None:  # fmt: skip
        _check_name(name)
        _check_function(name, fn)
        self.name = name
        self.fn = fn
        self.given = dict(given)
        self.option = Option.of(given, on_task=True)
        self.types = dict(types or {})
        self.unresolved: Unresolved | None = None
        self.plans: weakref.WeakSet[Plan] = weakref.WeakSet()
        self.marshaller = "json"
        self.report_marshaller = "json"
        self.id_maker: str | None = None
        self._binding: Binding | None = None
        self.resolve()

    def resolve(self) -> bool:
        """Read the annotations, if that has not been possible before. False while one is unknown."""
        if self._binding is None:
            try:
                self._binding = binding_of(self.fn, name=self.name, types=self.types or None)
            except Unresolved as unresolved:
                self.unresolved = unresolved
                return False
            self.unresolved = None
        return True

    def demand(self) -> None:
        """Read the annotations, or raise TypeError that names the parameter whose annotation is unknown."""
        if self.unresolved is not None and not self.resolve():
            unknown, parameter = self.unresolved.reference, self.unresolved.parameter
            raise TypeError(
                f"task {self.name!r}: the annotation {unknown!r} of {parameter!r} is not defined; "
                f"define it before the first call, or pass types={{{unknown!r}: ...}} to register()"
            )

    @property
    def binding(self) -> Binding:
        """How arguments and the return value fit the function."""
        assert self._binding is not None
        return self._binding


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a task is a text, not {name!r}")
    if not name or len(name) > NAME_LIMIT or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise ValueError(f"the name of a task has 1 to {NAME_LIMIT} characters, none of control: not {name[:300]!r}")


def _check_function(name: str, fn: object) -> None:
    if not callable(fn):
        raise TypeError(f"task {name!r} is a function or another callable, not {fn!r}")
    inner: Any = fn
    while isinstance(inner, partial):
        inner = inner.func
    called = inner if inspect.isroutine(inner) else getattr(type(inner), "__call__", inner)  # noqa: B004
    if any(inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one) for one in (inner, called)):
        raise TypeError(f"task {name!r} is a generator function: return a list, or report with context.progress()")


class Registry:
    """All registrations of an app, by name."""

    def __init__(self) -> None:
        self._entries: dict[str, Registration] = {}

    def add(self, registration: Registration, *, replace: bool) -> None:
        """Write a registration down. Raises AlreadyRegistered."""
        if registration.name in self._entries and not replace:
            raise AlreadyRegistered(
                f"a task named {registration.name!r} is registered already: choose another name, or replace=True"
            )
        self._entries[registration.name] = registration

    def get(self, name: object) -> Registration:
        """Look a name up. Raises NotRegistered, with the nearest name there is."""
        entry = self._entries.get(name) if isinstance(name, str) else None
        if entry is None:
            near = difflib.get_close_matches(str(name), self._entries, n=1)
            known = f"did you mean {near[0]!r}?" if near else f"registered are: {', '.join(self._entries) or 'none'}"
            raise NotRegistered(f"no task named {name!r} is registered: {known}")
        return entry

    def __iter__(self) -> Iterator[Registration]:
        """Go over all registrations, in the order they were made."""
        return iter(tuple(self._entries.values()))

    def __len__(self) -> int:
        """Count them."""
        return len(self._entries)


class Task(Generic[P, R]):
    """A registered task: call it as the function it is, or have it called by a worker.

    `task(2, 3)` runs the function here; `task.call(2, 3)` sends the call and returns a Result. `task.fn` is the
    undecorated function. Options given with `options` hold for calls made through what it returns.
    """

    def __init__(self, app: App, registration: Registration, given: Mapping[str, Any] | None = None) -> None:
        self._app = app
        self._registration = registration
        self._given = dict(given or {})
        self._plan: Plan | None = None
        self.name = registration.name
        self.fn: Callable[..., Any] = registration.fn
        update_wrapper(self, registration.fn, updated=())

    def __repr__(self) -> str:
        """Name and signature, once known."""
        known = self._registration.unresolved is None
        return f"<Task {self._registration.binding.describe() if known else self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the plain function, here. A Context parameter gets the current context or a detached one."""
        return cast("R", self._app.run_here(self._registration, args, kwargs))

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the call. Raises what `App.call` does."""
        return self._compiled().send(args, kwargs)

    def call_many(self, argument_tuples: Iterable[tuple[Any, ...]]) -> list[Result[R]]:
        """Send many calls; all arguments are checked before the first is sent."""
        return cast("list[Result[R]]", self._app.send_many(self._compiled(), argument_tuples))

    def map(self, *iterables: Iterable[Any], timeout: float | None = None) -> Iterator[R]:
        """Call it with the items of the iterables and yield the values in order, streaming."""
        return cast("Iterator[R]", self._app.stream(self._compiled, iterables, timeout))

    def options(self, **options: Unpack[OptionFields]) -> Task[P, R]:
        """Return this task with these options on top of those it has. Raises BadOption."""
        given = laid_over(self._given, options)
        Option.of(given, self._registration.option)
        return type(self)(self._app, self._registration, given)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the call not yet made; as a callback it takes the result before its own arguments."""
        return Signature(self.name, args, kwargs, dict(self._given))

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the call not yet made, which takes nothing from the task before it."""
        return Signature(self.name, args, kwargs, dict(self._given), immutable=True)

    def _compiled(self) -> Plan:
        plan = self._plan
        if plan is None or plan.bridge is not self._app._session.caller:  # the app was opened anew since
            plan = self._plan = self._app.plan_for(self._registration, self._given)
        return plan


class AsyncTask(Task[P, R]):
    """A task made of an `async def` function: called directly it returns the coroutine."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """Return the coroutine of the plain function."""
        return cast("Coroutine[Any, Any, R]", self._app.run_here(self._registration, args, kwargs))
