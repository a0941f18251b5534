"""Workers killed while they hold packs of calls: nothing is lost, and who kills its worker harms nobody else."""

import pytest
from workers import worker_processes

import dingo

LONG = 60.0
TASKS = """
import os, time, dingo
app = dingo.App(config=dingo.Config(lease_seconds=3))
@app.task
def double(number: int) -> int:
    with open("runs.txt", "a") as runs:
        runs.write(f"{number}\\n")
    time.sleep(0.001)
    if number == -1:
        os._exit(1)
    return 2 * number
"""


@pytest.fixture
def start(tmp_path, counting_url):
    (tmp_path / "shop.py").write_text(TASKS)
    with worker_processes(tmp_path, DINGO_BROKER=counting_url) as start:
        yield start


@pytest.fixture
def app(counting_url):
    app = dingo.App(counting_url)

    @app.task
    def double(number: int) -> int:
        raise NotImplementedError

    app._session.open()._arrivals._learn("double", 0.0001)
    yield app
    app.close(5)


def test_killed_workers_lose_no_call_of_their_packs(app, start, tmp_path):
    start()
    worker = start()
    results = app.call_many("double", [(number,) for number in range(2000)])
    results[300].result(LONG)
    worker.kill()
    start()
    assert [result.result(LONG) for result in results] == [2 * number for number in range(2000)]
    assert {int(run) for run in (tmp_path / "runs.txt").read_text().split()} == set(range(2000))


@pytest.mark.parametrize("counting_url", ["sqlite"], indirect=True)
def test_a_call_that_kills_its_workers_ends_poisoned_and_the_rest_of_its_pack_succeeds(app, start):
    numbers = [*range(10), -1, *range(10, 20)]
    results = app.call_many("double", [(number,) for number in numbers])
    poison = results.pop(10)
    worker = start()
    while not poison.wait(0.2):
        if worker.poll() is not None:
            worker = start()
    assert [result.result(LONG) for result in results] == [2 * number for number in range(20)]
    with pytest.raises(dingo.TaskFailed) as caught:
        poison.result(LONG)
    assert caught.value.failure.code is dingo.Code.POISONED
