"""Time single claims, each with its acknowledgement, by dingo's consumer; started by `contests.million`.

Prints {"p50": MICROSECONDS, "p99": ...}. Claims 1,000 of what waits, one at a time.
"""

import json
import os
from time import perf_counter

from dingo.contracts import Settlement, Verdict
from dingo.kombu import urls

CLAIMS = 1000


def main():
    consumer = urls.worker(os.environ["BENCH_URL"])
    consumer.open(lambda *_event: None)
    times = []
    while len(times) < CLAIMS:
        began = perf_counter()
        deliveries = consumer.claim(("default",), 1, 5.0)
        consumer.settle([Settlement(delivery, Verdict.ACK) for delivery in deliveries])
        times.append(perf_counter() - began)
        if not deliveries:
            raise RuntimeError("the queue is empty")
    consumer.close()
    times = sorted(times[100:])  # the first ones connect, declare and subscribe
    print(json.dumps({"p50": times[len(times) // 2] * 1e6, "p99": times[len(times) * 99 // 100] * 1e6}))


if __name__ == "__main__":
    main()
