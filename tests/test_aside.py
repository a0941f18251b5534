"""The thread for users' callbacks: all that it is given is done, whenever that comes."""

from __future__ import annotations

import threading

from conftest import PATIENCE

from dingo.aside import Aside


def test_what_comes_after_the_end_is_done_all_the_same():
    aside, done = Aside(), threading.Event()
    aside.do(int)
    assert aside.close(PATIENCE)
    aside.do(done.set)  # by a thread that was late
    assert done.wait(PATIENCE)


def test_what_is_done_may_bring_more_before_the_end():
    aside, done = Aside(), []
    gate = threading.Event()
    aside.do(gate.wait, PATIENCE)
    aside.do(lambda: aside.do(aside.do, done.append, 1))
    closing = threading.Thread(target=aside.close, args=(PATIENCE,))
    closing.start()
    gate.set()
    closing.join(PATIENCE)
    assert done == [1]


def test_its_thread_ends_however_often_it_is_closed():
    aside, gate = Aside(), threading.Event()
    aside.do(gate.wait, PATIENCE)
    assert not any(aside.close(0) for _ in range(3))
    thread = aside._thread
    gate.set()
    assert aside.close(PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive()
