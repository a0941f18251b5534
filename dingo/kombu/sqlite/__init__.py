"""SQLite as broker and backend: a durable queue in one file, for many processes, without a server.

One writer at a time, so every transaction is short and takes a whole batch. `synchronous=FULL`: what was sent or
reported survives a power cut, and since a batch shares one flush, that costs little. Settling a task and
publishing its report is one transaction: either both have happened or neither.

Death is judged by two signs, and neither depends on how long a task runs: every worker holds a lock on a file of
its own, which the system frees when it dies (seen within about a second, on the same machine), and renews a
heartbeat in the database (seen after the lease, for what is frozen).

Times are seconds since the epoch, by this machine's clock: all processes of one file share it. No life depends on
it: whose heartbeat has not changed for a lease, as the one who looks has measured it, is dead.
"""

from dingo.kombu.sqlite.database import Database
from dingo.kombu.sqlite.producer import SqliteProducer
from dingo.kombu.sqlite.store import SqliteStore
from dingo.kombu.sqlite.worker import SqliteWorker

__all__ = ["Database", "SqliteProducer", "SqliteStore", "SqliteWorker"]
