"""The same calls with and without a broker: only the environment says which.

Run, in this folder:
    python caller.py                                            # in this process
    dingo worker tasks:app --broker sqlite:///jobs.db           # or: one terminal (or several of them) with this,
    DINGO_BROKER=sqlite:///jobs.db python caller.py             # and another with this

Prints:
    5
    {'to': 2, 'be': 2, 'or': 1, 'not': 1}
    [0, 2, 4, 6, 8]
"""

from tasks import add, app, count

import dingo

with app:
    print(add.call(2, 3).result(timeout=30))
    print(count.call(["to", "be", "or", "not", "to", "be"]).result(timeout=30))
    print(list(app.map("add", range(5), range(5))))
    assert app.call("add", 1, 1).wait(30, until=dingo.Status.SENT)
