"""Marshallers, id makers and invokers: built-in and the user's own."""

import json
import re

import pytest

import dingo


class Shout:
    """A marshaller that counts what it carries and shouts texts."""

    key = "shout"

    def __init__(self):
        self.prepared, self.carried = [], []

    def prepare(self, name, fn):
        self.prepared.append((name, fn))

    def encode_task(self, fn, task):
        self.carried.append(("encode_task", task.name, task.id))
        return json.dumps([task.args, task.kwargs]).upper().encode()

    def decode_task(self, fn, header, data):
        self.carried.append(("decode_task", header.name, header.id))
        args, kwargs = json.loads(data)
        return tuple(args), {name.lower(): value for name, value in kwargs.items()}

    def encode_report(self, fn, report):
        self.carried.append(("encode_report", report.name, report.id))
        return json.dumps(report.value).upper().encode()

    def decode_report(self, fn, header, data):
        self.carried.append(("decode_report", header.name, header.id))
        return dingo.Report(header.id, header.name, dingo.Status.SUCCESS, json.loads(data))


class Message(Shout):
    """The same, returning a TaskMessage."""

    def decode_task(self, fn, header, data):
        from dingo.message.task import TaskMessage

        return TaskMessage(header, *super().decode_task(fn, header, data))


class Count:
    def __init__(self):
        self.number = 0

    def new_id(self):
        self.number += 1
        return f"call-{self.number}"


@pytest.fixture
def desk():
    app = dingo.App("local", config=dingo.Config(workers=1, marshal_locally=True))
    yield app
    app.close(timeout=5, drain=False)


@pytest.fixture
def echo(desk):
    @desk.task
    def echo(a: str, *, b: str = "-") -> str:
        return f"{a}{b}."

    return echo


@pytest.mark.parametrize("kind", [Shout, Message])
def test_a_marshaller_carries_arguments_and_reports(desk, echo, kind):
    shout = kind()
    desk.add_marshaller("shout", shout)
    desk.set_marshaller("echo", task="shout", report="shout")
    result = echo.call("a", b="b")
    assert result.result(10) == "AB."
    assert shout.prepared == [("echo", echo.fn)]
    assert shout.carried == [
        (what, "echo", result.id) for what in ("encode_task", "decode_task", "encode_report", "decode_report")
    ]


def test_tasks_and_reports_may_have_different_ones(desk, echo):
    shout = Shout()
    desk.add_marshaller("shout", shout)
    desk.set_marshaller("echo", report="shout")
    assert echo.call("a").result(10) == "A-."
    assert {what for what, *_ in shout.carried} == {"encode_report", "decode_report"}
    desk.set_marshaller("echo", task="shout", report="json")
    shout.carried.clear()
    assert echo.call("a").result(10) == "A-."
    assert {what for what, *_ in shout.carried} == {"encode_task", "decode_task"}


def test_one_call_may_have_its_own(desk, echo):
    shout = Shout()
    desk.add_marshaller("shout", shout)
    assert echo.options(marshaller="shout").call("a").result(10) == "A-."
    assert echo.options(report_marshaller=shout).call("a").result(10) == "A-."
    assert echo.call("a").result(10) == "a-."


def test_a_marshaller_that_breaks_is_bad_arguments_at_the_call_and_bad_return_at_the_end(desk, echo):
    class Broken(Shout):
        def encode_task(self, fn, task):
            raise RuntimeError("out of ink")

        encode_report = encode_task

    desk.add_marshaller("broken", Broken())
    with pytest.raises(dingo.BadArguments, match=r"echo.*shout.*RuntimeError: out of ink"):
        echo.options(marshaller="broken").call("a")
    failure = echo.options(report_marshaller="broken").call("a").exception(10).failure
    assert failure.code is dingo.Code.BAD_RETURN
    assert "out of ink" in failure.message


def test_arguments_that_a_marshaller_got_wrong_are_refused_before_the_function_runs(desk, echo):
    class Wrong(Shout):
        def decode_task(self, fn, header, data):
            return (5,), {}

    desk.add_marshaller("wrong", Wrong())
    with pytest.raises(dingo.BadArguments, match="'a'"):
        echo.options(marshaller="wrong").call("a")


@pytest.mark.parametrize(
    "use",
    [
        lambda app: app.set_marshaller("echo", task="nope"),
        lambda app: app.set_marshaller("echo", report="nope"),
        lambda app: app.set_id_maker("echo", "nope"),
        lambda app: app.set_option("echo", marshaller="nope"),
        lambda app: app.set_option("echo", id_maker="nope"),
        lambda app: app.register("other", len, report_marshaller="nope"),
        lambda app: app.options(marshaller="nope").call("echo", "a"),
    ],
)
def test_an_unknown_key_is_refused_at_once_and_the_known_ones_are_named(desk, echo, use):
    with pytest.raises(dingo.BadOption, match="'nope'.*(json|uuid)"):
        use(desk)
    assert echo.call("a").result(10) == "a-."


def test_a_taken_key_and_an_object_that_cannot_do_the_work_are_refused(app):
    with pytest.raises(dingo.BadOption, match="already"):
        app.add_marshaller("json", Shout())
    with pytest.raises(dingo.BadOption, match="encode_task"):
        app.add_marshaller("mine", object())
    with pytest.raises(dingo.BadOption, match="encode_task"):
        app.add_marshaller("mine", Shout)
    with pytest.raises(dingo.BadOption, match="key"):
        app.add_marshaller("", Shout())
    with pytest.raises(dingo.BadOption, match="new_id"):
        app.add_id_maker("mine", object())
    with pytest.raises(dingo.NotRegistered):
        app.set_marshaller("nope", task="json")


class TestIDMakers:
    def test_default_ids_are_unique(self, app):
        app.register("job", lambda: None)
        ids = {result.id for result in app.call_many("job", [()] * 1000)}
        assert len(ids) == 1000

    @pytest.mark.parametrize("marshal", [False, True])
    def test_ones_own_maker_makes_the_ids(self, marshal):
        with dingo.App("local", config=dingo.Config(marshal_locally=marshal)) as app:
            app.add_id_maker("count", Count())
            app.register("job", lambda: None)
            app.set_id_maker("job", "count")
            assert [app.call("job").id for _ in range(3)] == ["call-1", "call-2", "call-3"]
            assert app.options(id="mine").call("job").id == "mine"

    def test_the_built_in_ones(self, app):
        app.register("job", lambda: None)
        assert re.fullmatch(r"[0-9a-f-]{36}", app.options(id_maker="uuid").call("job").id)
        sequence = app.options(id_maker="sequence")
        assert [sequence.call("job").id for _ in range(2)] == ["1", "2"]

    @pytest.mark.parametrize("wrong", ["", None, 7])
    def test_a_maker_that_returns_no_id_is_refused_and_the_app_goes_on(self, app, wrong):
        class Bad:
            def new_id(self):
                return wrong

        app.register("job", lambda: 1)
        with pytest.raises(dingo.BadOption, match="id maker of task 'job'"):
            app.options(id_maker=Bad(), unique=True).call("job")
        assert app.options(unique=True).call("job").result(10) == 1

    def test_one_s_own_id_is_found_again(self, app):
        app.register("job", lambda: 5)
        result = app.options(id="order-1").call("job")
        assert result.id == "order-1"
        assert app.result("order-1") is result
        assert result.result(10) == 5

    @pytest.mark.parametrize("marshal", [False, True])
    def test_an_id_in_use_is_refused_and_free_again_after_the_end(self, gate, marshal):
        config = dingo.Config(workers=1, marshal_locally=marshal, max_pending=5)
        with dingo.App("local", config=config) as app:
            app.register("job", lambda: gate.wait(10))
            first = app.options(id="order-1").call("job")
            for _ in range(10):  # a refused call leaves nothing behind
                with pytest.raises(dingo.BadOption, match="order-1"):
                    app.options(id="order-1").call("job")
            assert app.result("order-1") is first
            gate.set()
            assert first.result(10) is True
            assert app.options(id="order-1").call("job").result(10) is True


class Recorder:
    def __init__(self):
        self.log = []

    def invoke(self, fn, args, kwargs):
        self.log.append(("invoke", args, kwargs))
        return fn(*args, **kwargs)

    def returned(self, fn, value):
        self.log.append(("returned", value))
        return value * 2


class TestInvokers:
    @pytest.mark.parametrize("options", [{}, {"retry": 1}])
    def test_it_invokes_the_function_and_sees_what_it_returned(self, app, options):
        invoker = Recorder()

        @app.task(invoker=invoker, **options)
        def job(a: int, *, b: int = 0) -> int:
            return a + b

        assert job.call(1, b=2).result(10) == 6
        assert invoker.log == [("invoke", (1,), {"b": 2}), ("returned", 3)]

    def test_it_invokes_async_functions_too(self, app):
        @app.task(invoker=Recorder())
        async def job(a: int) -> int:
            return a

        assert job.call(4).result(10) == 8

    def test_it_is_given_the_context_among_the_arguments(self, app):
        invoker = Recorder()

        @app.task(invoker=invoker)
        def job(context: dingo.Context, a: int) -> int:
            return a

        assert job.call(4).result(10) == 8
        assert isinstance(invoker.log[0][1][0], dingo.Context)

    def test_what_it_makes_of_the_value_must_fit_the_annotation(self, app):
        class Wrong(Recorder):
            def returned(self, fn, value):
                return "text"

        app.register("job", lambda: 1)

        @app.task(invoker=Wrong())
        def job2() -> int:
            return 1

        assert job2.call().exception(10).failure.code is dingo.Code.BAD_RETURN

    def test_what_it_raises_is_the_task_s_failure_and_is_retried(self, app):
        class Flaky(Recorder):
            def invoke(self, fn, args, kwargs):
                if dingo.current().attempt < 3:
                    raise OSError
                return fn()

        app.register("job", lambda: 1, invoker=Flaky(), retry=dingo.Retry(max=2, base=0))
        assert app.call("job").result(10) == 2
