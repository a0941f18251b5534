"""Delayed calls over a broker while a worker is killed: how many come early, late or never.

    python bench/delayed.py [sqlite redis amqp] [--calls 100000] [--seconds 20]

Every server is a private one. All calls are sent before the first is due, and become due evenly over the given
seconds; two worker processes run them, and halfway one is killed by SIGKILL and replaced. A call says how late it
began, by the clock of this machine. Exits with 1 where one came early or never, or the 99th percentile is over a
second late.
"""

import argparse
import contextlib
import datetime
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

BROKERS = ("sqlite", "redis", "amqp")
MOMENTS = 2_000
PATIENCE = 180  # how long after the last is due the others may take (seconds)


def lateness(due: float) -> float:
    return time.time() - due


def app_of(url):
    """Make the app, at either end."""
    import dingo

    app = dingo.App(url, config=dingo.Config(workers=4, max_pending=1_000_000))
    app.register("lateness", lateness)
    return app


@contextlib.contextmanager
def served(broker):
    """Give the URL of a private server, or file."""
    import rabbit
    import servers

    with tempfile.TemporaryDirectory() as folder:
        if broker == "sqlite":
            yield f"sqlite:///{folder}/jobs.db"
        elif broker == "amqp":
            with rabbit.running_node() as node:
                yield node.url
        else:
            server = servers.RedisServer(folder, "--appendonly", "yes")
            server.start()
            try:
                yield server.url
            finally:
                server.kill()


def worker(url):
    """Start a worker process."""
    return subprocess.Popen([sys.executable, __file__, "--worker", url], stdout=subprocess.DEVNULL)


def run(url, calls, seconds):
    """Return the lateness of each call, None for those that never came, and how long sending took."""
    each = max(1, calls // MOMENTS)
    with app_of(url) as app:
        begun = time.time()
        # As fast as SQLite with a full disk cache takes them, and then some.
        first = begun + 10 + calls / 4_000
        results = []
        for number in range(MOMENTS):
            due = first + seconds * number / MOMENTS
            moment = datetime.datetime.fromtimestamp(due, datetime.UTC)
            results += app.options(eta=moment).call_many("lateness", [(moment.timestamp(),)] * each)
        if not app.flush(calls / 1000) or time.time() > first:
            raise RuntimeError("the calls were not sent before the first was due")
        took = time.time() - begun
        workers = [worker(url), worker(url)]
        try:
            time.sleep(max(0.0, first + seconds / 2 - time.time()))
            workers[0].kill()
            workers.append(worker(url))
            import dingo

            dingo.wait(results, timeout=first + seconds + PATIENCE - time.time())
        finally:
            for one in workers:
                one.kill()
                one.wait()
        return [result.result(0) if result.done() else None for result in results], took


def report(broker, late, took):
    """Print a line; whether it is good."""
    came = sorted(one for one in late if one is not None)
    lost, early = len(late) - len(came), sum(one < 0 for one in came)
    p50, p99 = (came[int(len(came) * part)] for part in (0.5, 0.99))
    good = not lost and not early and p99 <= 1.0
    print(f"{broker:7} {len(late):9,} {took:8.1f} {early:6} {lost:6} {p50:9.3f} {p99:9.3f} {came[-1]:9.3f}  "
          f"{'reached' if good else 'MISSED'}", flush=True)  # fmt: skip
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("brokers", nargs="*", default=BROKERS)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--worker", metavar="URL")
    options = parser.parse_args()
    if options.worker:
        app = app_of(options.worker)
        app.run()
        return 0
    print(
        f"{'broker':7} {'calls':>9} {'sent, s':>8} {'early':>6} {'lost':>6} {'p50 late':>9} {'p99 late':>9} {'most':>9}"
    )
    good = True
    for broker in options.brokers:
        with served(broker) as url:
            good = report(broker, *run(url, options.calls, options.seconds)) and good
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
