"""What a task and a call may be told, option by option: alike in every mode."""

import datetime
import threading
import time
import uuid

import pytest
from conftest import PATIENCE

import dingo
from dingo import Code, Status

over = ["local", "sqlite", "redis", "amqp", "filesystem"]
pytestmark = pytest.mark.parametrize("mode", over, indirect=True, scope="session")


def failure_of(result):
    """The failure a call ended with."""
    error = result.exception(PATIENCE)
    assert isinstance(error, dingo.TaskFailed), error
    return error.failure


class Said:
    """What tasks have said, in order, and how to wait for so many words."""

    def __init__(self):
        self.words, self._more = [], threading.Condition()

    def __call__(self, word):
        with self._more:
            self.words.append(word)
            self._more.notify_all()

    def wait(self, count):
        with self._more:
            assert self._more.wait_for(lambda: len(self.words) >= count, PATIENCE), self.words
            return list(self.words)


@pytest.fixture
def said():
    return Said()


# -- reports ------------------------------------------------------------------------------------------------------


def test_ignore_report_ends_the_call_for_its_caller_when_it_is_sent_and_it_runs(both, said):
    result = both.task(said, ignore_report=True).call("ran")
    assert result.done()
    with pytest.raises(dingo.ReportIgnored):
        result.result(PATIENCE)
    assert [report.status for report in result.reports()] == [Status.SENT]
    assert said.wait(1) == ["ran"]


@pytest.mark.parametrize("hooked", [False, True])
def test_what_is_returned_to_nobody_need_not_travel(own, said, hooked):
    both = own(marshal_locally=True)
    task = both.task(lambda: said("ran") or object(), ignore_report=True)
    if hooked:
        both.worker.on_success(lambda _context, _value: said("succeeded"))
    told = both.worker.listen(level=dingo.Level.WARNING)
    both.start()
    task.call()
    said.wait(2 if hooked else 1)
    both.worker.close(PATIENCE)
    assert "task.failed" not in {event.code for event in told}


def test_without_monitor_progress_only_the_final_report_comes(both):
    result = both.task(lambda: 1).call()
    assert [report.status for report in result.reports()] == [Status.SUCCESS]


def test_with_monitor_progress_all_reports_come_in_order(both):
    def task(context: dingo.Context) -> int:
        for done in range(3):
            context.progress(done, 3, f"step {done}")
        return 7

    result = both.task(task).options(monitor_progress=True).call()
    reports = list(result.reports())
    assert [report.status.name for report in reports] == [
        "SENT", "RECEIVED", "STARTED", "PROGRESS", "PROGRESS", "PROGRESS", "SUCCESS",
    ]  # fmt: skip
    told = [report.progress for report in reports if report.progress]
    assert [(one.done, one.total, one.message) for one in told] == [(n, 3, f"step {n}") for n in range(3)]
    assert [report.time for report in reports] == sorted(report.time for report in reports)


# -- retries ------------------------------------------------------------------------------------------------------

QUICK = dingo.Retry(max=2, backoff="fixed", base=0.01)


def test_max_n_means_n_plus_one_runs_and_each_knows_the_errors_before_it(both, said):
    def task(context: dingo.Context) -> None:
        said((context.attempt, context.retries_left, [one.message for one in context.errors]))
        raise OSError(f"no {context.attempt}")

    result = both.task(task, retry=QUICK).options(monitor_progress=True).call()
    failure = failure_of(result)
    assert (failure.code, failure.type, failure.message) == (Code.EXCEPTION, "OSError", "no 3")
    assert said.words == [(1, 2, []), (2, 1, ["no 1"]), (3, 0, ["no 1", "no 2"])]
    reports = list(result.reports())
    retries = [report for report in reports if report.status is Status.RETRY]
    assert [(one.attempt, one.failure.message) for one in retries] == [(1, "no 1"), (2, "no 2")]
    assert reports[-1].attempt == 3


def test_a_success_after_retries_says_at_which_attempt(both):
    def task(context: dingo.Context) -> int:
        if context.attempt < 3:
            raise OSError
        return context.attempt

    result = both.task(task, retry=QUICK).call()
    assert (result.result(PATIENCE), result.last.attempt) == (3, 3)


def test_one_call_may_be_given_a_retry_of_its_own(both, said):
    def task() -> None:
        said("ran")
        raise OSError

    failure_of(both.task(task).options(retry=dingo.Retry(max=1, backoff="fixed", base=0.0)).call())
    assert said.words == ["ran", "ran"]


def test_retry_zero_takes_the_task_s_retries_away(both, said):
    def task() -> None:
        said("ran")
        raise OSError

    failure_of(both.task(task, retry=QUICK).options(retry=0).call())
    assert said.words == ["ran"]


@pytest.mark.parametrize(
    ("policy", "runs"),
    [({"on": (OSError,)}, 2), ({"on": (KeyError,)}, 1), ({"give_up_on": (ConnectionError,)}, 1)],
)
def test_only_the_named_errors_are_tried_again(both, said, policy, runs):
    def task() -> None:
        said("ran")
        raise ConnectionError

    retry = dingo.Retry(max=1, base=0.0, **policy)
    failure_of(both.task(task, retry=retry).call())
    assert len(said.words) == runs
    failure_of(both.task(task).options(retry=retry).call())
    assert len(said.words) == 2 * runs


def test_a_backoff_of_one_s_own_is_asked_with_the_attempt(both, said):
    def task() -> None:
        raise OSError

    def backoff(attempt):
        said(attempt)
        return 0.0

    failure_of(both.task(task, retry=dingo.Retry(max=2, backoff=backoff)).call())
    assert said.words == [1, 2]


def test_retry_later_asks_for_another_attempt_where_no_retry_is_set(both):
    def task(context: dingo.Context) -> int:
        if context.attempt < 3:
            raise dingo.RetryLater("not yet", delay=0.01)
        return context.attempt

    assert both.task(task).call().result(PATIENCE) == 3


def test_retry_later_counts_against_max(both, said):
    def task() -> None:
        said("ran")
        raise dingo.RetryLater("never", delay=0.0)

    failure = failure_of(both.task(task, retry=1).call())
    assert (failure.type, failure.message, len(said.words)) == ("RetryLater", "never", 2)


def test_a_value_that_does_not_fit_is_never_tried_again(both, said):
    def task() -> int:
        said("ran")
        return "text"  # type: ignore[return-value]

    assert failure_of(both.task(task, retry=QUICK).call()).code is Code.BAD_RETURN
    assert len(said.words) == 1


# -- time ---------------------------------------------------------------------------------------------------------


def test_a_thread_out_of_time_is_told_and_its_call_ends_timeout_without_a_retry(both, said):
    def task(context: dingo.Context) -> None:
        said(context.attempt)
        while not context.cancelled:
            time.sleep(0.005)
        said("cancelled")

    failure = failure_of(both.task(task, timeout=0.1, retry=QUICK).call())
    assert (failure.code, failure.type) == (Code.TIMEOUT, "TimeoutError")
    assert said.wait(2) == [1, "cancelled"]


def test_a_thread_out_of_time_is_tried_again_where_the_policy_names_timeout_error(both):
    def task(context: dingo.Context) -> int:
        while context.attempt == 1 and not context.cancelled:
            time.sleep(0.005)
        return context.attempt

    policy = dingo.Retry(max=1, base=0.0, on=(TimeoutError,))
    assert both.task(task, timeout=0.2, retry=policy).call().result(PATIENCE) == 2


def test_a_deadline_is_known_to_the_task(both):
    def task(context: dingo.Context) -> float:
        assert context.deadline is not None
        return (context.deadline - datetime.datetime.now(datetime.UTC)).total_seconds()

    assert 0 < both.task(task, timeout=30).call().result(PATIENCE) <= 30


@pytest.mark.parametrize("kind", ["delay", "eta"])
def test_a_call_never_runs_before_its_time(both, kind):
    task = both.task(time.time)
    due = time.time() + 0.15
    options = {"delay": 0.15} if kind == "delay" else {"eta": datetime.datetime.fromtimestamp(due, datetime.UTC)}
    assert task.options(**options).call().result(PATIENCE) >= due


def test_an_eta_that_has_passed_means_now(both):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    assert both.task(lambda: 1).options(eta=past).call().result(PATIENCE) == 1


def test_a_task_knows_the_moment_it_was_to_wait_for(both):
    eta = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.1)

    def task(context: dingo.Context) -> float:
        assert context.eta is not None
        return context.eta.timestamp()

    assert both.task(task).options(eta=eta).call().result(PATIENCE) == pytest.approx(eta.timestamp(), abs=0.001)


@pytest.mark.parametrize("kind", ["seconds", "moment"])
def test_a_call_that_could_not_start_before_it_expires_is_never_run(both, said, kind):
    expires = 0.05 if kind == "seconds" else datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.05)
    result = both.task(said).options(delay=0.2, expires=expires).call("ran")
    assert failure_of(result).code is Code.EXPIRED
    assert said.words == []


def test_a_call_that_starts_in_time_does_not_expire(both):
    assert both.task(lambda: 1).options(expires=60).call().result(PATIENCE) == 1


# -- order --------------------------------------------------------------------------------------------------------


def test_priority_nine_comes_first_and_in_one_priority_who_came_first(own, said, gate):
    both = own(workers=1)
    hold, task = both.task(gate.enter), both.task(said)
    both.start()
    held = hold.call()
    gate.wait()
    ranks = [4, 0, 9, 4, 9, 0, 7, 4]
    results = [task.options(priority=rank).call([rank, number]) for number, rank in enumerate(ranks)]
    assert both.caller.flush(PATIENCE)
    gate.open.set()
    assert dingo.wait([held, *results], timeout=PATIENCE).not_done == set()
    assert said.words == sorted(([rank, n] for n, rank in enumerate(ranks)), key=lambda one: (-one[0], one[1]))


def test_a_call_goes_by_the_queue_it_is_given(both):
    def task(context: dingo.Context) -> str:
        return context.queue

    assert both.task(task, queue="other").call().result(PATIENCE) == "other"
    assert both.task(task).options(queue="other").call().result(PATIENCE) == "other"
    assert both.task(task).call().result(PATIENCE) == both.queues[0]


# -- identity -----------------------------------------------------------------------------------------------------


def test_an_id_may_be_chosen_and_is_known_to_the_task(both):
    def task(context: dingo.Context) -> str:
        return context.id

    chosen = f"mine-{uuid.uuid4()}"
    result = both.task(task).options(id=chosen).call()
    assert (result.id, result.result(PATIENCE)) == (chosen, chosen)


def test_an_id_that_belongs_to_a_call_under_way_is_refused(both, gate):
    task = both.task(gate.enter)
    first = task.options(id="twice").call()
    with pytest.raises(dingo.BadOption, match="twice"):
        task.options(id="twice").call()
    gate.open.set()
    assert first.result(PATIENCE) is None


def test_calls_of_two_callers_with_one_id_both_end(both, mode, gate):
    """Where the broker knows calls by their ids, it is one call."""
    if mode.local:
        pytest.skip("there is one caller")
    task = both.task(lambda number: (gate.enter(), number)[1])
    other = dingo.App(mode.url, config=both.caller.config)
    other.register(task.name, lambda number: number)
    id = uuid.uuid4().hex
    first = task.options(id=id).call(1)
    gate.wait()
    second = other.options(id=id).call(task.name, 2)
    other.flush(PATIENCE)
    gate.open.set()
    assert first.result(PATIENCE) == 1
    assert second.result(PATIENCE) == (1 if mode.finds else 2)
    other.close(PATIENCE)


def test_ids_are_the_same_at_both_ends_and_unique(both):
    def task(context: dingo.Context) -> str:
        return context.id

    results = both.task(task).call_many([()] * 20)
    assert [one.id for one in results] == [one.result(PATIENCE) for one in results]
    assert len({one.id for one in results}) == 20


def test_headers_come_with_the_call(both):
    def task(context: dingo.Context) -> dict[str, object]:
        return dict(context.headers)

    headers = {"tenant": "ünï", "n": 1, "list": [1, None]}
    assert both.task(task).options(headers=headers).call().result(PATIENCE) == headers


# -- callbacks ----------------------------------------------------------------------------------------------------


def test_on_success_gets_the_value_before_its_own_arguments(both, said):
    def after(value: int, more: str) -> None:
        said((value, more, dingo.current().previous))

    follow = both.task(after)
    assert both.task(lambda: 5).options(on_success=[follow.s("x")]).call().result(PATIENCE) == 5
    assert said.wait(1) == [(5, "x", 5)]


@pytest.mark.parametrize("options", [{"pass_result": False}, {"immutable": True}])
def test_a_task_may_keep_its_result_from_what_follows(both, said, options):
    def after(more: str) -> None:
        said(more)

    follow = both.task(after)
    both.task(lambda: 5, **options).options(on_success=[follow.s("x")]).call().result(PATIENCE)
    assert said.wait(1) == ["x"]


def test_si_takes_nothing_from_the_task_before_it(both, said):
    follow = both.task(said)
    both.task(lambda: 5).options(on_success=[follow.si("own")]).call().result(PATIENCE)
    assert said.wait(1) == ["own"]


def test_on_error_gets_the_error_text_first_and_only_after_the_last_attempt(both, said):
    def after(text: str, more: str) -> None:
        said((text, more))

    def task(context: dingo.Context) -> None:
        said(context.attempt)
        raise OSError("no")

    follow, unwanted = both.task(after), both.task(said)
    calling = both.task(task, retry=QUICK).options(on_error=[follow.s("x")], on_success=[unwanted.si("success")])
    failure_of(calling.call())
    assert said.wait(4) == [1, 2, 3, ("no", "x")]


def test_callbacks_may_carry_options_of_their_own(both, said):
    def after(context: dingo.Context) -> None:
        said((context.queue, dict(context.headers)))

    follow = both.task(after)
    given = follow.options(queue="other", headers={"k": 1}).si()
    both.task(lambda: None).options(on_success=[given]).call().result(PATIENCE)
    assert said.wait(1) == [("other", {"k": 1})]


def test_arguments_of_callbacks_keep_their_types_and_may_be_large(both, said):
    moment, large = datetime.datetime(2026, 1, 2, 3, 4, 5), "x" * 200_000
    given = both.task(lambda *args, **kwargs: said((args, kwargs))).si((1, b"\xff"), large, at=moment)
    both.task(lambda: None).options(on_success=given).call().result(PATIENCE)
    assert said.wait(1) == [(((1, b"\xff"), large), {"at": moment})]


def test_callbacks_may_have_callbacks_and_policies(both, said):
    def flaky(context: dingo.Context) -> int:
        if context.attempt < 2:
            raise OSError
        return context.attempt

    last = both.task(said)
    middle = both.task(flaky).options(retry=dingo.Retry(max=1, base=0.0, on=(OSError,)), on_success=[last.s()])
    both.task(lambda: None).options(on_success=[middle.si()]).call().result(PATIENCE)
    assert said.wait(1) == [2]


# -- sending and keeping ------------------------------------------------------------------------------------------


def test_confirm_makes_the_call_wait_until_it_is_sent(both):
    assert both.task(lambda: 1).options(confirm=True).call().status >= Status.SENT


def test_a_kept_result_is_found_again_by_its_id_and_forgotten(both):
    task = both.task(lambda: 5)
    result = task.options(keep_result=60).call()
    assert result.result(PATIENCE) == 5
    if not both.mode.finds:
        with pytest.raises(dingo.NotAttached):
            both.caller.result(result.id, task.name)
        return
    assert both.caller.result(result.id, task.name).result(PATIENCE) == 5
    both.caller.forget(result.id, task.name)
    with pytest.raises(dingo.ResultNotFound):
        both.caller.result(result.id, task.name)


class Shout:
    """An invoker that changes what goes in and what comes out."""

    def invoke(self, fn, args, kwargs):
        return fn(*(text.upper() for text in args), **kwargs)

    def returned(self, fn, value):
        return f"{value}!"


def test_an_invoker_runs_the_function_where_it_runs(both):
    def task(text: str) -> str:
        return f"<{text}>"

    assert both.task(task, invoker=Shout()).call("hi").result(PATIENCE) == "<HI>!"


class Numbers:
    """An id maker."""

    def __init__(self):
        self.last = 0

    def new_id(self):
        self.last += 1
        return f"number-{self.last}"


def test_an_id_maker_makes_the_ids(both):
    task = both.task(lambda: None, id_maker=Numbers())
    assert [task.call().id for _ in range(2)] == ["number-1", "number-2"]


def test_task_and_report_may_have_different_marshallers(both):
    def task(blob: bytes) -> bytes:
        return blob * 2

    pytest.importorskip("msgpack")
    options = {"marshaller": "msgpack", "report_marshaller": "json"}
    assert both.task(task, **options).call(b"\xff").result(PATIENCE) == b"\xff\xff"
    assert both.task(task).options(**options).call(b"\xff").result(PATIENCE) == b"\xff\xff"


# -- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"retrys": 1}, "retry"),
        ({"priority": 10}, "0 to 9"),
        ({"timeout": 0}, "over 0"),
        ({"delay": -1}, "from 0"),
        ({"delay": 1, "eta": datetime.datetime.now(datetime.UTC)}, "contradict"),
        ({"eta": datetime.datetime(2030, 1, 1)}, "aware"),
        ({"pool": "process"}, "belongs to a task"),
        ({"workers": 2}, "belongs to a task"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_a_call_is_refused_where_it_is_given(both, options, says):
    task = both.task(lambda: None)
    with pytest.raises(dingo.BadOption, match=says):
        task.options(**options)
    with pytest.raises(dingo.BadOption, match=says):
        both.caller.options(**options)


@pytest.mark.parametrize("options", [{"id": "x"}, {"eta": datetime.datetime.now(datetime.UTC)}, {"unique": "key"}])
def test_an_option_of_a_single_call_is_refused_on_a_task(both, options):
    with pytest.raises(dingo.BadOption, match="makes no sense on a task"):
        both.caller.register("never", lambda: None, **options)
