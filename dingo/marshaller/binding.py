"""From a function to the generated code that checks and corrects the arguments of its calls.

Everything that can be known of a function is found out once: `Binding.check` of `def add(a: int, b: int)`
is compiled from

    def check(a, b):
        if type(a) is not int: a = fix_a(a)
        if type(b) is not int: b = fix_b(b)
        return (a, b), None

so that Python itself binds the arguments and a good call costs little more than a call.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from inspect import Parameter, Signature
from string import Formatter
from typing import TYPE_CHECKING, Any, Final

from dingo.errors import BadArguments
from dingo.marshaller.annotations import Unresolved, resolve, text
from dingo.marshaller.correction import Correction, Mismatch, correction, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["Binding", "Unresolved", "binding_of", "is_context"]

# What a parameter that was not given holds in the generated code.
_MISSING: Final = type("Missing", (), {"__repr__": lambda _: "<not given>"})()
# How a Context is spelled by those who import it for the type checker only.
_CONTEXT_TEXTS = frozenset({"Context", "dingo.Context"})
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def is_context(annotation: Any) -> bool:
    """Whether it is the class of the job's context, known by its mark `__dingo_context__ = True`."""
    return isinstance(annotation, type) and getattr(annotation, "__dingo_context__", None) is True


class Binding:
    """What is known of a function: how its arguments are checked and its return value corrected.

    `check(*args, **kwargs)` returns the corrected arguments as they were given, `(args, kwargs or None)`
    (defaults are not filled in), and raises `BadArguments`, or TypeError where they do not even bind: the
    caller of `check` catches TypeError and raises what `refuse` makes of it.
    `takes_context`: the first parameter is a Context, and is no part of the call nor of `signature`.
    `is_async`: a call of the function gives an awaitable. `returns` corrects what it returns (or what
    awaiting gives). `plans` is where marshallers keep what they have prepared for this function.
    """

    __slots__ = (
        "__weakref__",
        "check",
        "corrections",
        "fn",
        "is_async",
        "name",
        "plans",
        "returns",
        "signature",
        "takes_context",
        "types",
    )

    def __init__(self, fn: Callable[..., Any], name: str, types: Mapping[str, Any]) -> None:
        self.fn = fn
        self.name = name
        self.types = types
        self.is_async = _is_async(fn)
        self.takes_context, self.signature = _signature_of(fn, types)
        self.corrections = {
            parameter.name: _correction_of(parameter.name, parameter.annotation)
            for parameter in self.signature.parameters.values()
        }
        self.returns = _correction_of("return", self.signature.return_annotation)
        self.plans: dict[Any, Any] = {}
        self.check: Callable[..., tuple[tuple[Any, ...], dict[str, Any] | None]] = _Compiler(self).compile()

    def compile(self, *lines: str, **names: Any) -> Callable[..., Any]:
        """Compile a function that checks its arguments as `check` does, and goes on with other code.

        In the lines `{args}` and `{kwargs}` stand for what `check` would return, and each of the `names` for its
        value; any other `{name}` is a variable. It raises what `check` does.
        """
        return _Compiler(self, lines, names).compile()

    def describe(self) -> str:
        """Return the signature with the task's name: `add(a: int, b: int) -> int`."""
        parameters = [
            each.replace(
                annotation=_named(each.annotation),
                default=each.default if each.default is Parameter.empty else _Text(_default(each.default)),
            )
            for each in self.signature.parameters.values()
        ]
        returned = _named(self.signature.return_annotation)
        return f"{self.name}{Signature(parameters, return_annotation=returned)}"

    def refuse(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: BaseException | None = None
    ) -> BadArguments:
        """Make the error for arguments that `check` did not take; `error` is what it raised.

        A `BadArguments` is returned as it is.
        """
        if isinstance(error, BadArguments):
            return error
        wrong = _arity_fault(self.signature, args, kwargs) or f"the arguments cannot be checked: {error}"
        return BadArguments(f"{self.name}(): {wrong}. Signature: {self.describe()}")

    def corrected(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments corrected, by position and by name as given. Raises `BadArguments`."""
        try:
            checked, named = self.check(*args, **kwargs)
        except BadArguments:
            raise
        except TypeError as error:
            raise self.refuse(tuple(args), kwargs, error) from None
        given = len(args)
        if len(checked) == given:
            return checked, named or {}
        moved = dict(zip(list(self.signature.parameters)[given:], checked[given:], strict=False)) | (named or {})
        return checked[:given], {name: moved[name] for name in kwargs}

    def __repr__(self) -> str:
        return f"<Binding {self.describe()}>"


# By id, for a callable need not be hashable; weakly, for a Binding keeps its function alive.
_bindings: dict[int, weakref.ref[Binding]] = {}


def binding_of(fn: Callable[..., Any], *, name: str | None = None, types: Mapping[str, Any] | None = None) -> Binding:
    """Return the binding of a function: the same one for as long as somebody holds it.

    Keep it: making one compiles code. `name` is the task's (the function's unless given). `types` supplies
    names for forward references and replaces a binding made without them. Raises `Unresolved` for a forward
    reference to what does not exist.
    """
    reference = _bindings.get(id(fn))
    known = reference() if reference is not None else None
    if known is not None and known.fn is fn:
        if types is None and (name is None or name == known.name):
            return known
        types = known.types if types is None else types
    made = Binding(fn, name or _name_of(fn), dict(types or {}))
    _remember(made)
    return made


def _remember(binding: Binding) -> None:
    key = id(binding.fn)

    def forget(reference: weakref.ref[Binding]) -> None:
        if _bindings.get(key) is reference:
            del _bindings[key]

    _bindings[key] = weakref.ref(binding, forget)


def _name_of(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", None)
    return name if isinstance(name, str) else type(fn).__name__


# -- reading the signature -------------------------------------------------------------------------


def _is_async(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    if inspect.iscoroutinefunction(fn):
        return True
    return not isinstance(fn, type) and inspect.iscoroutinefunction(type(fn).__call__)


def _signature_of(fn: Callable[..., Any], types: Mapping[str, Any]) -> tuple[bool, Signature]:
    """Return whether the first parameter is the context, and the signature without it, resolved."""
    try:
        signature = inspect.signature(fn)
    except (ValueError, TypeError):  # a builtin that does not tell
        return False, Signature(
            [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
        )
    names, extra = _namespaces(fn)
    extra.update(types)
    parameters = list(signature.parameters.values())
    takes_context = bool(parameters) and _takes_context(parameters[0], names, extra)
    resolved = [
        each.replace(annotation=_resolved(each.name, each.annotation, names, extra))
        for each in parameters[takes_context:]
    ]
    returned = _resolved("return", signature.return_annotation, names, extra)
    return takes_context, Signature(resolved, return_annotation=returned)


def _namespaces(fn: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the globals and the closure of the function whose annotations a callable shows."""
    while True:
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif isinstance(fn, types.MethodType):
            fn = fn.__func__
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        elif isinstance(fn, type):
            fn = fn.__init__  # type: ignore[misc]
        elif not hasattr(fn, "__globals__") and hasattr(type(fn).__call__, "__globals__"):
            fn = type(fn).__call__
        else:
            break
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True) if hasattr(fn, "__code__") else ()
    closure: dict[str, Any] = {}
    for name, cell in cells:
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # assigned later: not there yet
            continue
    closure.update((each.__name__, each) for each in getattr(fn, "__type_params__", ()))
    return getattr(fn, "__globals__", {}), closure


def _takes_context(first: Parameter, names: dict[str, Any], extra: dict[str, Any]) -> bool:
    if first.kind not in _POSITIONAL or first.annotation is Parameter.empty:
        return False
    try:
        return is_context(resolve(first.name, first.annotation, names, extra))
    except Unresolved:
        return isinstance(first.annotation, str) and first.annotation.strip("'\" ") in _CONTEXT_TEXTS


def _resolved(place: str, annotation: Any, names: dict[str, Any], extra: dict[str, Any]) -> Any:
    if annotation is Parameter.empty:
        return annotation
    return resolve(place, annotation, names, extra)


def _correction_of(place: str, annotation: Any) -> Correction:
    try:
        return correction(annotation)
    except Unresolved as error:
        raise Unresolved(place, error.reference) from error


class _Text:
    """Stands in a Signature for what shall be shown as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _named(annotation: Any) -> Any:
    return annotation if annotation is Parameter.empty else _Text(text(annotation))


def _default(value: Any) -> str:
    said = shown(value)
    return said.removesuffix(f" ({type(value).__name__})")


# -- what is wrong with arguments that do not bind -------------------------------------------------


def _arity_fault(signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str | None:
    """Say which argument is missing, surplus, unknown or given twice; None if nothing is."""
    parameters = signature.parameters.values()
    positional = [each for each in parameters if each.kind in _POSITIONAL]
    by_name = {each.name for each in parameters if each.kind in {_POSITIONAL[1], Parameter.KEYWORD_ONLY}}
    kinds = {each.kind for each in parameters}
    given = positional[: len(args)]
    for each in given:
        if each.name in kwargs and each.name in by_name:
            return f"argument {each.name!r} is given twice, by position and by name"
    if len(args) > len(positional) and Parameter.VAR_POSITIONAL not in kinds:
        return f"{_count(len(positional))} taken by position, {len(args)} given"
    if Parameter.VAR_KEYWORD not in kinds:
        for name in kwargs:
            if name not in by_name:
                return f"unknown argument {name!r}"
    for each in parameters:
        required = each.default is Parameter.empty and each.kind in {*_POSITIONAL, Parameter.KEYWORD_ONLY}
        named = each.name in kwargs and each.name in by_name
        if required and each not in given and not named:
            return f"missing argument {each.name!r}"
    return None


def _count(number: int) -> str:
    return "1 argument is" if number == 1 else f"{number} arguments are"


# -- generating the code ---------------------------------------------------------------------------


class _Compiler:
    """Writes and compiles the `check` of one binding.

    Names of its own start with a prefix that no parameter has: a parameter may be called `type`.
    """

    def __init__(
        self,
        binding: Binding,
        end: Iterable[str] = ("return {args}, {kwargs}",),
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.binding = binding
        self.end = tuple(end)
        self.names = dict(names or {})
        self.parameters = list(binding.signature.parameters.values())
        self.prefix = "_"
        while any(each.name.startswith(self.prefix) for each in self.parameters):
            self.prefix += "_"
        self.globals: dict[str, Any] = {}
        self.lines: list[str] = []

    def compile(self) -> Callable[..., Any]:
        """Return the compiled function."""
        self.lines = [f"def {self.own('check')}({self.head()}):"]
        self.body()
        source = "\n    ".join(self.lines)
        code = compile(source, f"<dingo: the arguments of {self.binding.name}>", "exec")
        exec(code, self.globals)  # noqa: S102 - made of parameter names, which are identifiers
        check: Callable[..., Any] = self.globals[self.own("check")]
        return check

    def own(self, name: str, value: Any = None) -> str:
        """Mangle a name of the generated code, and bind it if a value is given."""
        mangled = f"{self.prefix}{name}"
        if value is not None:
            self.globals[mangled] = value
        return mangled

    def head(self) -> str:
        """Write the parameters: those with a default get the sentinel for it."""
        missing = self.own("missing", _MISSING)
        bare = [
            each.replace(
                annotation=Parameter.empty,
                default=Parameter.empty if each.default is Parameter.empty else _Text(missing),
            )
            for each in self.parameters
        ]
        return str(Signature(bare)).removeprefix("(").removesuffix(")")

    def body(self) -> None:
        """Write the checks and the return."""
        positional = [each for each in self.parameters if each.kind in _POSITIONAL]
        required = [each for each in positional if each.default is Parameter.empty]
        others = [each for each in self.parameters if each not in required]
        for each in required:
            self.lines += self.checked(each, "")
        args = _tuple_of(required)
        if not others:
            self.finish(args, "None")
            return
        self.lines += [f"{self.own('args')} = {args}", f"{self.own('kwargs')} = None"]
        for each in others:
            self.other(each, positional)
        self.finish(self.own("args"), self.own("kwargs"))

    def finish(self, args: str, kwargs: str) -> None:
        """Write what happens with the checked arguments."""
        spelled = {name: self.own(f"with_{name}", value) for name, value in self.names.items()}
        for line in self.end:
            fields = {name for _, name, _, _ in Formatter().parse(line) if name}
            self.lines.append(
                line.format(
                    **{name: self.own(f"to_{name}") for name in fields} | spelled | {"args": args, "kwargs": kwargs}
                )
            )

    def checked(self, parameter: Parameter, indent: str) -> list[str]:
        """Write the check of one parameter."""
        name, part = parameter.name, self.binding.corrections[parameter.name]
        if part.fix is None:
            return []
        fix = self.own(f"fix_{name}", self.fixer(name, part.fix))
        if part.exact is None:
            return [f"{indent}{name} = {fix}({name})"]
        kind, exact = self.own("type", type), self.own(f"type_{name}", part.exact)
        return [f"{indent}if {kind}({name}) is not {exact}: {name} = {fix}({name})"]

    def other(self, parameter: Parameter, positional: list[Parameter]) -> None:
        """Write what is done with a parameter that may be missing, or goes by name, or is many."""
        name, args, kwargs = parameter.name, self.own("args"), self.own("kwargs")
        if parameter.kind is Parameter.VAR_POSITIONAL:
            self.lines.append(f"if {name}: {args} += {self.own('rest', self.rest(name))}({name})")
        elif parameter.kind is Parameter.VAR_KEYWORD:
            surplus = self.own("surplus", self.surplus(name))
            self.lines.append(f"if {name}: {kwargs} = {{**({kwargs} or {{}}), **{surplus}({name})}}")
        elif parameter.kind is Parameter.KEYWORD_ONLY:
            if parameter.default is Parameter.empty:
                self.lines += self.checked(parameter, "")
                self.by_name(name, "")
            else:
                self.given(name)
                self.lines += self.checked(parameter, "    ")
                self.by_name(name, "    ")
        else:
            self.given(name)
            self.lines += self.checked(parameter, "    ")
            self.in_place(parameter, positional[: positional.index(parameter)])

    def in_place(self, parameter: Parameter, before: list[Parameter]) -> None:
        """Write the passing on by position, or by name where one before it was not given."""
        args = f"{self.own('args')} = {_tuple_of([*before, parameter])}"
        may_miss = bool(before) and before[-1].default is not Parameter.empty
        if not may_miss or parameter.kind is Parameter.POSITIONAL_ONLY:
            self.lines.append(f"    {args}")
            return
        missing, kwargs = self.own("missing"), self.own("kwargs")
        self.lines += [f"    if {before[-1].name} is not {missing} and {kwargs} is None: {args}", "    else:"]
        self.by_name(parameter.name, "        ")

    def given(self, name: str) -> None:
        """Write the condition for what follows: the parameter was given."""
        self.lines.append(f"if {name} is not {self.own('missing')}:")

    def by_name(self, name: str, indent: str) -> None:
        """Write the passing on by name."""
        kwargs = self.own("kwargs")
        self.lines += [
            f"{indent}if {kwargs} is None: {kwargs} = {{{name!r}: {name}}}",
            f"{indent}else: {kwargs}[{name!r}] = {name}",
        ]

    def fixer(self, name: str, fix: Callable[..., Any]) -> Callable[[Any], Any]:
        """Return what corrects one argument or raises `BadArguments`."""
        task = self.binding.name

        def fixed(value: Any) -> Any:
            try:
                return fix(value)
            except Mismatch as mismatch:
                raise _refusal(task, name, mismatch) from mismatch.__cause__

        return fixed

    def rest(self, name: str) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
        """Return what corrects the surplus positional arguments."""
        part = self.binding.corrections[name]
        if part.fix is None:
            return lambda values: values
        return self.fixer(f"*{name}", lambda values: tuple(_each(part, enumerate(values)).values()))

    def surplus(self, name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Return what corrects the surplus keyword arguments."""
        part = self.binding.corrections[name]
        if part.fix is None:
            return lambda values: values
        return self.fixer(f"**{name}", lambda values: _each(part, values.items()))


def _refusal(task: str, parameter: str, mismatch: Mismatch) -> BadArguments:
    at = f" at {mismatch.place}" if mismatch.path else ""
    return BadArguments(f"{task}(): argument {parameter!r}{at}: {mismatch.detail}")


def _each(part: Correction, values: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Correct values that stand under keys (or numbers), which name them in the error."""
    fixed = {}
    key = None
    try:
        for key, value in values:
            fixed[key] = part.apply(value)
    except Mismatch as mismatch:
        raise mismatch.inside(f"[{key!r}]") from None
    return fixed


def _tuple_of(parameters: list[Parameter]) -> str:
    return f"({''.join(f'{each.name}, ' for each in parameters)})"
