"""Serve: the life of a child. Its main thread takes calls and runs them.

Another thread listens at a pipe, on which the parent calls back what has not started; at its end the parent
is gone, and the child and all it has started go at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections import deque
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NoReturn

from dingo.blocking import here
from dingo.worker.child.call import Call, Seat
from dingo.worker.child.cargo import dump, dump_error, load, load_function, said
from dingo.worker.child.wire import (
    BAD_CALL,
    BAD_VALUE,
    CALL,
    ERROR,
    FACTS,
    FUNCTION,
    GIVEN,
    LOAD,
    LOADED,
    READY,
    SETUP,
    VALUE,
    Inbox,
    pack,
)  # fmt: skip
from dingo.worker.invoke import through, with_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.worker.child.wire import Frame


def main(parent: int, recalls: int) -> NoReturn:
    """Serve the parent, which is at the other end of a socket and a pipe, until it says LEAVE or is gone."""
    _follow_parent()
    Server(socket.socket(fileno=parent), recalls).run()
    sys.exit(0)


def _follow_parent() -> None:
    """Leave it to the parent what signals to the whole group or service mean; die with it in any case."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN this is not inherited by what a task starts
    with contextlib.suppress(Exception):  # elsewhere than on Linux the end of the socket must be enough
        import ctypes  # noqa: PLC0415

        pr_set_pdeathsig, pr_set_child_subreaper = 1, 36
        libc = ctypes.CDLL(None)
        libc.prctl(pr_set_pdeathsig, signal.SIGKILL)
        libc.prctl(pr_set_child_subreaper, 1)  # what tasks start stays in the family, whoever of it ends first


class Server:
    """One child, seen from inside."""

    state: Any = None
    """What the app's lifespan yielded here."""

    def __init__(self, parent: socket.socket, recalls: int) -> None:
        self._parent = parent
        self._recalls = recalls
        self._sending = threading.Lock()
        self._inbox = Inbox(parent)
        self._reading = threading.Lock()
        self._line: deque[Frame] = deque()  # what is read and not yet begun
        self._replies: deque[bytearray] = deque()
        self._asking = threading.Lock()
        self._sources: dict[int, bytearray] = {}  # functions as they came
        self._functions: dict[int, Callable[..., Any]] = {}  # and as they are called
        self._lifespan: bytes | None = None  # until it is entered
        self._exit = contextlib.ExitStack()
        self._seat = Seat()
        here.seat = self._seat

    # -- the main thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Run what comes."""
        os.register_at_fork(after_in_child=self._parent.close)  # a fork must not answer for this process
        threading.Thread(target=self._listen, name="dingo-parent", daemon=True).start()
        while True:
            kind, number, extra, payload = self._next()
            if kind == CALL:
                self._run(number, extra, payload)
            elif kind == LOAD:
                with contextlib.suppress(BaseException):  # the call will say what is wrong
                    self._function(extra)
                self.send(LOADED, 0, extra)
            elif kind == SETUP:
                self._set_up(payload)
            else:
                break
            del payload
        self._exit.close()

    def _next(self) -> Frame:
        if not self._line:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # a task may have closed or replaced it
                    stream.flush()
        while True:
            with contextlib.suppress(IndexError):
                return self._line.popleft()
            with self._reading:
                if not self._line:
                    self._read()

    def _run(self, number: int, function: int, payload: bytearray) -> None:
        try:
            args, kwargs, facts = load(payload)
        except BaseException as error:
            self.send(BAD_CALL, number, 0, said(error).encode(errors="replace"))
            return
        self._seat.job = Call(self, number, facts)
        begun = 0
        try:
            if self._lifespan is not None:
                self._enter()
            run = self._functions.get(function) or self._function(function)
            begun = perf_counter_ns()
            value = run(*args) if kwargs is None else run(*args, **kwargs)
        except BaseException as error:
            if error.__traceback__ is not None:
                error.__traceback__ = error.__traceback__.tb_next
            kind, answer = ERROR, dump_error(error)
        else:
            kind, answer = _dump_value(value)
        self._seat.job = None
        self.send(kind, number, perf_counter_ns() - begun if begun else 0, answer)

    def _function(self, number: int) -> Callable[..., Any]:
        source, invoker, takes_context = load(self._sources[number])
        run = load_function(source)
        if invoker is not None:
            run = partial(through, invoker, run)
        if takes_context:
            run = partial(with_context, run)
        self._functions[number] = run
        return run

    def _set_up(self, payload: bytearray) -> None:
        source = load(payload)
        if source is not None:
            self._lifespan = source
            with contextlib.suppress(BaseException):  # each call tries again, and fails with what it raises
                self._enter()
        self.send(READY)

    def _enter(self) -> None:
        assert self._lifespan is not None
        manager = load_function(self._lifespan)()
        if hasattr(manager, "__aenter__"):
            self.state = self._enter_async(manager)
        else:
            self.state = self._exit.enter_context(manager)
        self._lifespan = None

    def _enter_async(self, manager: Any) -> Any:
        from dingo.events import Hub  # noqa: PLC0415 - only for who has such a lifespan
        from dingo.worker.loops import LoopPool  # noqa: PLC0415

        state, leave = LoopPool("lifespan", 1, Hub()).hold(manager)
        self._exit.callback(leave)
        return state

    # -- talking to the parent ---------------------------------------------------------------------

    def send(self, kind: int, number: int = 0, extra: int = 0, payload: bytes = b"") -> None:
        """Send a frame, from any thread. Where that cannot be, this process is of no use: it ends."""
        try:
            with self._sending:
                for buffer in pack(kind, number, extra, payload):
                    self._parent.sendall(buffer)
        except OSError:
            _go()

    def ask(self, kind: int, number: int) -> bytearray:
        """Send a frame and wait for its answer, in any thread."""
        with self._asking:
            self.send(kind, number)
            while True:
                with self._reading:
                    if self._replies:
                        return self._replies.popleft()
                    self._read()

    def _read(self) -> None:
        try:
            frames = self._inbox.read()
        except (EOFError, ConnectionError):
            _go()
        for frame in frames:
            if frame[0] == FUNCTION:
                self._sources[frame[2]] = frame[3]
            elif frame[0] == FACTS:
                self._replies.append(frame[3])
            else:
                self._line.append(frame)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while os.read(self._recalls, 1):
                self._give_back()
        _go()

    def _give_back(self) -> None:
        given = []
        if self._reading.acquire(blocking=bool(self._line)):  # else the main thread waits for something to do
            try:
                given = self._take_out()
            finally:
                self._reading.release()
        self.send(GIVEN, payload=dump(given))

    def _take_out(self) -> list[int]:
        while select.select([self._parent], [], [], 0)[0]:
            self._read()
        kept, given = [], []
        with contextlib.suppress(IndexError):
            while True:
                frame = self._line.popleft()
                if frame[0] == CALL:
                    given.append(frame[1])
                else:
                    kept.append(frame)
        self._line.extend(kept)
        return given


def _dump_value(value: Any) -> tuple[int, bytes]:
    try:
        return VALUE, dump(value)
    except BaseException as error:
        return BAD_VALUE, said(error).encode(errors="replace")


def _go() -> NoReturn:
    """End this process and all it has started, now."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
