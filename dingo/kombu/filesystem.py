"""kombu's filesystem transport, made safe to work from: the same folders and files, so that plain kombu may join in.

Stock `filesystem` deletes a message when it is fetched, and may fetch one that is only half written. Here a file gets
its name when it is complete; who fetches it moves it into a folder of its own, and deletes it when it is acknowledged.

    {data_folder}/{rank}{milliseconds}_{...}.{queue}.msg  messages that wait; kombu's names lack the rank
    {data_folder_in}/.claimed/{owner}/                    messages that a process has fetched
    {data_folder_in}/.claimed/{owner}.lock                locked by that process while it lives
    {data_folder_in}/.refused/                            files that are no messages

The system frees the lock of a process that died; another that fetches looks about once a second, and moves its
messages back. Nothing is flushed to the disk: messages survive every process, not a power cut.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections import deque
from pathlib import Path
from queue import Empty
from time import monotonic
from typing import Any

from kombu.transport import filesystem as stock
from kombu.utils.json import dumps, loads

from dingo.kombu.keeping import Keeping

# How often a reader looks for dead ones (seconds).
REAP_EVERY = 1.0
# A list of the folder is good for so long, unless all it names has been fetched (seconds).
LIST_FOR = 0.1

_numbers = itertools.count()


class Channel(Keeping, stock.Channel):  # type: ignore[misc]
    """A channel whose messages are kept until they are acknowledged."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claimed: dict[str, Path] = {}
        self._mine: Path | None = None
        self._lock: Any = None
        self._reaped = 0.0
        self._listed = 0.0
        self._names: dict[str, deque[str]] = {}

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:
        del kwargs
        # Names sort as messages are fetched: the highest priority first, then in the order of sending.
        rank = self._get_message_priority(payload, reverse=True)
        name = f"{rank}{round(monotonic() * 1000):015d}_{next(_numbers):012d}{os.urandom(6).hex()}.{queue}.msg"
        folder = Path(self.data_folder_out)
        part = folder / f".{name}.part"
        part.write_bytes(dumps(payload).encode())
        part.rename(folder / name)

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        del timeout
        self._reap()
        if not self._names.get(queue) or monotonic() - self._listed > LIST_FOR:
            self._list()
        names = self._names.get(queue, ())
        while names:
            path = self._place() / names[0]
            try:
                (Path(self.data_folder_in) / names.popleft()).rename(path)
            except FileNotFoundError:
                continue  # another was faster
            return self._read(path)
        raise Empty

    def _list(self) -> None:
        """Note which messages wait in which queue, in their order."""
        self._listed = monotonic()
        self._names = {}
        for name in sorted(os.listdir(self.data_folder_in)):  # noqa: PTH208 - names are all it takes
            _, _, ending = name.partition(".")
            if ending.endswith(".msg"):
                self._names.setdefault(ending.removesuffix(".msg"), deque()).append(name)

    def _read(self, path: Path) -> Any:
        try:
            payload = loads(path.read_bytes())
            self._claimed[payload["properties"]["delivery_tag"]] = path
        except (ValueError, TypeError, KeyError):
            refused = Path(self.data_folder_in) / ".refused"
            refused.mkdir(exist_ok=True)
            path.rename(refused / path.name)
            raise
        return payload

    def _place(self) -> Path:
        """Return the folder of what is fetched here."""
        if self._mine is None:
            claims = Path(self.data_folder_in) / ".claimed"
            claims.mkdir(exist_ok=True)
            mine = claims / f"{os.getpid()}-{os.urandom(6).hex()}"
            self._lock = mine.with_suffix(".lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            mine.mkdir()
            self._mine = mine
        return self._mine

    def _acknowledge(self, tag: str) -> None:
        path = self._claimed.pop(tag, None)
        if path is not None:
            path.unlink(missing_ok=True)

    def _give_back(self, tag: str) -> None:
        path = self._claimed.pop(tag, None)
        if path is not None:
            path.rename(Path(self.data_folder_in) / path.name)

    def _reap(self) -> None:
        """Move back what dead processes had."""
        now = monotonic()
        if now - self._reaped < REAP_EVERY:
            return
        self._reaped = now
        for lock in (Path(self.data_folder_in) / ".claimed").glob("*.lock"):
            if lock.with_suffix("") == self._mine:
                continue
            try:
                with lock.open() as held:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._bury(lock)
            except (FileNotFoundError, BlockingIOError):
                continue  # it was buried by another, or it lives

    def _bury(self, lock: Path) -> None:
        """Move back what the owner of a lock had. One that has no folder yet is about to lock it."""
        folder = lock.with_suffix("")
        if folder.is_dir():
            for path in folder.iterdir():
                path.rename(Path(self.data_folder_in) / path.name)
            folder.rmdir()
            lock.unlink()

    def close(self) -> None:
        """Put back what was not acknowledged."""
        super().close()
        mine, self._mine = self._mine, None
        if mine is not None:
            self._bury(mine.with_suffix(".lock"))
            self._lock.close()


class Transport(stock.Transport):  # type: ignore[misc]
    """The transport of such channels."""

    Channel = Channel
