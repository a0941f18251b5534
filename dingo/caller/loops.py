"""How the end of a call reaches those who await it on an event loop.

Waking a loop from another thread writes to its self-pipe, a system call. So each loop has one mailbox: the
finishing thread appends, and only the first of a batch wakes the loop, which then empties the mailbox.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_mailboxes: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox] = weakref.WeakKeyDictionary()
_making = threading.Lock()


class Mailbox:
    """What other threads want done on one loop. Written by any thread, emptied by the loop alone."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._letters: deque[Callable[[], object]] = deque()
        self._armed = True  # the next letter has to wake the loop

    def post(self, letter: Callable[[], object]) -> None:
        """Have `letter` called on the loop, soon. Without effect when the loop is closed."""
        self._letters.append(letter)
        if self._armed:
            self._armed = False
            loop = self._loop()
            try:
                if loop is not None:
                    loop.call_soon_threadsafe(self._empty)
            except RuntimeError:  # the loop is closed: who waited there is gone
                self._letters.clear()

    def _empty(self) -> None:
        # Armed again before looking: a letter that comes after the last look wakes the loop once more.
        self._armed = True
        letters = self._letters
        while letters:
            letters.popleft()()


def mailbox(loop: asyncio.AbstractEventLoop) -> Mailbox:
    """Return the mailbox of a loop, made at its first use."""
    box = _mailboxes.get(loop)
    if box is None:
        with _making:
            box = _mailboxes.setdefault(loop, Mailbox(loop))
    return box


def wake(future: asyncio.Future[None]) -> None:
    """End a waiting future, on its own loop. It may have been cancelled meanwhile."""
    if not future.done():
        future.set_result(None)
