"""Watching: a file of configuration that is read again when it changes."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dingo.config.files import config_of, unreadable
from dingo.config.kinds import seconds
from dingo.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.config.knobs import Config

_log = logging.getLogger("dingo.config")
T = TypeVar("T")

# File systems give times in steps (4 ms on Linux, 2 s on FAT): a file this young may change again without
# its time changing, so its content is compared too.
SETTLED_NS = 2_000_000_000

_Stamp = tuple[int, int, int]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino


class _Snapshot(NamedTuple):
    """A file as it was read once."""

    stamp: _Stamp
    data: bytes
    whole: bool  # it stayed the same while it was read
    settled: bool  # from now on any change shows in the stamp


def _snapshot(path: Path) -> _Snapshot:
    with path.open("rb") as file:
        stamp = _stamp(os.fstat(file.fileno()))
        data = file.read()
        whole = _stamp(os.fstat(file.fileno())) == stamp
    return _Snapshot(stamp, data, whole, settled=time.time_ns() - stamp[0] > SETTLED_NS)


class ConfigFile:
    """A YAML file of configuration that is read again when it changes.

    The constructor reads it and raises `BadConfig` as `Config.from_yaml` does. After that a bad or missing
    file changes nothing: the values before it stay, and `on_error` tells why. Replacing the file by a
    rename is the safe way to change it, as no half-written state can be read. Threads may share it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._shown_path = os.fspath(path)
        self._path = Path(path).absolute()  # a later chdir changes nothing; a symlink may be pointed elsewhere
        self._polling = threading.RLock()
        self._starting = threading.Lock()
        self._subscribers: list[Callable[[Config], object]] = []
        self._error_subscribers: list[Callable[[BadConfig], object]] = []
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem = ""
        self._seen: _Snapshot | None = None
        try:
            self._seen = _snapshot(self._path)
        except OSError as error:
            raise unreadable(path, error) from None
        self._current = self._parsed(self._seen.data)

    @property
    def path(self) -> Path:
        """The file, as an absolute path."""
        return self._path

    @property
    def current(self) -> Config:
        """The newest good configuration. Its `source` is this object."""
        return self._current

    def subscribe(self, fn: Callable[[Config], object]) -> Callable[[], None]:
        """Have `fn(config)` called after each change of the file; return a function that ends it.

        It is called by the thread that polls. What it raises is logged and disturbs nobody else.
        """
        return _added(self._subscribers, fn)

    def on_error(self, fn: Callable[[BadConfig], object]) -> Callable[[], None]:
        """Have `fn(error)` called once for each bad state of the file; return a function that ends it.

        As with `subscribe`, what it raises is logged. With no such function the error itself is logged.
        """
        return _added(self._error_subscribers, fn)

    def poll(self) -> bool:
        """Look at the file once. True: it had changed, was good, and the subscribers have been told.

        The content is read when the time of modification, the size or the inode differ. Raises nothing for
        a bad file: `current` stays, and the error subscribers are told.
        """
        with self._polling:
            seen = self._seen
            try:
                if seen is not None and seen.settled and seen.stamp == _stamp(self._path.stat()):
                    return False
                new = _snapshot(self._path)
            except OSError as error:
                self._lost(unreadable(self._shown_path, error))
                return False
            if not new.whole:  # somebody is writing: read it again at the next poll
                return False
            self._seen, self._problem = new, ""
            if seen is not None and seen.data == new.data:
                return False
            try:
                config = self._parsed(new.data)
            except BadConfig as error:
                self._tell_error(error)
                return False
            self._current = config
            self._tell(self._subscribers, config)
            return True

    def start(self, interval_seconds: float = 1.0) -> None:
        """Call `poll` every `interval_seconds` in one daemon thread, until `stop`.

        Does nothing when it already runs. Raises `BadConfig` unless the interval is a number above 0.
        """
        interval = seconds(above=0).checked("interval_seconds", interval_seconds)
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                return
            self._halt = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._halt, interval), name="dingo-config", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread that `start` made and wait for it, unless called by a subscriber on it.

        Idempotent; `start` works again afterwards.
        """
        with self._starting:
            thread, self._thread = self._thread, None
            self._halt.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self, halt: threading.Event, interval: float) -> None:
        while not halt.wait(interval):
            # Not waiting here lets a subscriber that some other poll() is calling stop this thread.
            if not self._polling.acquire(blocking=False):
                continue
            try:
                self.poll()
            except Exception:
                _log.exception("%s: polling failed; it will be tried again", self._shown_path)
            finally:
                self._polling.release()

    def _parsed(self, data: bytes) -> Config:
        config = config_of(self._shown_path, data)
        object.__setattr__(config, "source", self)
        return config

    def _lost(self, error: BadConfig) -> None:
        self._seen = None
        if str(error) != self._problem:
            self._problem = str(error)
            self._tell_error(error)

    def _tell_error(self, error: BadConfig) -> None:
        if not self._error_subscribers:
            _log.warning("%s (the configuration before it stays)", error)
        self._tell(self._error_subscribers, error)

    def _tell(self, subscribers: list[Callable[[T], object]], news: T) -> None:
        for fn in tuple(subscribers):
            try:
                fn(news)
            except Exception:
                _log.exception("%s: a subscriber raised", self._shown_path)


def _added(subscribers: list[Callable[[T], object]], fn: Callable[[T], object]) -> Callable[[], None]:
    # Wrapped, so that the same function given twice is called twice and ended one by one.
    def call(news: T) -> None:
        fn(news)

    def end() -> None:
        if call in subscribers:
            subscribers.remove(call)

    subscribers.append(call)
    return end
