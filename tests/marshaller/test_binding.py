"""Arguments are bound as Python binds them, corrected, and come out as they were given."""

import asyncio
import functools
import gc
import inspect
import math
import typing
import weakref
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from conftest import text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dingo.errors import BadArguments
from dingo.marshaller import Unresolved, binding_of, is_context


def bound(fn, *args, **kwargs):
    binding = binding_of(fn)
    try:
        return binding.check(*args, **kwargs)
    except TypeError as error:
        raise binding.refuse(args, kwargs, error) from None


def refusal(fn, *args, **kwargs):
    with pytest.raises(BadArguments) as caught:
        bound(fn, *args, **kwargs)
    return str(caught.value)


def add(a: int, b: int) -> int:
    return a + b


def mixed(a, b: int = 1, c: int = 2, *rest: int, key: int, option: int = 3, **extra: int):
    return a, b, c, rest, key, option, extra


def only_position(a: int, b: int = 1, /, c: int = 2, **extra):
    return a, b, c, extra


# --- the good path


def test_arguments_come_out_as_given():
    assert bound(add, 2, 3) == ((2, 3), None)


def test_arguments_by_name_come_out_by_position():
    assert bound(add, b=3, a=2) == ((2, 3), None)


def test_arguments_are_corrected():
    (a, b), _ = bound(add, 2.0, True)
    assert (type(a), type(b)) == (int, bool)


@pytest.mark.parametrize(
    "args, kwargs, expected",
    [
        ((1,), {"key": 2}, ((1,), {"key": 2})),
        ((1, 2), {"key": 2}, ((1, 2), {"key": 2})),
        ((1,), {"b": 5, "key": 2}, ((1, 5), {"key": 2})),
        ((1,), {"c": 5, "key": 2}, ((1,), {"c": 5, "key": 2})),
        ((1, 2), {"c": 5, "key": 2}, ((1, 2, 5), {"key": 2})),
        ((1, 2, 3, 4, 5.0), {"key": 2.0}, ((1, 2, 3, 4, 5), {"key": 2})),
        ((1,), {"key": 2, "option": 4, "more": 5.0}, ((1,), {"key": 2, "option": 4, "more": 5})),
    ],
)
def test_every_kind_of_parameter(args, kwargs, expected):
    assert bound(mixed, *args, **kwargs) == expected


def test_positional_only_names_are_free_for_others():
    assert bound(only_position, 1, a=5, b=6) == ((1,), {"a": 5, "b": 6})


def test_positional_only_defaults():
    assert bound(only_position, 1, 2, c=3) == ((1, 2, 3), None)


def test_defaults_are_not_filled_in_nor_checked():
    def fn(a: int = None): ...

    assert bound(fn) == ((), None)


def test_no_parameters():
    assert bound(lambda: None) == ((), None)


def test_unannotated_arguments_are_passed_as_they_are():
    thing = object()
    assert bound(lambda value: None, thing)[0][0] is thing


def test_parameters_may_have_any_name():
    def fn(type: int, fix: int, _: int, __type: int, _fix_type: int, len=None, *args: int, check=1, **kwargs: int): ...

    result = bound(fn, 1.0, 2.0, 3.0, 4.0, 5.0, None, 6.0, check=7, _missing=8.0)
    assert result == ((1, 2, 3, 4, 5, None, 6), {"check": 7, "_missing": 8})


def test_the_check_itself_is_the_generated_function():
    assert inspect.isfunction(binding_of(add).check)
    assert list(inspect.signature(binding_of(add).check).parameters) == ["a", "b"]


calls = st.tuples(
    st.lists(st.integers(), max_size=6),
    st.dictionaries(st.sampled_from(["a", "b", "c", "key", "option", "more"]), st.integers(), max_size=5),
)


@pytest.mark.parametrize("fn", [mixed, only_position, add, lambda a, b=1, *, c, d=2: (a, b, c, d), lambda *a: a])
@settings(max_examples=150, deadline=None)
@given(call=calls)
def test_what_python_would_bind_is_bound_the_same(fn, call):
    args, kwargs = call
    try:
        expected = fn(*args, **kwargs)
    except TypeError:
        assert "Signature: " in refusal(fn, *args, **kwargs)
        return
    args, kwargs = bound(fn, *args, **kwargs)
    assert fn(*args, **(kwargs or {})) == expected


@pytest.mark.parametrize("args, kwargs", [((1, 2), {}), ((1,), {"b": 2}), ((), {"b": 2, "a": 1})])
def test_corrected_keeps_the_form_of_the_call(args, kwargs):
    floats = tuple(map(float, args)), {name: float(value) for name, value in kwargs.items()}
    corrected = binding_of(add).corrected(*floats)
    assert corrected == (args, kwargs)
    assert {*map(type, (*corrected[0], *corrected[1].values()))} == {int}


@pytest.mark.parametrize("args", [("x", 1), (1,)])
def test_corrected_refuses(args):
    with pytest.raises(BadArguments):
        binding_of(add).corrected(args, {})


# --- refusals


def test_a_missing_argument():
    assert refusal(add, 1) == "add(): missing argument 'b'. Signature: add(a: int, b: int) -> int"


def test_a_surplus_argument():
    assert refusal(add, 1, 2, 3) == (
        "add(): 2 arguments are taken by position, 3 given. Signature: add(a: int, b: int) -> int"
    )


def test_an_unknown_argument():
    assert refusal(add, 1, 2, c=3) == "add(): unknown argument 'c'. Signature: add(a: int, b: int) -> int"


def test_an_argument_given_twice():
    assert "argument 'a' is given twice" in refusal(add, 1, a=2)


def test_a_missing_keyword_only_argument():
    assert "missing argument 'key'" in refusal(mixed, 1)


def test_a_positional_only_argument_by_name():
    assert "missing argument 'a'" in refusal(only_position, a=1)


def test_a_wrong_type():
    assert refusal(add, 1, "2") == "add(): argument 'b': expected int, got '2' (str)"


def test_none_for_what_is_not_optional():
    assert refusal(add, None, 1) == "add(): argument 'a': expected int, got None"


def test_the_path_to_a_wrong_element():
    @dataclass
    class Price:
        amount: Decimal

    def total(prices: list[Price]): ...

    wrong = [{"amount": "1"}, {"amount": "2"}, {"amount": 3.9}]
    assert refusal(total, wrong) == "total(): argument 'prices' at [2].amount: expected Decimal, got 3.9 (float)"


def test_a_wrong_surplus_argument():
    assert refusal(mixed, 1, 2, 3, 4, "5", key=1) == "mixed(): argument '*rest' at [1]: expected int, got '5' (str)"


def test_a_wrong_surplus_keyword():
    assert "argument '**extra' at ['more']" in refusal(mixed, 1, key=1, more="x")


def test_a_refusal_passes_through():
    error = BadArguments("as it is")
    assert binding_of(add).refuse((), {}, error) is error


def test_another_type_error_is_told():
    assert "cannot be checked: odd" in str(binding_of(add).refuse((1, 2), {}, TypeError("odd")))


# --- what may be called


class Adder:
    __hash__ = None

    def __call__(self, a: int, b: "int" = 1) -> int:
        return a + b

    def method(self, a: "int") -> int:
        return a

    @classmethod
    def of(cls, a: int): ...

    @staticmethod
    def static(a: int): ...


class AsyncAdder:
    async def __call__(self, a: int) -> int:
        return a


async def later(a: int) -> int:
    return a


@pytest.mark.parametrize(
    "fn",
    [
        Adder(),
        Adder().method,
        Adder.of,
        Adder.static,
        functools.partial(add, 1),
        functools.partial(add, b=1),
        functools.partial(functools.partial(Adder()), b=2),
        functools.lru_cache(lambda a: a),
        later,
        AsyncAdder(),
    ],
    ids=text_of,
)
def test_callables_of_every_kind(fn):
    assert bound(fn, 3) == ((3,), None)
    assert "Signature: " in refusal(fn, 1, 2, 3)


@pytest.mark.parametrize("fn", [functools.partial(add, 1), Adder(), Adder().method, AsyncAdder()], ids=text_of)
def test_their_annotations_count(fn):
    assert "expected int" in refusal(fn, "x")


def test_a_class_is_a_callable():
    @dataclass
    class Price:
        amount: Decimal

    assert bound(Price, "1.5") == ((Decimal("1.5"),), None)


def test_a_wrapped_function_shows_the_annotations_of_what_it_wraps():
    @functools.wraps(add)
    def wrapper(*args, **kwargs): ...

    assert "expected int" in refusal(wrapper, "x", 1)


@pytest.mark.parametrize("fn", [dict, max, min], ids=text_of)
def test_builtins_that_do_not_tell_take_anything(fn):
    assert bound(fn, 1, 2, key=3)[0] == (1, 2)


def test_builtins_that_tell_are_held_to_it():
    assert bound(math.sqrt, 2) == ((2,), None)


@pytest.mark.parametrize(
    "fn, expected",
    [
        *((later, True), (functools.partial(later, 1), True), (AsyncAdder(), True)),
        *((functools.partial(AsyncAdder()), True), (AsyncAdder().__call__, True)),
        *((add, False), (AsyncAdder, False), (Adder(), False), (max, False)),
    ],
    ids=text_of,
)
def test_is_async(fn, expected):
    assert binding_of(fn).is_async is expected
    assert binding_of(fn).is_async is not (not asyncio.iscoroutinefunction(fn)) or expected


def test_the_return_annotation_of_async_is_that_of_the_awaited_value():
    assert binding_of(later).returns.exact is int


# --- names and descriptions


def test_describe():
    def fn(a, b: int | None = None, /, c: "list[Decimal]" = (), *rest: str, d: Any, **extra: float) -> None: ...

    assert binding_of(fn).describe() == (
        "fn(a, b: int | None = None, /, c: list[Decimal] = (), *rest: str, d: Any, **extra: float) -> None"
    )


def test_the_name_is_the_task_s():
    binding = binding_of(add, name="math.add")
    assert binding.describe().startswith("math.add(")
    with pytest.raises(BadArguments, match=r"^math\.add\(\): argument"):
        binding.check("x", 1)


# --- the context


class Context:
    __dingo_context__ = True


def test_a_context_is_known_by_its_mark():
    assert is_context(Context)
    assert not is_context(Context())
    assert not is_context(int)


@pytest.mark.parametrize("annotation", [Context, "Context"])
def test_a_context_parameter_is_no_part_of_the_call(annotation):
    def fn(ctx, a: int): ...

    fn.__annotations__["ctx"] = annotation
    binding = binding_of(fn)
    assert binding.takes_context
    assert list(binding.signature.parameters) == ["a"]
    assert binding.check(1) == ((1,), None)
    assert binding.describe() == "fn(a: int)"


@pytest.mark.parametrize("annotation", ["dingo.Context", "'Context'"])
def test_a_context_that_only_the_type_checker_imports(annotation):
    def fn(ctx): ...

    fn.__annotations__["ctx"] = annotation
    fn = type(fn)(fn.__code__, {"__builtins__": {}})
    fn.__annotations__["ctx"] = annotation
    assert binding_of(fn).takes_context


def test_a_method_may_take_a_context():
    class Service:
        def run(self, ctx: Context, a: int): ...

    assert binding_of(Service().run).takes_context


@pytest.mark.parametrize("annotation", [Any, object, int, inspect.Parameter.empty])
def test_other_first_parameters_are_ordinary(annotation):
    def fn(ctx): ...

    fn.__annotations__["ctx"] = annotation
    assert not binding_of(fn).takes_context


def test_a_context_elsewhere_is_ordinary():
    def fn(a: int, ctx: Context): ...

    assert not binding_of(fn).takes_context


# --- forward references


class Order:
    pass


def test_a_forward_reference_is_resolved():
    def fn(order: "Order", many: list["Order"]): ...

    assert refusal(fn, 1, []).startswith("fn(): argument 'order': expected Order")


def test_an_unknown_forward_reference_names_the_parameter():
    def fn(a: int, b: "Missing"): ...  # noqa: F821

    with pytest.raises(Unresolved) as caught:
        binding_of(fn)
    assert (caught.value.parameter, caught.value.reference) == ("b", "Missing")


def test_an_unknown_forward_reference_inside_a_generic():
    def fn(b: "dict[str, Missing]"): ...  # noqa: F821

    with pytest.raises(Unresolved) as caught:
        binding_of(fn)
    assert (caught.value.parameter, caught.value.reference) == ("b", "Missing")


def test_an_unknown_return_annotation():
    def fn() -> "Missing": ...  # noqa: F821

    with pytest.raises(Unresolved) as caught:
        binding_of(fn)
    assert caught.value.parameter == "return"


def test_text_that_is_no_annotation():
    def fn(a: "how many to take"): ...  # noqa: F722

    with pytest.raises(Unresolved, match="how many to take"):
        binding_of(fn)


def test_types_supply_what_only_the_type_checker_imports():
    def fn(a: "Missing"): ...  # noqa: F821

    binding = binding_of(fn, types={"Missing": int})
    assert binding.check(1.0) == ((1,), None)
    assert binding_of(fn) is binding


def test_types_replace_the_cached_binding():
    def fn(a: "Order"): ...

    first = binding_of(fn)
    second = binding_of(fn, types={"Order": int})
    assert second is not first
    assert binding_of(fn) is second
    assert second.check(1) == ((1,), None)


def test_names_of_the_closure_are_known():
    class Local: ...

    def fn(a: "Local"):
        return Local

    assert binding_of(fn).corrections["a"].exact is Local


# --- the cache


def test_a_function_has_one_binding():
    binding = binding_of(add)
    assert binding_of(add) is binding


def test_a_function_is_not_kept_alive():
    def make():
        def fn(a: int): ...

        binding_of(fn)
        return weakref.ref(fn)

    reference = make()
    gc.collect()
    assert reference() is None


def test_a_new_function_at_the_same_place_gets_its_own():
    for number in range(50):
        fn = eval(f"lambda a{number}: 0")
        assert list(binding_of(fn).signature.parameters) == [f"a{number}"]


@pytest.mark.skipif(not hasattr(typing, "TypeAliasType"), reason="syntax of Python 3.12")
def test_type_parameters_are_known():
    namespace = {}
    exec("def fn[T: int](a: 'list[T]'): ...", namespace)
    assert "expected int" in refusal(namespace["fn"], ["x"])
