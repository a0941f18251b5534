"""The components for brokers: `app.connect(url)` builds them, or build them yourself for `app.use`.

Importing this also makes dingo's transports known to kombu: `kombu.Connection("dingo+redis://host")`.
"""

from dingo.kombu.aliases import enter
from dingo.kombu.components import Backend, Broker, Consumer, NamedConsumer, Producer, Reporter, Store
from dingo.kombu.urls import herald, keeps_apart, producer, reporter, store, worker

__all__ = [
    "Backend", "Broker", "Consumer", "NamedConsumer", "Producer", "Reporter", "Store",
    "herald", "keeps_apart", "producer", "reporter", "store", "worker",
]  # fmt: skip

enter()
