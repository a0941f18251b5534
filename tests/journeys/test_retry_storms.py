"""Many calls that fail at once, again and again, keep no other call from running."""

import threading

import pytest

import dingo

PATIENCE = 20.0


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_calls_made_during_a_storm_of_retries_come_to_their_turn(counting_url, delay):
    calm, failed = threading.Event(), threading.Semaphore(0)

    def fail() -> None:
        if not calm.is_set():
            failed.release()
            raise OSError("storm")

    with dingo.App(counting_url, config=dingo.Config(workers=2, prefetch=4)) as app:
        app.register("quick", lambda number: number)
        app.register("fail", fail, retry=dingo.Retry(max=100_000, backoff="fixed", base=delay, jitter=False))
        app.start_worker()
        storm = [app.call("fail") for _ in range(200)]
        for _ in range(250):  # some fail for the second time
            assert failed.acquire(timeout=PATIENCE)
        assert [app.call("quick", number).result(PATIENCE) for number in range(5)] == list(range(5))
        assert not any(result.done() for result in storm)
        calm.set()
        for result in storm:
            result.result(PATIENCE)
