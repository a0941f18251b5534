"""RabbitMQ as broker: `amqp://user:password@host:5672/vhost`.

Connecting, declaring and consuming are py-amqp's; publishing, acknowledging and reading are done here, in batches:
py-amqp reads a message in nine system calls, and looks for input before each publish.

    dingo.{queue}.{priority}            the tasks: durable classic queues, or quorum queues (`?queue_type=quorum`)
    dingo.later.{...}                   tasks that are not due yet, one queue per moment; they expire into the above
    dingo.hold.{worker}.{...}           tasks whose start is recorded: of a dead worker they expire into the above
    dingo.reply.{...}                   the reports for one caller; it goes when nobody has used it for an hour

Everything is persistent, and confirmed before it counts. A task is acknowledged only after its report is confirmed:
none is lost, but a task may be delivered twice, and a task that was sent again counts twice. RabbitMQ has no memory
of single tasks: whatever needs one raises NotAttached.

Each component has a connection of its own, which one thread uses; only `wake` comes from others.
"""

from dingo.kombu.amqp.producer import AmqpProducer
from dingo.kombu.amqp.store import AmqpStore
from dingo.kombu.amqp.worker import AmqpReporter, AmqpWorker

__all__ = ["AmqpProducer", "AmqpReporter", "AmqpStore", "AmqpWorker"]
