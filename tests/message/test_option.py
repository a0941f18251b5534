"""Options: what is accepted, what is refused and how they are laid over each other."""

import datetime

import pytest

import dingo
from dingo.message.option import Option
from dingo.message.signature import Signature

LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


class Carrier:
    def encode_task(self): ...
    def decode_task(self): ...
    def encode_report(self): ...
    def decode_report(self): ...
    def new_id(self): ...
    def invoke(self): ...
    def returned(self): ...


GOOD = [
    ("ignore_report", True, True),
    ("monitor_progress", True, True),
    ("retry", 0, None),
    ("retry", None, None),
    ("retry", 2, dingo.Retry(max=2)),
    ("retry", dingo.Retry(max=7), dingo.Retry(max=7)),
    ("timeout", 3, 3.0),
    ("timeout", None, None),
    ("delay", 0, 0.0),
    ("eta", LATER, LATER),
    ("expires", 5, 5.0),
    ("expires", LATER, LATER),
    ("priority", 0, 0),
    ("priority", 9, 9),
    ("queue", "slow", "slow"),
    ("id", "order-1", "order-1"),
    ("headers", {"a": 1}, {"a": 1}),
    ("on_success", Signature("a"), (Signature("a"),)),
    ("on_error", [Signature("a"), Signature("b")], (Signature("a"), Signature("b"))),
    ("pass_result", False, False),
    ("unique", True, True),
    ("unique", False, None),
    ("unique", "key", "key"),
    ("unique", len, len),
    ("pool", "thread", "thread"),
    ("workers", 3, 3),
    ("confirm", True, True),
    ("rate_limit", "10/s", 10.0),
    ("rate_limit", "120/m", 2.0),
    ("rate_limit", " 1.5 / sec ", 1.5),
    ("rate_limit", "3600/h", 1.0),
    ("max_concurrency", 1, 1),
    ("redeliver", False, False),
    ("keep_result", 0, 0.0),
    ("marshaller", "json", "json"),
]


@pytest.mark.parametrize(("name", "given", "kept"), GOOD)
def test_a_right_value_is_kept_in_its_plain_form(name, given, kept):
    assert getattr(Option.of({name: given}, on_task=name in ("pool", "workers")), name) == kept


@pytest.mark.parametrize("given", [{"pool": "process"}, {"workers": 2}])
def test_what_belongs_to_a_task_is_refused_on_a_call(given):
    with pytest.raises(dingo.BadOption, match="belongs to a task"):
        Option.of(given)


BAD = [
    ("ignore_report", 1), ("monitor_progress", "yes"), ("retry", -1), ("retry", 1.5), ("retry", True),
    ("retry", float("inf")), ("timeout", 0), ("timeout", -1), ("timeout", float("nan")), ("timeout", "5"),
    ("timeout", True), ("delay", -0.1), ("delay", float("inf")), ("eta", 5.0), ("eta", datetime.datetime(2030, 1, 1)),
    ("eta", datetime.date(2030, 1, 1)), ("expires", -1), ("expires", datetime.datetime(2030, 1, 1)), ("priority", 10),
    ("priority", -1), ("priority", True), ("priority", 4.0), ("priority", None), ("queue", ""), ("queue", "a b"),
    ("queue", "a\n"), ("queue", "x" * 256), ("queue", 3), ("id", ""), ("id", 7), ("headers", [("a", 1)]),
    ("headers", {1: 2}), ("headers", None), ("on_success", "add"), ("on_success", [len]), ("on_success", 3),
    ("pass_result", None), ("unique", ""), ("unique", 5), ("unique", str), ("pool", "fork"), ("pool", True),
    ("workers", 0), ("workers", True), ("confirm", 0), ("rate_limit", "0/s"), ("rate_limit", "10"), ("rate_limit", 10),
    ("rate_limit", "-1/s"), ("rate_limit", "1/d"), ("max_concurrency", 0), ("redeliver", "no"), ("keep_result", -1),
    ("marshaller", 3), ("marshaller", ""), ("marshaller", Carrier), ("id_maker", object()), ("invoker", "plain"),
    ("invoker", object()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_value_is_refused_by_an_error_that_names_the_option_and_the_value(name, value):
    with pytest.raises(dingo.BadOption) as caught:
        Option.of({name: value})
    assert repr(name) in str(caught.value)
    assert repr(value) in str(caught.value)


def test_bad_option_is_a_type_error_and_a_value_error():
    assert issubclass(dingo.BadOption, TypeError)
    assert issubclass(dingo.BadOption, ValueError)


@pytest.mark.parametrize(
    ("typo", "meant"), [("prority", "priority"), ("retries", "retry"), ("time_out", "timeout"), ("expire", "expires")]
)
def test_an_unknown_option_names_the_nearest_right_one(typo, meant):
    with pytest.raises(dingo.BadOption, match=f"{typo!r} is unknown: did you mean {meant!r}"):
        Option.of({typo: 1})


def test_an_unknown_option_near_to_none_lists_all():
    with pytest.raises(dingo.BadOption, match="known options are: .*max_concurrency.*unique"):
        Option.of({"zzzzzz": 1})


def test_a_naive_eta_is_told_how_to_become_aware():
    with pytest.raises(dingo.BadOption, match="timezone.utc"):
        Option.of({"eta": datetime.datetime(2030, 1, 1)})


@pytest.mark.parametrize("given", [{"id": "x"}, {"eta": LATER}, {"unique": "key"}])
def test_what_makes_no_sense_on_a_task_is_refused_there(given):
    with pytest.raises(dingo.BadOption, match="makes no sense on a task"):
        Option.of(given, on_task=True)


def test_delay_and_eta_together_are_a_contradiction():
    with pytest.raises(dingo.BadOption, match="contradict"):
        Option.of({"delay": 1, "eta": LATER})


def test_an_eta_takes_the_place_of_the_delay_below_it():
    laid = Option.of({"eta": LATER}, Option.of({"delay": 5}))
    assert (laid.delay, laid.eta) == (None, LATER)


def test_a_delay_takes_the_place_of_the_eta_below_it():
    laid = Option.of({"delay": 5}, Option.of({"eta": LATER}))
    assert (laid.delay, laid.eta) == (5.0, None)


def test_options_are_laid_over_each_other_field_by_field():
    base = Option.of({"priority": 7, "retry": 3, "headers": {"a": 1}})
    laid = Option.of({"priority": 2}, base)
    assert (laid.priority, laid.retry, laid.headers) == (2, dingo.Retry(max=3), {"a": 1})


def test_a_later_option_can_take_an_earlier_one_back():
    base = Option.of({"retry": 3, "timeout": 5, "unique": True, "queue": "slow"})
    laid = Option.of({"retry": 0, "timeout": None, "unique": False, "queue": None}, base)
    assert (laid.retry, laid.timeout, laid.unique, laid.queue) == (None, None, None, None)


def test_immutable_is_another_word_for_not_passing_the_result_on():
    assert Option.of({"immutable": True}).pass_result is False
    assert Option.of({"immutable": False}).pass_result is True


def test_headers_are_copied():
    given = {"a": 1}
    option = Option.of({"headers": given})
    given["a"] = 2
    assert option.headers == {"a": 1}


def test_a_custom_component_is_accepted_by_what_it_can_do():
    carrier = Carrier()
    option = Option.of({"marshaller": carrier, "report_marshaller": carrier, "id_maker": carrier, "invoker": carrier})
    assert option.marshaller is option.report_marshaller is option.id_maker is option.invoker is carrier


def test_the_default_priority_is_four():
    assert Option.of({}).priority == 4


def test_a_later_eta_on_a_task_with_options_takes_the_place_of_its_delay(app):
    @app.task
    def job() -> None: ...

    past = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    assert job.options(delay=3600).options(eta=past).call().result(10) is None
    assert app.options(delay=3600).options(eta=past).call("job").result(10) is None
