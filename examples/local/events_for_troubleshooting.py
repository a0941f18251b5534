"""The event stream: what happened inside, while you look for the cause of something.

`app.listen` gives a channel of events. Listen at WARNING to hear only of trouble, at DEBUG for the whole
story of a call, as here. With no listener, events cost nothing.

Run:
    python examples/local/events_for_troubleshooting.py

Prints:
    the story of one call:
      DEBUG    call.sent      call sent: fetch
      DEBUG    call.started   call started: fetch
      INFO     task.retry     fetch: attempt 1 failed (ConnectionError); next in 0.01 s
      DEBUG    call.started   call started: fetch
      DEBUG    call.finished  call finished: fetch
      WARNING  task.failed    fetch failed: ValueError: no such page: /missing
    lost by this listener: 0
    all that was trouble: task.failed
"""

import dingo

app = dingo.App()
tries: list[str] = []


@app.task(retry=dingo.Retry(max=1, base=0.01, jitter=False))
def fetch(page: str) -> str:
    """Fail once in a way that a retry may cure, then in a way that it does not."""
    tries.append(page)
    if len(tries) == 1:
        raise ConnectionError("the server hung up")
    raise ValueError(f"no such page: {page}")


everything = app.listen(level=dingo.Level.DEBUG)
trouble = app.listen(dingo.Origin.WORKER, dingo.Level.WARNING)

with app:
    call = fetch.call("/missing")
    call.wait()

# Closing the app ended both channels, so reading them ends too.
print("the story of one call:")
for event in everything:
    if event.payload and event.payload.get("id") == call.id:
        print(f"  {event.level.name:8} {event.code:14} {event.message.replace(f' {call.id}', '')}")
print("lost by this listener:", everything.dropped)
print("all that was trouble:", ", ".join(event.code for event in trouble))
