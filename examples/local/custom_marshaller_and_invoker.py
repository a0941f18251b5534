"""Your own way to carry arguments, and your own way to run functions.

A marshaller turns calls and reports into bytes and back: here one that compresses. `marshal_locally=True`
takes every call through it in this process too, so that what would fail on a wire fails at the desk. An
invoker runs the function: here inside a transaction.

Run:
    python examples/local/custom_marshaller_and_invoker.py

Prints:
    begin
    commit
    returned 20000
    arguments of more than 20000 letters took fewer than 200 bytes: True
    begin
    rollback: ValueError
    count(): args[0]: a lock cannot be carried by the json marshaller
"""

import threading
import zlib
from collections.abc import Callable
from typing import Any

import dingo
from dingo.marshaller import JsonMarshaller
from dingo.message.report import Report
from dingo.message.task import Header, TaskMessage

Function = Callable[..., Any]


class Compressed:
    """The built-in json marshaller, its bytes compressed. No base class is needed, only the methods."""

    key = "compressed-json"

    def __init__(self) -> None:
        self.inner = JsonMarshaller()
        self.longest = 0

    def prepare(self, name: str, fn: Function) -> None:
        self.inner.prepare(name, fn)

    def encode_task(self, fn: Function | None, task: TaskMessage) -> bytes:
        data = zlib.compress(self.inner.encode_task(fn, task))
        self.longest = max(self.longest, len(data))
        return data

    def decode_task(self, fn: Function | None, header: Header, data: bytes) -> TaskMessage:
        return self.inner.decode_task(fn, header, zlib.decompress(data))

    def encode_report(self, fn: Function | None, report: Report) -> bytes:
        return zlib.compress(self.inner.encode_report(fn, report))

    def decode_report(self, fn: Function | None, header: Header, data: bytes) -> Report:
        return self.inner.decode_report(fn, header, zlib.decompress(data))


class InTransaction:
    """Runs a task between a begin and a commit or rollback."""

    def invoke(self, fn: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        print("begin")
        try:
            value = fn(*args, **kwargs)
        except Exception as error:
            print(f"rollback: {type(error).__name__}")
            raise
        print("commit")
        return value

    def returned(self, _fn: Function, value: Any) -> Any:
        return value


app = dingo.App(config=dingo.Config(marshal_locally=True))
compressed = Compressed()
app.add_marshaller("compressed-json", compressed)


@app.task(invoker=InTransaction(), marshaller="compressed-json", report_marshaller="compressed-json")
def count(text: Any) -> int:
    if not text:
        raise ValueError("nothing to count")
    return len(text)


with app:
    value = count.call("dingo " * 3333 + "it").result(timeout=5)
    print("returned", value)
    print("arguments of more than 20000 letters took fewer than 200 bytes:", compressed.longest < 200)
    count.call("").wait()
    try:
        count.call(threading.Lock())
    except dingo.BadArguments as error:
        print(error)
