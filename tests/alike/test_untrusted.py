"""What comes from a broker is taken only as far as it can be trusted: signatures, pickle, and hostile bytes.

The hostile bytes are put straight onto the real queues; the caller and the worker are apps in this process.
"""

import contextlib
import itertools
import pickle
import sqlite3
import time
import zlib
from urllib.parse import urlsplit

import amqp as stock
import pytest
import redis
from conftest import PATIENCE

import dingo
from dingo import Code, Status, kombu
from dingo.contracts import Envelope, ReportEnvelope
from dingo.errors import BadMessage
from dingo.marshaller import JsonMarshaller
from dingo.message.frame import decode, unpack
from dingo.message.report import Report
from dingo.message.signing import REPORT, TASK, Seal
from dingo.message.task import Header

OLD, NEW, THIRD = (f"{name} key of thirty-two bytes or more" for name in ("old", "new", "third"))
_numbers = itertools.count(1)

over_brokers = pytest.mark.parametrize("mode", ["memory", "sqlite", "redis", "amqp"], indirect=True, scope="session")
where_found = pytest.mark.parametrize("mode", ["memory", "sqlite", "redis"], indirect=True, scope="session")


class Ends:
    """Apps on one queue of their own, the bare components beside them, and all that was told."""

    def __init__(self, mode):
        self.url, self.queue = mode.url, f"untrusted{next(_numbers)}"
        self.reply = f"reply.{self.queue}"
        self._open = []
        self.unpickled = []

    def app(self, *, keys=(), **config):
        """An app that may call and serve, with everything it tells in `told`."""
        config = dingo.Config(workers=2, queue=self.queue, signing_keys=keys, send_timeout_seconds=PATIENCE, **config)
        app = dingo.App(self.url, config=config)
        app.told = app.listen(level=dingo.Level.WARNING)
        self._open.append(lambda: app.close(5, drain=False))

        @app.task
        def add(a: int, b: int) -> int:
            return a + b

        @app.task(retry=dingo.Retry(max=2, base=0.01))
        def flaky(context: dingo.Context) -> int:
            context.progress(context.attempt)
            if context.attempt < 3:
                raise OSError("again")
            return context.attempt

        @app.task(marshaller="pickle", report_marshaller="pickle")
        def apply(fn, *args):
            return lambda: fn(*args)

        @app.task(marshaller="pickle")
        def show(value) -> str:
            self.unpickled.append(value)
            return repr(value)

        @app.task(report_marshaller="msgpack")
        def packed(value: int) -> int:
            return value

        return app

    def worker(self, **config):
        app = self.app(**config)
        app.start_worker()
        return app

    def component(self, kind):
        component = kind(self.url)
        component.open(lambda *_event: None)
        self._open.append(component.close)
        return component

    def put(self, *messages, name="add"):
        """Put messages (bytes, or what makes them of an id) straight onto the queue, their reports to come to us.

        Return their ids.
        """
        ids = [f"{self.queue}-{next(_numbers)}" for _ in messages]
        frames = [message if isinstance(message, bytes) else message(id) for id, message in zip(ids, messages)]
        self.component(kombu.producer).send([
            Envelope(self.queue, id, name, frame, reply=self.reply) for id, frame in zip(ids, frames)
        ])  # fmt: skip
        return ids

    def answers(self, ids, seal=None):
        """The reports of these calls."""
        store = self.component(kombu.store)
        answers, until = {}, time.monotonic() + PATIENCE
        while len(answers) < len(ids) and time.monotonic() < until:
            for pack in store.collect(self.reply, 0.5):
                for frame in unpack(pack):
                    header, body = decode(seal.open(frame) if seal else frame)
                    answers[header["id"]] = JsonMarshaller().decode_report(None, Header(header["id"], "add"), body)
        return [answers.get(id) for id in ids]

    def close(self):
        for close in self._open:
            close()


@pytest.fixture
def ends(mode):
    ends = Ends(mode)
    yield ends
    ends.close()


def told(app, code):
    """The next event of that code."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        event = app.told.get(PATIENCE)
        if event.code == code:
            return event
    raise AssertionError(f"no event {code}")


def frame(its_id, body="[[1,2]]", **fields):
    """The frame of a call as its header and body say, right or wrong."""
    header = {"v": 1, "id": its_id, "n": "add", "m": "json", "rm": "json", "t": round(time.time(), 6), **fields}
    text = ",".join(f'"{name}":{value if isinstance(value, Raw) else _json(value)}' for name, value in header.items())
    return f"{{{text}}}\n".encode() + (body if isinstance(body, bytes) else body.encode())


class Raw(str):
    """JSON, or what is none, as it is to stand in the header."""

    __slots__ = ()


def call(body="[[1,2]]", seal=None, **fields):
    """What makes such a frame of an id, signed or not."""

    def make(id):
        made = frame(id, body, **fields)
        return made if seal is None else seal.put(made)

    return make


def _json(value):
    return JsonMarshaller().write(value).decode()


# -- signatures ------------------------------------------------------------------------------------


@over_brokers
def test_signed_calls_retries_and_reports_are_as_any_others(ends):
    app = ends.worker(keys=[NEW])
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    assert app.options(monitor_progress=True).call("flaky").result(PATIENCE) == 3
    assert app.options(delay=0.05).call("add", 2, 3).result(PATIENCE) == 5
    assert app.call("packed", 5).result(PATIENCE) == 5


@over_brokers
@pytest.mark.parametrize(
    ("caller", "worker"),
    [([OLD], [NEW, OLD]), ([NEW, OLD], [OLD, NEW]), ([NEW], [OLD, NEW])],
    ids=["workers first", "both know both", "callers first"],
)
def test_keys_are_changed_one_machine_after_the_other(ends, caller, worker):
    caller = ends.app(keys=caller)
    ends.worker(keys=worker)
    assert caller.call("flaky").result(PATIENCE) == 3


@over_brokers
def test_what_is_not_signed_with_a_key_of_ours_is_refused_and_never_run(ends):
    ends.worker(keys=[NEW])
    seal, reports = Seal([NEW], TASK), Seal([NEW], REPORT)
    ids = ends.put(
        call(), call(seal=Seal([THIRD], TASK)), lambda one: seal.put(frame(one))[:-1] + b"!", call(seal=reports),
        call(id="another", seal=seal),
    )  # fmt: skip
    failures = [answer.failure for answer in ends.answers(ids, reports)]
    assert {failure.code for failure in failures} == {Code.BAD_MESSAGE}
    assert [failure.message.partition(":")[0] for failure in failures] == [
        "a task that is not signed, and here are signing_keys",
        f"a task signed with a key that is not here (key id {_key_id(THIRD)})",
        "a task with a wrong signature",
        "a task with a wrong signature",
        "a message that came as another call's",
    ]


def _key_id(key):
    return repr(Seal([key], TASK)).split()[-1].rstrip(">")


@over_brokers
def test_a_refusal_reaches_the_caller_whatever_its_reports_are_marshalled_with(ends):
    caller, worker = ends.app(keys=[NEW]), ends.app(keys=[NEW])
    worker.register("packed", lambda value: value, replace=True)  # its reports are in JSON here
    worker.start_worker()
    with pytest.raises(dingo.TaskFailed, match="set the same at both ends") as caught:
        caller.call("packed", 5).result(PATIENCE)
    assert caught.value.failure.code is Code.BAD_MESSAGE


@over_brokers
def test_a_caller_without_keys_among_those_who_have_them_is_told_so(ends):
    ends.worker(keys=[NEW])
    with pytest.raises(dingo.TaskFailed, match="here are no signing_keys to read it with") as caught:
        ends.app(keys=[]).call("add", 2, 3).result(PATIENCE)
    assert caught.value.failure.code is Code.BAD_MESSAGE


@over_brokers
def test_a_report_that_is_not_signed_is_refused_and_does_not_end_the_call(ends):
    caller = ends.app(keys=[NEW])
    result = caller.call("add", 2, 3)
    assert caller.flush(PATIENCE)
    body = JsonMarshaller().encode_report(None, Report(result.id, "add", Status.SUCCESS, 666))
    forged = frame(result.id, body, s=int(Status.SUCCESS))
    lies = [forged, Seal([THIRD], REPORT).put(forged), Seal([NEW], TASK).put(forged), b"", b"\x01"]
    worker = ends.component(kombu.worker)
    worker.report([ReportEnvelope(caller._session.caller.reply, result.id, "add", lie) for lie in lies])
    for _ in lies:
        told(caller, "report.refused")
    assert not result.done()
    ends.worker(keys=[NEW])
    assert result.result(PATIENCE) == 5


@where_found
def test_what_is_kept_of_a_call_counts_only_when_it_is_signed(ends):
    app = ends.worker(keys=[NEW])
    assert app.call("add", 2, 3).result(PATIENCE) == 5
    real = app.call("add", 3, 4)
    assert real.result(PATIENCE) == 7
    body = JsonMarshaller().encode_report(None, Report("", "add", Status.SUCCESS, 666))
    forged, moved = f"forged-{ends.queue}", f"moved-{ends.queue}"
    lie = frame(forged, body, s=int(Status.SUCCESS))
    ends.component(kombu.worker).report([
        ReportEnvelope("", forged, "add", lie, True, 60.0),
        ReportEnvelope("", moved, "add", Seal([NEW], REPORT).put(lie), True, 60.0),
    ])  # fmt: skip
    with pytest.raises(BadMessage, match="not signed"):
        app.result(forged)
    with pytest.raises(BadMessage, match="came as one of"):
        app.result(moved)
    told(app, "report.refused")
    assert app.result(real.id).result(PATIENCE) == 7
    succeeded = {one.id for one in app.succeeded()}
    assert real.id in succeeded
    assert succeeded.isdisjoint({forged, moved})


@where_found
def test_what_is_kept_in_pickle_is_listed_by_who_does_not_read_pickle(ends):
    caller = ends.worker(keys=[NEW], accept_pickle=True)
    result = caller.call("apply", max, 2, 5)
    assert result.result(PATIENCE)() == 5
    assert result.id in {one.id for one in ends.app(keys=[NEW]).succeeded()}


@over_brokers
def test_a_worker_without_keys_leaves_signed_calls_to_one_that_has_them(ends):
    caller, without = ends.app(keys=[NEW]), ends.worker()
    result = caller.call("add", 2, 3)
    assert "signing_keys" in told(without, "message.parked").message
    assert not result.done()
    ends.worker(keys=[NEW])
    assert result.result(PATIENCE) == 5


@over_brokers
def test_no_key_is_told_to_anybody(ends):
    worker = ends.worker(keys=[NEW, OLD])
    caller = ends.app(keys=[THIRD])
    caller.call("add", 2, 3)
    event = told(worker, "message.refused")
    refused = told(caller, "report.refused")
    for text in (str(event), repr(event), str(refused), repr(refused), repr(worker), repr(worker.config)):
        for key in (OLD, NEW, THIRD):
            assert key not in text


# -- pickle ----------------------------------------------------------------------------------------


@over_brokers
def test_closures_go_both_ways_where_pickle_is_accepted(ends):
    app = ends.worker(keys=[NEW], accept_pickle=True)
    factor = 3
    made = app.call("apply", lambda a, b: factor * (a + b), 2, 5).result(PATIENCE)
    assert made() == 21


@over_brokers
def test_a_pickle_is_not_read_where_it_is_not_accepted(ends):
    caller, worker = ends.app(keys=[NEW]), ends.worker(keys=[NEW])
    with pytest.raises(dingo.TaskFailed, match="accept_pickle=True") as caught:
        caller.call("show", Bomb()).result(PATIENCE)
    assert caught.value.failure.code is Code.BAD_MESSAGE
    assert told(worker, "message.refused").payload["name"] == "show"
    assert ends.unpickled == Bomb.gone_off == []


@over_brokers
@pytest.mark.parametrize("keys", [[], [NEW]], ids=["without keys", "with keys"])
def test_a_pickle_by_a_stranger_is_never_read(ends, keys):
    worker = ends.worker(keys=keys, accept_pickle=bool(keys))
    body = pickle.dumps(((Bomb(),), {}))
    ids = ends.put(call(body, n="show", m="pickle"), name="show")
    ids += ends.put(call(body, m="pickle", o={"marshaller": "pickle"}), call(body, m="pickle"))
    assert {told(worker, "message.refused").payload["id"] for _ in ids} == set(ids)
    assert ends.unpickled == Bomb.gone_off == []


def test_a_caller_says_what_must_be_set_for_pickle():
    for name, keys, missing in (("show", [], "signing_keys here, and accept_pickle=True too at the workers"),
                                ("apply", [NEW], "accept_pickle=True and signing_keys here")):  # fmt: skip
        app = dingo.App("memory://", config=dingo.Config(signing_keys=keys))
        app.register("show", repr, marshaller="pickle")
        app.register("apply", repr, marshaller="json", report_marshaller="pickle")
        with app, pytest.raises(dingo.NotAttached, match=missing):
            app.call(name, 1)


class Bomb:
    """What tells when it is unpickled."""

    gone_off = []

    def __reduce__(self):
        return (Bomb.gone_off.append, ("boom",))


# -- hostile bytes ---------------------------------------------------------------------------------

DEEP = 100_000
HOSTILE = {
    "empty": b"",
    "one byte": b"\n",
    "10 MiB": b"0" * (10 * 1024 * 1024),
    "a pickle": pickle.dumps(((1, 2), {})),
    "compressed": b"\x1f\x8b\x08\x00" + b"\x00" * 40,
    "a wrong signature": Seal([OLD], TASK).put(b"{}")[:-1] + b"!",
    "seals in seals": b"\x01" * DEEP,
    "a deep header": b'{"v":1,"h":' + b"[" * DEEP + b"]" * DEEP + b"}\n[[1,2]]",
    "a header of 900 levels": call(h=Raw('{"a":' * 900 + "1" + "}" * 900)),
    "a deep body": call("[" * DEEP + "]" * DEEP),
    "deep objects": call('[[{"a":' * 50_000),
    "digits in the header": call(a=Raw("9" * 60_000)),
    "digits in the body": call("[[1," + "9" * 1_000_000 + "]]"),
    "NaN in the header": call(x=Raw("NaN")),
    "NaN in the body": call("[[1,NaN]]"),
    "an infinite time": call(x=Raw("1e999")),
    "attempts without end": call(a=10**15),
    "attempts below none": call(a=-1),
    "an attempt that is none": call(a="many"),
    "errors that are none": call(a=1, er=[[1]]),
    "unknown codes": call(a=1, er=[["NO_CODE", "", ""]]),
    "headers that are none": call(h=[1]),
    "a reply address that is none": call(r={}),
    "an unknown marshaller": call(m="yaml"),
    "reports by another marshaller": call(rm="pickle"),
    "options that are none": call(o=[1]),
    "an unknown option value": call(o={"timeout": "soon"}),
    "a policy that is none": call(o={"retry": {"max": -1}}),
    "lengths that are none": call(l="ab"),
    "lengths beyond the end": call(l=[5, 10**9]),
    "lengths before the beginning": call(l=[-1, 2]),
    "a version that is none": call(v="1"),
    "a newer version without a time": call(v=99, t=None),
    "no id": call(id=None),
    "an id of another call": call(id="another"),
    "a name of another task": call(n="apply"),
}


@over_brokers
def test_hostile_bytes_are_refused_and_the_worker_goes_on(ends):
    ids = ends.put(*HOSTILE.values())
    worker = ends.worker()
    answers = dict(zip(HOSTILE, ends.answers(ids)))
    assert [name for name, one in answers.items() if one is None or one.failure.code is not Code.BAD_MESSAGE] == []
    assert {told(worker, "message.refused").payload["id"] for _ in ids} == set(ids)
    assert worker.call("add", 2, 3).result(PATIENCE) == 5


@pytest.mark.parametrize("mode", ["sqlite", "redis", "amqp"], indirect=True, scope="session")
def test_what_another_program_writes_into_the_queue_stops_nobody(ends, mode):
    app = ends.app()
    first = app.call("add", 1, 1)
    assert app.flush(PATIENCE)  # the queue is there
    count = {"sqlite": _into_sqlite, "redis": _into_redis, "amqp": _into_amqp}[mode.name](ends)
    app.start_worker()
    for _ in range(count):
        told(app, "message.refused")
    assert first.result(PATIENCE) == 2
    assert app.call("add", 2, 3).result(PATIENCE) == 5


def _into_sqlite(ends):
    rows = [("7", "add", "text"), ("a", "", b""), ("", "add", b"\xff"), (b"\xff", b"\xff", b""), ("b", "add", 7)]
    with contextlib.closing(sqlite3.connect(ends.url.removeprefix("sqlite:///"))) as connection, connection:
        connection.executemany(
            "INSERT INTO tasks (id, name, queue, rank, reply, frame) VALUES (?, ?, ?, 5, 'reply.nobody', ?)",
            [(id, name, ends.queue, frame) for id, name, frame in rows],
        )
    return len(rows)


def _into_redis(ends):
    bodies = [{"d": b"no"}, {"other": b"?"}, {"d": b"\xff" * 12}]
    with redis.Redis.from_url(ends.url) as client:
        for body in bodies:
            client.xadd(f"dingo:{{{ends.queue}}}:tasks:4", body)
    return len(bodies)


def _into_amqp(ends):
    parts = urlsplit(ends.url)
    bomb = zlib.compress(b"0" * 100_000_000)
    messages = [
        stock.Message(b""), stock.Message(b"?", content_type="text/plain", reply_to="nowhere", correlation_id="7"),
        stock.Message(b"?", application_headers={"x-dingo-starts": "many", "x-dingo-due": -1, "x-dingo-id": [1]}),
        stock.Message(bomb, content_encoding="gzip", application_headers={"compression": "application/x-gzip"}),
    ]  # fmt: skip
    with stock.Connection(f"{parts.hostname}:{parts.port}") as connection:
        for message in messages:
            connection.channel().basic_publish(message, routing_key=f"dingo.{ends.queue}.4")
    return len(messages)


@over_brokers
def test_what_another_worker_may_know_is_left_to_it_and_refused_in_time(ends):
    worker = ends.worker(unknown_task_seconds=0.6)
    soon = [call(v=99), call("[[1]]"), call('[[1,"2"]]'), call(seal=Seal([NEW], TASK))]
    never = [call(v=99, t=1.0), call("[[1]]", t=1e300), call("[[1]]", t=Raw("-1e999")), call("[[1]]", t=True)]
    ids = ends.put(*soon, *never)
    assert [answer.failure.code for answer in ends.answers(ids)] == [
        *(Code.BAD_MESSAGE, Code.BAD_ARGUMENTS, Code.BAD_ARGUMENTS, Code.BAD_MESSAGE),
        *(Code.BAD_MESSAGE, Code.BAD_ARGUMENTS, Code.BAD_ARGUMENTS, Code.BAD_ARGUMENTS),
    ]
    assert {told(worker, "message.parked").payload["id"] for _ in soon} == set(ids[:4])


@over_brokers
def test_fields_of_a_header_that_nobody_knows_are_ignored(ends):
    ids = ends.put(call(r=ends.reply, zz=[1, {"new": True}], q="x"))
    ends.worker()
    assert [answer.value for answer in ends.answers(ids)] == [3]


@over_brokers
def test_a_report_that_is_too_large_is_a_bad_return(ends):
    app = ends.worker(max_message_bytes=10_000)
    app.register("large", lambda: "x" * 20_000)
    with pytest.raises(dingo.TaskFailed, match="max_message_bytes") as caught:
        app.call("large").result(PATIENCE)
    assert caught.value.failure.code is Code.BAD_RETURN


@over_brokers
def test_long_errors_of_earlier_attempts_never_outgrow_a_header(ends):
    app = ends.app(keys=[NEW])

    @app.task(retry=dingo.Retry(max=4, base=0.0))
    def verbose(context: dingo.Context) -> list[str]:
        if context.attempt <= 4:
            raise ValueError(f"{context.attempt} {'é' * 5000}")
        return [error.message[:10] for error in context.errors]

    app.start_worker()
    errors = app.options(headers={"x": "y" * 60_000}).call("verbose").result(PATIENCE)
    assert [error.split()[0] for error in errors] == ["2", "3", "4"]


@over_brokers
def test_calls_that_begin_alike_are_each_read_as_they_are(ends):
    """What is known of the first says nothing of an expiry before the id, as other programs may write it."""
    past = {"x": time.time() - 60}
    begin = {"v": 1, "n": "add", "m": "json", "rm": "json", "r": ends.reply}
    ids = ends.put(*(_laid_out(begin | past),) * 2, *(_laid_out(begin),) * 2)
    ends.worker()
    answers = ends.answers(ids)
    assert [answer.failure and answer.failure.code for answer in answers] == [Code.EXPIRED, Code.EXPIRED, None, None]


def _laid_out(begin):
    def make(its_id):
        text = ",".join(f'"{name}":{_json(value)}' for name, value in begin.items())
        return f'{{{text},"id":{_json(its_id)},"t":{time.time():.6f}}}\n[[1,2]]'.encode()

    return make


@where_found
def test_headers_that_do_not_fit_are_refused_at_the_call(ends):
    app = ends.app()
    with pytest.raises(dingo.BadArguments, match="headers and options"):
        app.options(headers={"x": "y" * 70_000}).call("add", 1, 2)
