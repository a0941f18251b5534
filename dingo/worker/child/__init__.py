"""What a process pool and its children have between them.

    wire.py     the frames that go over the socket, in both directions
    cargo.py    what is in them: functions, arguments, values and exceptions as bytes
    handle.py   the parent's end: one child, from its start to its burial; handed.py: a call that it has
    serve.py    the child's end: take calls, run them, answer
    call.py     what a task in the child sees of its call
    nested.py   what stands in a child for the parent's App and Tasks

A child is a fresh interpreter. It imports the modules of the tasks it runs, and never the parent's
`__main__`: what is defined there travels by value. An App in a child is one of its own: a task that makes
calls makes them inside its process.
"""
