"""Types: what mypy makes of registered tasks."""

import textwrap

import pytest

api = pytest.importorskip("mypy.api", reason="mypy is not installed: it comes with dingo-tasks[check]")

GOOD = """
    from typing import Any, Coroutine
    from typing_extensions import assert_type
    import dingo
    from dingo import AsyncTask, Context, Result, Task

    app = dingo.App("local")

    @app.task
    def add(a: int, b: int = 2) -> int:
        return a + b

    @app.task(retry=3, queue="slow")
    def later(a: int) -> str:
        return str(a)

    @app.task
    def told(context: Context, a: int) -> int:
        return a + context.attempt

    @app.task(timeout=5)
    def told_later(context: Context, a: int) -> int:
        return a

    @app.task
    async def fetch(url: str) -> bytes:
        return url.encode()

    @app.task(retry=1)
    async def told_fetch(context: Context, url: str) -> bytes:
        return url.encode()

    @app.task
    def any_first(a: Any, b: int) -> int:
        return b

    @app.task
    def object_first(a: object, b: int) -> int:
        return b

    registered = app.register("registered", add.fn)

    assert_type(add.call(1, 2), Result[int])
    assert_type(add.call(1, b=2), Result[int])
    assert_type(add.call(1).result(), int)
    assert_type(add(1), int)
    assert_type(later.call(1), Result[str])
    assert_type(add.options(priority=3, retry=dingo.Retry()).call(1), Result[int])
    assert_type(told.call(1), Result[int])
    assert_type(told(1), int)
    assert_type(told_later.call(a=1), Result[int])
    assert_type(fetch.call("u"), Result[bytes])
    assert_type(told_fetch.call("u"), Result[bytes])
    any_first.call("x", 1)  # with Any, several overloads fit, and a type checker then takes the call as it is
    assert_type(object_first.call("x", 1), Result[int])

    async def main() -> None:
        assert_type(await add.call(1), int)
        assert_type(await fetch("u"), bytes)
        assert_type(await told_fetch("u"), bytes)
        assert_type(await fetch.call("u"), bytes)
        coroutine: Coroutine[Any, Any, bytes] = fetch("u")
        coroutine.close()

    is_async: AsyncTask[[str], bytes] = fetch
    is_plain: Task[[int], str] = later
"""

BAD = [
    'add.call("x")',
    "add.call()",
    "add.call(1, 2, 3)",
    "add.call(1, c=2)",
    'add("x")',
    "told.call()",
    'told.call("x")',
    "object_first.call(1)",
    'object_first.call(1, "x")',
    "fetch.call(5)",
    "told_fetch.call(5)",
    'add.call(1).result() + "x"',
    "add.options(prioritty=3)",
    'add.options(retry="x")',
    'app.options(timeout="x")',
    "app.task(retyr=3)",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What mypy says: the lines of the good part that it minds, and those of the bad part that it does not."""
    folder = tmp_path_factory.mktemp("typing")
    good = textwrap.dedent(GOOD)
    first = good.count("\n") + 1
    (folder / "sample.py").write_text(good + "\n".join(BAD) + "\n")
    output, errors, _ = api.run(
        [
            "--strict",
            "--follow-imports=silent",
            "--no-error-summary",
            f"--cache-dir={folder}",
            str(folder / "sample.py"),
        ]
    )
    assert not errors
    minded = {}
    for line in output.splitlines():
        parts = line.split(":", 3)
        if len(parts) == 4 and parts[0].endswith("sample.py") and parts[2].strip() == "error":
            minded.setdefault(int(parts[1]), line)
    return first, minded


def test_right_calls_have_the_right_types(report):
    first, minded = report
    assert [line for number, line in minded.items() if number < first] == []


@pytest.mark.parametrize("number", range(len(BAD)), ids=BAD)
def test_a_wrong_call_is_an_error(report, number):
    first, minded = report
    assert first + number in minded
