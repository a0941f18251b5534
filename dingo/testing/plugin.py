"""The pytest plugin: the fixtures `dingo_local` and `dingo_record`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dingo.app import App
    from dingo.testing import Call, Desk


@pytest.fixture
def dingo_local() -> Iterator[Callable[[App], Desk]]:
    """Take an app to the desk until the end of the test, with `dingo.testing.local`."""
    from dingo.testing import local  # noqa: PLC0415 - only for tests that use it

    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(local(app))


@pytest.fixture
def dingo_record() -> Iterator[Callable[[App], list[Call]]]:
    """Record an app's calls until the end of the test, with `dingo.testing.record`."""
    from dingo.testing import record  # noqa: PLC0415 - only for tests that use it

    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(record(app))
