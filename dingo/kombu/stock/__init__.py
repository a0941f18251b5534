"""Every other kombu URL, on the transport that kombu has for it: `sqs://`, `filesystem://`, `mongodb://` ...

    dingo-{queue}              the tasks
    dingo-{queue}-later{0..4}  tasks that are not due yet, by how soon they are; where the broker itself can delay
                               a message (SQS: for a quarter of an hour) they wait in the queue of the tasks
    dingo-reply-{...}          the reports for one caller; deleted when the caller closes

The path is kombu's plainest: one message per task or pack of reports, its body the bytes as they are, what a broker
has to know in its headers; fetched with `Queue.get`, acknowledged after its report was published, requeued when it was
not started. So what holds is what the transport behind the URL gives: a task comes again if the broker keeps a
message until it is acknowledged. Nothing counts starts, so POISONED is not promised, and `redeliver=False` is kept
by acknowledging before the start: nobody reports such a task whose worker died.

Delayed tasks are looked at by every worker that serves their queue: often those that are due soon, rarely the
others. Nobody holds them in memory. That is good for hundreds of them, not for a hundred thousand.

Each component has a connection of its own, which one thread uses; only `wake` and `tend` come from others.
"""

from dingo.kombu.stock.producer import StockProducer
from dingo.kombu.stock.store import StockStore
from dingo.kombu.stock.worker import StockWorker

__all__ = ["StockProducer", "StockStore", "StockWorker"]
