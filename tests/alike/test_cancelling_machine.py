"""Calls of every kind, cancelled and completed in any order: a state machine against a small model."""

import itertools
import tempfile
import threading
import time
from collections import Counter

import pytest
from conftest import PATIENCE
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import dingo
from dingo import Status

WORKERS = 2
NEVER = 3600.0  # a delay that no test lives to see


class Call:
    """One call, and what the model knows of it."""

    def __init__(self, kind, key):
        self.kind, self.key = kind, key
        self.gate, self.opened = threading.Event(), False
        self.result = self.reports = None
        self.asked = False  # somebody has tried to cancel it
        self.must_not_run = False  # it was cancelled when it could not have started


class Calls(RuleBasedStateMachine):
    """Two workers; tasks that end at once, wait at a gate, are delayed, or fail and are tried again."""

    url = "local"
    calls = Bundle("calls")

    def __init__(self):
        super().__init__()
        self.app = dingo.App(self.url, config=dingo.Config(workers=WORKERS))
        self.all, self.runs, self.numbers = {}, Counter(), itertools.count()
        never, at_once = ({"retry": dingo.Retry(max=1, base=wait, jitter=False)} for wait in (NEVER, 0.0))
        for name, fn, options in (
            ("plain", self.plain, {}), ("gated", self.gated, {}), ("flaky", self.flaky, at_once),
            ("failing", self.flaky, never),
        ):  # fmt: skip
            self.app.register(name, fn, **options)
        self.app.start_worker()

    # -- the tasks ----------------------------------------------------------------------------------

    def plain(self, key: int) -> int:
        self.runs[key] += 1
        return key

    def gated(self, key: int) -> int:
        self.runs[key] += 1
        assert self.all[key].gate.wait(PATIENCE)
        return key

    def flaky(self, context: dingo.Context, key: int) -> int:
        self.runs[key] += 1
        if context.attempt == 1:
            raise OSError
        return key

    # -- what happens to them -----------------------------------------------------------------------

    @rule(target=calls, kind=st.sampled_from(["plain", "gated", "flaky", "failing", "delayed"]))
    def call(self, kind):
        key = next(self.numbers)
        call = self.all[key] = Call(kind, key)
        caller = self.app.options(delay=NEVER) if kind == "delayed" else self.app
        call.result = caller.call("plain" if kind == "delayed" else kind, key)
        call.reports = call.result.reports()
        return call

    @rule(call=calls)
    def let_go(self, call):
        call.opened = True
        call.gate.set()

    @rule(call=calls)
    def cancel(self, call):
        # Both workers stand before gates that this thread alone opens: nothing that has not begun can begin.
        ran, busy = self.runs[call.key], len(self.at_gates()) == WORKERS
        said = call.result.cancel()
        if not said:
            assert call.result.done()
        elif call.kind == "delayed" or (busy and not ran):
            call.must_not_run = True
        call.asked = True

    @rule(call=calls)
    def complete(self, call):
        """Wait for a call that nothing holds back."""
        if call.kind in ("plain", "flaky") and len(self.at_gates()) == 0 and not self.held_back():
            assert call.result.wait(PATIENCE)

    def at_gates(self):
        return [c for c in self.all.values() if c.kind == "gated" and self.runs[c.key] and not c.opened]

    def held_back(self):
        return [c for c in self.all.values() if c.kind == "gated" and not c.opened]

    # -- what always holds --------------------------------------------------------------------------

    @invariant()
    def the_end_is_definite(self):
        for call in self.all.values():
            status = call.result.status
            if not status.final:
                continue
            if not call.asked:
                assert status is Status.SUCCESS, call.kind
            assert status in (Status.SUCCESS, Status.CANCELLED)
            assert call.result.status is status

    @invariant()
    def what_was_withdrawn_does_not_run(self):
        assert [call.key for call in self.all.values() if call.must_not_run and self.runs[call.key]] == []

    def teardown(self):
        for call in self.all.values():
            self.let_go(call)
        for call in self.all.values():
            if call.kind in ("plain", "gated", "flaky"):
                assert call.result.wait(PATIENCE), call.kind
        if self.url == "local":
            self.app.close(PATIENCE)
        else:  # over a broker what waits for its time outlives the app: it is withdrawn, which says so
            self.withdraw_the_rest()
            self.app.close(PATIENCE)
        ended = Counter(call.result.status for call in self.all.values())
        assert sum(ended[status] for status in ended if status.final) == len(self.all)
        for call in self.all.values():
            assert [report.status.final for report in call.reports].count(True) == 1
            if call.result.status is Status.SUCCESS:
                assert self.runs[call.key] == (2 if call.kind in ("flaky", "failing") else 1)
            if not call.asked and call.kind in ("plain", "gated", "flaky"):
                assert call.result.result(0) == call.key
        self.what_was_withdrawn_does_not_run()

    def withdraw_the_rest(self):
        for call in self.all.values():
            if call.kind == "delayed":
                call.result.cancel()
        until = time.monotonic() + PATIENCE
        while not all(call.result.done() for call in self.all.values()) and time.monotonic() < until:
            for call in self.all.values():
                if call.kind == "failing" and self.runs[call.key]:
                    call.asked = True
                    call.result.cancel()
            time.sleep(0.005)
        assert self.app.pending() == []
        assert self.app.delayed() == []


class CallsOverSQLite(Calls):
    """The same over a file."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{self.folder.name}/jobs.db"
        super().__init__()

    def teardown(self):
        super().teardown()
        self.folder.cleanup()


@pytest.mark.parametrize(("machine", "examples"), [(Calls, 40), (CallsOverSQLite, 6)])
def test_cancelling_at_every_moment(machine, examples):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),  # fmt: skip
    )
