"""What follows on a call is not lost with the worker that is to send it."""

import threading

import pytest
from conftest import PATIENCE

import dingo
from dingo.bridge.memory import MemoryProducer, MemoryStore, MemoryWorker, Wire


class HeldProducer(MemoryProducer):
    """One that does not take follow-ups before it is let."""

    def __init__(self, wire):
        super().__init__(wire)
        self.asked, self.gate = threading.Event(), threading.Event()

    def send(self, envelopes):
        if any(one.name == "after" for one in envelopes):
            self.asked.set()
            assert self.gate.wait(PATIENCE)
        super().send(envelopes)


@pytest.mark.parametrize("outcome", ["success", "error"])
def test_a_call_is_settled_only_after_what_follows_on_it_was_sent(outcome):
    wire, ran = Wire(), threading.Event()
    app, producer = dingo.App(), HeldProducer(wire)
    app.use(producer, MemoryStore(wire), MemoryWorker(wire))

    def task() -> None:
        if outcome == "error":
            raise OSError("no")

    app.register("task", task)
    app.register("after", lambda *_args: ran.set())
    after = dingo.Signature("after")
    with app:
        app.start_worker()
        result = app.options(on_success=[after], on_error=[after]).call("task")
        assert producer.asked.wait(PATIENCE)
        assert not result.wait(0.05)
        assert [name for name, _ in wire.rows] == ["task"], "the broker has forgotten the call too early"
        producer.gate.set()
        assert result.wait(PATIENCE)
        assert ran.wait(PATIENCE)


def test_a_poisoned_call_calls_the_hooks_and_what_follows_on_errors():
    wire, told, ran = Wire(), [], threading.Event()
    app = dingo.App()
    app.use(MemoryProducer(wire), MemoryStore(wire), MemoryWorker(wire))
    app.register("task", lambda: told.append("it ran"))
    app.register("after", lambda text: (told.append(text), ran.set()))
    app.on_failure(lambda _context, failure: told.append(failure.code))
    with app:
        result = app.options(on_error=[dingo.Signature("after")]).call("task")
        assert app.flush(PATIENCE)
        row = next(iter(wire.rows.values()))
        row.suspect, row.starts = True, 2
        app.start_worker()
        assert result.exception(PATIENCE).failure.code == "POISONED"
        assert ran.wait(PATIENCE)
    assert told == ["POISONED", "its worker died 3 times while it ran"]
