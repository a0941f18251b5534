"""Aio: the members of an App that may wait, for event loops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dingo.app import App
    from dingo.caller.result import Result
    from dingo.inspection import CallInfo, WorkerInfo


class Aio:
    """`app.aio`: each member does what the App's does, on a thread, and is awaited."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result[Any]:
        """As `App.call`, where that may wait (`confirm=True`, `when_full="wait"`)."""
        return await asyncio.to_thread(self._app.call, name, *args, **kwargs)

    async def result(self, id: str, name: str | None = None) -> Result[Any]:
        """As `App.result`."""
        return await asyncio.to_thread(self._app.result, id, name)

    async def forget(self, id: str, name: str | None = None) -> None:
        """As `App.forget`."""
        await asyncio.to_thread(self._app.forget, id, name)

    async def pending(self, queue: str | None = None) -> list[CallInfo]:
        """As `App.pending`."""
        return await asyncio.to_thread(self._app.pending, queue)

    async def delayed(self) -> list[CallInfo]:
        """As `App.delayed`."""
        return await asyncio.to_thread(self._app.delayed)

    async def failed(self) -> list[CallInfo]:
        """As `App.failed`."""
        return await asyncio.to_thread(self._app.failed)

    async def succeeded(self) -> list[CallInfo]:
        """As `App.succeeded`."""
        return await asyncio.to_thread(self._app.succeeded)

    async def workers(self) -> list[WorkerInfo]:
        """As `App.workers`."""
        return await asyncio.to_thread(self._app.workers)

    async def purge(self, queue: str) -> int:
        """As `App.purge`."""
        return await asyncio.to_thread(self._app.purge, queue)

    async def pause(self, queue: str) -> None:
        """As `App.pause`."""
        await asyncio.to_thread(self._app.pause, queue)

    async def resume(self, queue: str) -> None:
        """As `App.resume`."""
        await asyncio.to_thread(self._app.resume, queue)

    async def paused(self) -> list[str]:
        """As `App.paused`."""
        return await asyncio.to_thread(self._app.paused)

    async def flush(self, timeout: float | None = None) -> bool:
        """As `App.flush`."""
        return await asyncio.to_thread(self._app.flush, timeout)

    async def close(self, timeout: float | None = None, *, drain: bool = True) -> None:
        """As `App.close`."""
        if self._app.inside:
            self._app.close(timeout, drain=drain)  # which returns at once
        else:
            await asyncio.to_thread(self._app.close, timeout, drain=drain)
