"""Looking for trouble from one place: the events of all workers, heard by a program that only listens.

Run:
    python follow_the_fleet.py

Prints:
    w1 serves default: parse
    WARNING task.failed, told by w1: invalid literal for int() with base 10: 'twelve'
    INFO worker.stopped, told by w1
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import dingo

app = dingo.App()


@app.task
def parse(text: str) -> int:
    return int(text)


def start_worker(url: str) -> subprocess.Popen[str]:
    """Start a worker process and wait until it says that it is ready."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "dingo", "worker", "follow_the_fleet:app", "--broker", url, "--name", "w1", "-c", "1"],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert worker.stdout is not None
    assert worker.stdout.readline().startswith("ready")
    return worker


def next_event(events: dingo.Subscription, code: str) -> dingo.Event:
    """Return the next event of that kind."""
    return next(event for event in events if event.code == code)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/jobs.db"
        worker = start_worker(url)
        app.connect(url, role="caller")
        with app:
            events = app.listen(level=dingo.Level.INFO, fleet=True)  # of the workers too, not only of this process
            for seen in app.workers():
                print(f"{seen.name} serves {', '.join(seen.queues)}: {', '.join(seen.tasks)}")
            while not len(events):  # a worker sees within a second that somebody listens
                parse.call("twelve").wait()
            event = next_event(events, "task.failed")
            print(f"{event.level.name} {event.code}, told by {event.worker}: {event.payload['failure']['message']}")
            worker.terminate()
            event = next_event(events, "worker.stopped")
            print(f"{event.level.name} {event.code}, told by {event.worker}")
            worker.communicate()


if __name__ == "__main__":
    main()
