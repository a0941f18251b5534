"""Redis as broker and backend: streams for tasks and reports, and one script per batch.

Every step is one Lua script, so that it happens or does not: a batch is sent, claimed, or settled together with
its reports. Needs Redis 6.2 or a server like it, and not a cluster: a script touches keys of several slots.

    dingo:meta                     schema version
    dingo:workers                  who lives: owner, scored with the end of its lease
    dingo:claims:OWNER             the number from which on its claims count: it lost the answers to earlier ones
    dingo:stop:OWNER               claims of it whose calls were cancelled
    dingo:queues                   the prefixes `dingo:{QUEUE}:` in use; below each prefix
        tasks:P, again:P           streams of what waits and runs, P the priority; `again` comes first: it holds
                                   what was claimed before and given back
        streams, levels            the streams there are; those with something to claim, scored with their rank
        later, held                what waits for its time: when, and what
        starts                     how often claimed suspects were started
        bell                       holds a token while there may be something to claim: idle workers wait for it
    dingo:call:ID                  what is known of the calls of that id, a record for each name
    dingo:reply:ADDRESS            stream of packs of reports
    dingo:sent:PRODUCER            the number of the last batch it sent: one who was not answered may repeat it

A claim is an entry that is pending in the group `dingo`. No entry is ever handed on: what is given back or taken
from the dead becomes a new entry. So the entry's id tells one claim of a task from the next, and XACK, which says
whether the entry was pending still, is the whole check of a settlement.

Times are the server's own, so that the clocks of callers and workers do not matter to leases. What was sent
survives what the server survives: with `appendonly yes` and `appendfsync always` a power cut.
"""

from dingo.kombu.redis.producer import RedisProducer
from dingo.kombu.redis.store import RedisStore
from dingo.kombu.redis.worker import RedisWorker

__all__ = ["RedisProducer", "RedisStore", "RedisWorker"]
