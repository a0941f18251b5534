"""Result stores that are no brokers: reports go through them to callers, and what ended is kept for a while.

    worker                                               caller
    Reporter.report ~~> mailbox, one for each address ~~> Store.collect      each report once, in order
                    ~~> the final report of each call ~~> Store.fetch        the first one stays, until its time is over

A mailbox holds packs: the reports of one batch for one address. `collect` hands packs out and deletes them when it
is called again, so that a connection that is lost on the way loses nothing. All stores here are `apart`: they know
calls that have ended, and nothing of those that wait or run.

`dingo.store.urls` is the door; one module for each kind stands behind it, and is imported when its URL is used.
"""
