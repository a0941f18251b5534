"""Hooks and the error handler: where they run, how often and with what, alike in every mode."""

import pytest
from conftest import PATIENCE

import dingo
from dingo import Status

MOMENTS = ("on_publish", "before_task", "after_task", "on_retry", "on_success", "on_failure", "on_error")


@pytest.fixture
def hooked(own):
    """Two apps whose hooks write down who was called: (at which end, moment, its arguments in short)."""
    both, told = own(), []

    def hook(end, moment):
        def note(context, *args):
            told.append((end, moment, context.name, context.attempt, *map(short, args)))
            if moment == "on_publish":
                context.headers["by"] = "hook"

        return note

    for moment in MOMENTS:
        getattr(both.worker, moment)(hook("worker", moment))
        if both.caller is not both.worker:
            getattr(both.caller, moment)(hook("caller", moment))
    both.told = told
    return both


def short(one):
    if isinstance(one, dingo.Report):
        return one.status
    return f"{one.type}:{one.code}" if isinstance(one, dingo.Failure) else repr(one)


def seen(both, name):
    """What was told, without the name; a closed worker has told everything."""
    both.caller.close(PATIENCE)
    both.worker.close(PATIENCE)
    here = "worker" if both.mode.local else "caller"
    told = [(end == here if one[0] == "on_publish" else end == "worker", *one) for end, *one in both.told]
    assert all(at_its_end for at_its_end, *_ in told), told
    return [(moment, *rest) for _, moment, task, *rest in told if task == name]


def test_a_success(hooked):
    task = hooked.task(lambda: 5)
    hooked.start()
    assert task.call().result(PATIENCE) == 5
    assert seen(hooked, task.name) == [
        ("on_publish", 1), ("before_task", 1), ("on_success", 1, "5"), ("after_task", 1, Status.SUCCESS),
    ]  # fmt: skip


def test_the_last_failure_calls_the_handler_and_the_hook_once_and_after_task_always(hooked):
    def task() -> None:
        raise KeyError("x")

    task = hooked.task(task, retry=dingo.Retry(max=1, base=0.0))
    hooked.start()
    assert task.call().exception(PATIENCE).failure.type == "KeyError"
    told = seen(hooked, task.name)
    assert [(moment, attempt) for moment, attempt, *_ in told] == [
        ("on_publish", 1), ("before_task", 1), ("on_retry", 1), ("after_task", 1),
        ("before_task", 2), ("on_error", 2), ("on_failure", 2), ("after_task", 2),
    ]  # fmt: skip
    by_moment = {moment: args for moment, _, *args in told}
    assert by_moment["on_retry"] == by_moment["on_error"] == ["KeyError('x')"]
    assert by_moment["on_failure"] == ["KeyError:EXCEPTION"]


def test_the_error_handler_is_not_called_where_the_function_did_not_raise(hooked):
    task = hooked.task(lambda: 1)
    hooked.start()
    result = task.options(delay=0.1, expires=0.02).call()
    assert result.exception(PATIENCE).failure.code == "EXPIRED"
    assert [moment for moment, *_ in seen(hooked, task.name)] == ["on_publish", "on_failure"]


def test_a_hook_may_change_the_headers_before_the_call_is_sent(hooked):
    def task(context: dingo.Context) -> dict[str, object]:
        return dict(context.headers)

    task = hooked.task(task)
    hooked.start()
    assert task.options(headers={"mine": 1}).call().result(PATIENCE) == {"mine": 1, "by": "hook"}


def test_hooks_that_raise_harm_nobody_and_are_told(own):
    both = own()
    both.worker.before_task(lambda _context: 1 / 0)
    both.worker.after_task(lambda _context, _report: 1 / 0)
    task = both.task(lambda: 5)
    events = both.worker.listen(level=dingo.Level.WARNING)
    both.start()
    assert task.call().result(PATIENCE) == 5
    failed = 0
    while failed < 2:  # beside what other apps on the same server may wish to hear
        failed += events.get(PATIENCE).code == "hook.failed"


def test_the_error_handler_has_the_call_it_is_about(own):
    both, told = own(), []

    @both.worker.on_error
    def handle(context, error):
        told.append((context.id, context.name, context.attempt, dict(context.headers), str(error)))

    def task() -> None:
        raise OSError("no")

    task = both.task(task)
    both.start()
    result = task.options(headers={"k": 1}).call()
    assert result.wait(PATIENCE)
    both.caller.close(PATIENCE)
    both.worker.close(PATIENCE)
    assert told == [(result.id, task.name, 1, {"k": 1}, "no")]
