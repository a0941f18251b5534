"""Options in local mode, as a user meets them."""

import asyncio
import datetime
import threading

import pytest

import dingo
from dingo import Code, Retry, Status


def now():
    return datetime.datetime.now(datetime.UTC)


@pytest.fixture
def add(app):
    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    return add


@pytest.fixture
def held(single, gate):
    """A pool of one whose worker is held until the gate opens; `order` is what ran, in order."""
    started, order = threading.Event(), []

    @single.task
    def hold() -> None:
        started.set()
        gate.wait(10)

    @single.task
    def job(name: object) -> object:
        order.append(name)
        return name

    hold.call()
    assert started.wait(10)
    single.order = order
    return single


class TestIgnoreReport:
    def test_its_caller_has_a_final_result_without_a_value(self, app, gate):
        ran = threading.Event()

        @app.task(ignore_report=True)
        def job() -> int:
            ran.set()
            return 1

        result = job.call()
        assert result.done()
        assert not result.running()
        assert not result.cancelled()
        assert not result.cancel()
        assert result.wait(0)
        assert (result.status, result.last.status) == (Status.SENT, Status.SENT)
        assert [report.status for report in result.reports()] == [Status.SENT]
        for ask in (result.result, result.exception):
            with pytest.raises(dingo.ReportIgnored, match="job"):
                ask()

        async def main():
            assert await result.until(Status.SENT)
            await result

        with pytest.raises(dingo.ReportIgnored):
            asyncio.run(main())
        assert ran.wait(10)

    def test_callbacks_for_the_value_are_never_called_and_done_callbacks_at_once(self, app):
        app.register("job", lambda: 1, ignore_report=True)
        told = []
        result = app.call("job").on_ok(told.append).on_fail(told.append)
        result.add_done_callback(lambda one: told.append(one is result))
        assert told == [True]

    def test_it_can_be_waited_for_among_others(self, app, add):
        ignored, other = add.options(ignore_report=True).call(1, 2), add.call(1, 2)
        assert dingo.wait([ignored, other], timeout=10).done == {ignored, other}
        assert set(dingo.as_completed([ignored, other], timeout=10)) == {ignored, other}


class TestMonitorProgress:
    def test_all_reports_come_in_order_to_whoever_listens_whenever(self, app, add):
        result = add.options(monitor_progress=True).call(1, 2)
        names = ["SENT", "RECEIVED", "STARTED", "SUCCESS"]
        assert [report.status.name for report in result.reports()] == names
        assert [report.status.name for report in result.reports()] == names
        times = [report.time for report in result.reports()]
        assert times == sorted(times)
        assert {report.id for report in result.reports()} == {result.id}

    def test_without_it_only_the_final_report_comes(self, add):
        assert [report.status for report in add.call(1, 2).reports()] == [Status.SUCCESS]

    def test_reports_can_be_read_on_a_loop_while_it_runs(self, app, gate):
        @app.task(monitor_progress=True)
        async def job(context: dingo.Context) -> int:
            for number in range(3):
                context.progress(number)
                await asyncio.sleep(0.001)
            return 5

        async def main():
            return [report async for report in job.call().reports()]

        reports = asyncio.run(main())
        assert [report.status.name for report in reports] == [
            "SENT", "RECEIVED", "STARTED", "PROGRESS", "PROGRESS", "PROGRESS", "SUCCESS",
        ]  # fmt: skip

    def test_a_status_can_be_waited_for(self, app, gate):
        app.register("job", lambda: gate.wait(10), monitor_progress=True)
        result = app.call("job")
        assert result.wait(10, until=Status.STARTED)
        assert result.running()
        assert not result.wait(0.01)
        gate.set()
        assert result.result(10) is True

    def test_a_failed_call_s_last_report_is_the_failure(self, app):
        app.register("job", lambda: 1 / 0, monitor_progress=True)
        reports = list(app.call("job").reports())
        assert [report.status.name for report in reports] == ["SENT", "RECEIVED", "STARTED", "FAILURE"]
        assert reports[-1].failure.type == "ZeroDivisionError"


class TestDelay:
    def test_a_delayed_call_never_runs_early(self, app):
        timer = app._session.open().timer
        app.register("job", timer.time)
        before = timer.time()
        assert app.options(delay=0.1).call("job").result(10) - before >= 0.1

    def test_a_past_eta_and_no_delay_mean_now(self, add):
        for options in ({"delay": 0}, {"eta": now() - datetime.timedelta(days=1)}):
            assert add.options(**options).call(1, 2).result(10) == 3

    def test_an_eta_in_another_time_zone_is_the_same_moment(self, app, add):
        moment = (now() + datetime.timedelta(hours=1)).astimezone(datetime.timezone(datetime.timedelta(hours=-7)))
        result = add.options(eta=moment).call(1, 2)
        app._session.caller.timer.advance(3500)
        assert not result.done()
        assert [info.id for info in app.delayed()] == [result.id]
        app._session.caller.timer.advance(101)
        assert result.result(10) == 3

    def test_a_naive_eta_is_refused_and_nothing_is_sent(self, app, add):
        with pytest.raises(dingo.BadOption, match="aware"):
            add.options(eta=datetime.datetime(2100, 1, 1))
        with pytest.raises(ValueError, match="aware"):
            app.options(eta=datetime.datetime(2100, 1, 1))

    def test_delayed_calls_run_in_the_order_they_are_due(self, held, gate):
        results = [held.options(delay=delay).call("job", delay) for delay in (30, 10, 20)]
        held._session.caller.timer.advance(60)
        gate.set()
        [result.result(10) for result in results]
        assert held.order == [10, 20, 30]

    def test_a_delayed_call_can_be_cancelled_and_is_never_run(self, app, add):
        result = add.options(delay=3600).call(1, 2)
        assert not result.running()
        assert result.cancel()
        assert result.cancelled()
        app._session.caller.timer.advance(7200)
        with pytest.raises(dingo.Cancelled):
            result.result(0)

    def test_closing_ends_delayed_calls_and_does_not_wait_for_them(self, app, add):
        result = add.options(delay=3600).call(1, 2)
        app.close(timeout=10)
        assert result.exception(0).failure.code is Code.SHUTDOWN

    def test_a_task_may_have_a_delay_and_a_call_another(self, app):
        app.register("job", lambda: 1, delay=3600)
        assert app.options(delay=0).call("job").result(10) == 1
        assert app.options(delay=None).call("job").result(10) == 1
        late = app.call("job")
        app._session.caller.timer.advance(3601)
        assert late.result(10) == 1

    def test_a_worker_that_waits_for_a_delayed_call_does_not_run_it_early(self, single):
        timer = single._session.open().timer
        single.register("child", timer.time)
        single.register("parent", lambda: single.options(delay=0.1).call("child").result())
        before = timer.time()
        assert single.call("parent").result(10) - before >= 0.1


class TestPriority:
    def test_nine_comes_first_and_within_one_priority_who_came_first(self, held, gate):
        ranks = [4, 0, 9, 4, 9, 0, 7, 4]
        results = [
            held.options(priority=rank).call("job", (rank, number)) for number, rank in enumerate(ranks)
        ]  # fmt: skip
        gate.set()
        [result.result(10) for result in results]
        assert held.order == sorted(
            ((rank, number) for number, rank in enumerate(ranks)), key=lambda one: (-one[0], one[1])
        )

    def test_calls_that_wait_already_when_the_first_priority_comes_keep_their_order(self, held, gate):
        results = [held.call("job", number) for number in range(5)]
        results.append(held.options(priority=9).call("job", "urgent"))
        results += [held.call("job", number) for number in range(5, 8)]
        results.append(held.options(priority=0).call("job", "whenever"))
        results += [held.call("job", number) for number in range(8, 10)]
        gate.set()
        [result.result(10) for result in results]
        assert held.order == ["urgent", *range(10), "whenever"]

    def test_several_workers_take_the_best_first(self, gate):
        app = dingo.App("local", config=dingo.Config(workers=3))
        started, order, lock = threading.Semaphore(0), [], threading.Lock()

        @app.task
        def hold() -> None:
            started.release()
            gate.wait(10)

        @app.task
        def job(rank: int) -> None:
            with lock:
                order.append(rank)

        app.call_many("hold", [()] * 3)
        assert all(started.acquire(timeout=10) for _ in range(3))
        results = [app.options(priority=rank).call("job", rank) for rank in [0, 9] * 50]
        gate.set()
        [result.result(10) for result in results]
        app.close(timeout=10)
        first_half = order[:50]
        assert first_half.count(9) >= 47  # three run at once

    def test_looking_into_the_queue_does_not_change_the_order(self, held, gate):
        for rank in (0, 9, 4):
            held.options(priority=rank).call("job", rank)
        ids = [info.id for info in held.pending()]
        assert len(ids) == 3
        assert [info.id for info in held.pending()] == ids
        last = held.options(priority=4).call("job", "4b")
        gate.set()
        last.result(10)
        held.close(timeout=10)
        assert held.order == [9, 4, "4b", 0]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_nested_waits_in_a_ranked_pool_do_not_deadlock(self, workers):
        with dingo.App("local", config=dingo.Config(workers=workers)) as app:

            @app.task(priority=2)
            def child(number: int) -> int:
                return number + 1

            @app.task(priority=8)
            def parent(number: int) -> int:
                first = child.call(number)
                second = child.options(priority=9).call(first.result(5))
                return second.result()

            results = app.call_many("parent", [(number,) for number in range(30)])
            assert [result.result(20) for result in results] == list(range(2, 32))

    def test_a_cancelled_call_in_a_ranked_pool_is_not_run(self, held, gate):
        first, second = (held.options(priority=9).call("job", name) for name in "ab")
        assert first.cancel()
        gate.set()
        assert second.result(10) == "b"
        assert held.order == ["b"]

    def test_draining_runs_what_waits_by_priority(self, held, gate):
        for rank in (0, 9, 4):
            held.options(priority=rank).call("job", rank)
        closing = threading.Thread(target=held.close)
        closing.start()
        gate.set()
        closing.join(10)
        assert held.order == [9, 4, 0]


class TestQueues:
    def test_a_call_waits_in_its_queue_and_is_purged_with_it(self, held, gate):
        slow = held.options(queue="slow").call("job", 1)
        other = held.call("job", 2)
        late = held.options(queue="slow", delay=3600).call("job", 3)
        assert [(info.name, info.queue, info.status) for info in held.pending("slow")] == [("job", "slow", Status.SENT)]
        assert [info.queue for info in held.delayed()] == ["slow"]
        assert {info.queue for info in held.pending()} == {"slow", "default"}
        assert held.purge("slow") == 2
        assert slow.cancelled()
        assert late.cancelled()
        gate.set()
        assert other.result(10) == 2
        assert held.order == [2]

    def test_purging_an_unknown_queue_purges_nothing(self, app):
        assert app.purge("nope") == 0


class TestCallbacks:
    def following(self, app):
        calls, done = [], threading.Semaphore(0)

        @app.task
        def after(*args: object) -> None:
            calls.append((args, dingo.current().previous))
            done.release()

        return after, calls, lambda count=1: [done.acquire(timeout=10) for _ in range(count)]

    def test_on_success_is_given_the_value_before_its_own_arguments(self, app, add):
        after, calls, wait = self.following(app)
        add.options(on_success=[after.s("own")]).call(1, 2)
        wait()
        assert calls == [((3, "own"), 3)]

    def test_several_are_all_called_and_each_once(self, app, add):
        after, calls, wait = self.following(app)
        add.options(on_success=[after.s("a"), after.s("b")], on_error=[after.s("no")]).call(1, 2)
        wait(2)
        app.close(timeout=10)
        assert sorted(args for args, _ in calls) == [(3, "a"), (3, "b")]

    def test_a_tuple_is_one_argument(self, app):
        after, calls, wait = self.following(app)
        app.register("pair", lambda: (1, 2))
        app.options(on_success=[after.s("own")]).call("pair")
        wait()
        assert calls[0][0] == ((1, 2), "own")

    def test_si_takes_nothing_but_knows_the_value_before_it(self, app, add):
        after, calls, wait = self.following(app)
        add.options(on_success=[after.si("own")]).call(1, 2)
        wait()
        assert calls == [(("own",), 3)]

    @pytest.mark.parametrize("options", [{"pass_result": False}, {"immutable": True}])
    def test_a_task_may_keep_its_result_to_itself(self, app, add, options):
        after, calls, wait = self.following(app)
        add.options(on_success=[after.s("own")], **options).call(1, 2)
        wait()
        assert calls[0][0] == ("own",)

    @pytest.mark.parametrize("options", [{}, {"pass_result": False}, {"retry": Retry(max=1, base=0)}])
    def test_on_error_is_given_the_error_text_once(self, app, options):
        after, calls, wait = self.following(app)

        @app.task
        def bad() -> None:
            raise ValueError("the text")

        bad.options(on_error=[after.s("own")], on_success=[after.s("no")], **options).call()
        wait()
        app.close(timeout=10)
        assert [args for args, _ in calls] == [("the text", "own")]

    def test_on_error_of_an_exception_without_text_is_given_its_name(self, app):
        after, calls, wait = self.following(app)

        @app.task
        def bad() -> None:
            raise KeyboardInterrupt

        bad.options(on_error=[after.s()]).call()
        wait()
        assert calls[0][0] == ("KeyboardInterrupt",)

    def test_on_error_is_called_for_timeouts_and_expiry_too(self, app, gate):
        after, calls, wait = self.following(app)
        app.register("hang", lambda: gate.wait(10), on_error=[after.s()])
        app.options(timeout=0.02).call("hang")
        wait()
        app.options(expires=0).call("hang")
        wait()
        assert "timeout" in calls[0][0][0]
        assert "expired" in calls[1][0][0]

    def test_a_callback_that_cannot_be_made_is_told_of_and_the_call_keeps_its_value(self, app, add):
        events = app.listen(level=dingo.Level.WARNING)
        app.register("wants_text", lambda a: None)

        @app.task
        def picky(a: str) -> None: ...

        result = add.options(on_success=[dingo.Signature("nope"), picky.s()]).call(1, 2)
        assert result.result(10) == 3
        told = [events.get(10), events.get(10)]
        assert [type(event.payload["error"]) for event in told] == [dingo.NotRegistered, dingo.BadArguments]

    def test_a_callback_has_the_options_of_its_signature(self, app, add):
        after, calls, wait = self.following(app)
        add.options(on_success=[after.options(delay=3600).s()]).call(1, 2).result(10)
        app.register("sync", lambda: None)
        for _ in range(10**5):
            if app.delayed():
                break
        assert [info.name for info in app.delayed()] == ["after"]
        app._session.caller.timer.advance(3600)
        wait()

    def test_callbacks_of_callbacks(self, app, add):
        after, calls, wait = self.following(app)
        inner = add.options(on_success=[after.s()]).s(10)
        add.options(on_success=[inner]).call(1, 2)
        wait()
        assert calls[0][0] == (13,)

    def test_an_async_task_s_value_is_passed_on_too(self, app):
        after, calls, wait = self.following(app)

        @app.task(on_success=[after.s()])
        async def job() -> int:
            return 5

        job.call()
        wait()
        assert calls == [((5,), 5)]


class TestUnique:
    def test_another_call_with_the_same_arguments_gets_the_first_one(self, held, gate):
        job = held.options(unique=True)
        first, again, other = job.call("job", [1, 2]), job.call("job", [1, 2]), job.call("job", [3])
        assert again.id == first.id
        assert other.id != first.id
        gate.set()
        assert again.result(10) == [1, 2]
        other.result(10)
        assert held.order == [[1, 2], [3]]

    def test_arguments_are_the_same_however_they_are_given(self, held, gate):
        @held.task(unique=True)
        def job2(a: int, b: int = 2, *, c: int = 3) -> int:
            return a + b + c

        ids = {
            result.id
            for result in (job2.call(1), job2.call(a=1), job2.call(1, 2), job2.call(c=3, a=1), job2.call(b=2, c=3, a=1))
        }
        assert len(ids) == 1
        assert job2.call(1, c=4).id not in ids

    def test_different_tasks_do_not_share_keys(self, held):
        held.register("other", lambda a: a)
        assert held.options(unique="k").call("job", 1).id != held.options(unique="k").call("other", 1).id

    def test_a_string_key_is_for_one_call_whatever_its_arguments(self, held, gate):
        first = held.options(unique="nightly").call("job", 1)
        assert held.options(unique="nightly").call("job", 2).id == first.id

    def test_a_callable_says_the_key(self, held, gate):
        @held.task(unique=lambda order, note="": str(order))
        def ship(order: int, note: str = "") -> str:
            return note

        first = ship.call(1, "a")
        assert ship.call(1, note="b").id == first.id
        assert ship.call(2).id != first.id

    def test_a_callable_that_returns_no_text_is_refused_at_the_call(self, app):
        app.register("job", lambda a: a, unique=lambda a: a)
        with pytest.raises(dingo.BadOption, match="'unique' function of task 'job'"):
            app.call("job", 5)

    @pytest.mark.parametrize("end", ["success", "failure", "cancelled", "expired"])
    def test_the_key_is_free_after_the_end(self, app, end):
        @app.task(unique=True)
        def job(fail: bool) -> int:
            if fail:
                raise ValueError
            return 1

        options = {"expires": 0} if end == "expired" else {"delay": 3600} if end == "cancelled" else {}
        first = job.options(**options).call(end == "failure")
        if end == "cancelled":
            assert first.cancel()
        first.wait(10)
        second = job.call(end == "failure")
        assert second.id != first.id
        assert second.wait(10)

    def test_the_key_is_kept_while_it_runs_is_delayed_or_waits_for_a_retry(self, app, gate):
        started = threading.Event()

        @app.task(unique=True, retry=Retry(max=1, backoff="fixed", base=3600), monitor_progress=True)
        def job(context: dingo.Context) -> int:
            started.set()
            gate.wait(10)
            if context.attempt == 1:
                raise ValueError
            return context.attempt

        first = job.options(delay=3600).call()
        assert job.call().id == first.id
        app._session.caller.timer.advance(3600)
        assert started.wait(10)
        assert job.call().id == first.id
        gate.set()
        assert first.wait(10, until=Status.RETRY)
        assert job.call().id == first.id
        for _ in range(10**5):
            if app.delayed():
                break
        app._session.caller.timer.advance(4600)
        assert first.result(10) == 2

    def test_an_ignored_call_keeps_its_key_too(self, held, gate):
        ignored = held.options(unique=True, ignore_report=True).call("job", 1)
        assert held.options(unique=True).call("job", 1).id == ignored.id

    def test_many_threads_at_once_make_one_call(self, held, gate):
        barrier, ids = threading.Barrier(8), []

        def ask():
            barrier.wait(10)
            ids.append(held.options(unique=True).call("job", 7).id)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join(10) for thread in threads]
        gate.set()
        held.close(timeout=10)
        assert len(set(ids)) == 1
        assert held.order == [7]

    def test_a_refused_call_leaves_its_key_free(self, gate):
        with dingo.App("local", config=dingo.Config(workers=1, max_pending=1)) as app:
            started = threading.Event()
            app.register("hold", lambda: (started.set(), gate.wait(10)))
            app.register("job", lambda: 1, unique=True)
            app.call("hold")
            assert started.wait(10)
            waiting = app.call("hold")
            with pytest.raises(dingo.QueueFull):
                app.call("job")
            gate.set()
            waiting.result(10)
            assert app.call("job").result(10) == 1


class TestMaxPending:
    def full(self, gate, when_full):
        app = dingo.App("local", config=dingo.Config(workers=1, max_pending=2, when_full=when_full))
        started = threading.Event()
        app.register("hold", lambda: (started.set(), gate.wait(10)) and None)
        app.call("hold")
        assert started.wait(10)  # it runs: it waits no more
        return app, [app.call("hold"), app.call("hold")]

    def test_so_many_may_wait_and_one_more_is_refused(self, gate):
        app, waiting = self.full(gate, "raise")
        with app:
            for _ in range(3):
                with pytest.raises(dingo.QueueFull, match="2 calls"):
                    app.call("hold")
            assert waiting[0].cancel()
            app.call("hold")
            with pytest.raises(dingo.QueueFull):
                app.options(delay=3600).call("hold")
            gate.set()
            waiting[1].result(10)
        with app:
            assert app.call("hold").wait(10)

    def test_or_waits_for_room(self, gate):
        app, waiting = self.full(gate, "wait")
        with app:
            made = []
            thread = threading.Thread(target=lambda: made.append(app.call("hold")))
            thread.start()
            assert made == []
            gate.set()
            thread.join(10)
            made[0].result(10)

    def test_who_waits_for_room_is_told_when_the_app_closes(self, gate):
        app, waiting = self.full(gate, "wait")
        ended = []

        def ask():
            try:
                ended.append(app.call("hold").exception(10).failure.code)
            except dingo.AppClosed:
                ended.append("closed")

        thread = threading.Thread(target=ask)
        thread.start()
        closing = threading.Thread(target=lambda: app.close(drain=False))
        closing.start()
        thread.join(10)
        gate.set()
        closing.join(10)
        assert ended in (["closed"], [Code.SHUTDOWN])

    @pytest.mark.parametrize("when_full", ["raise", "wait"])
    def test_a_nested_call_does_not_deadlock(self, when_full):
        with dingo.App("local", config=dingo.Config(workers=1, max_pending=1, when_full=when_full)) as app:
            app.register("child", lambda a: a + 1)
            app.register("parent", lambda a: app.call("child", a).result())
            assert [app.call("parent", number).result(10) for number in range(10)] == list(range(1, 11))


class TestOverrides:
    def test_a_call_s_options_override_the_task_s_field_by_field(self, app):
        seen = []

        @app.task(retry=5, queue="slow", headers={"a": 1}, timeout=60)
        def job(context: dingo.Context) -> None:
            seen.append((context.retries_left, context.queue, context.headers, context.deadline is not None))

        job.call().result(10)
        job.options(queue="fast").call().result(10)
        app.options(retry=1, headers={"b": 2}).call("job").result(10)
        job.options(timeout=None).options(retry=0).call().result(10)
        assert seen == [
            (5, "slow", {"a": 1}, True),
            (5, "fast", {"a": 1}, True),
            (1, "slow", {"b": 2}, True),
            (0, "slow", {"a": 1}, False),
        ]

    def test_options_make_a_new_task_and_leave_the_old_one_alone(self, app, add):
        slow = add.options(delay=3600)
        assert slow is not add
        assert add.call(1, 2).result(10) == 3
        assert slow(1, 2) == 3
        assert slow.s(1).options == {"delay": 3600}

    def test_set_option_holds_from_the_next_call_on(self, app):
        app.register("job", lambda: dingo.current().queue)
        task = app.options(headers={"a": 1})
        assert app.call("job").result(10) == "default"
        app.set_option("job", queue="slow", retry=2)
        assert app.call("job").result(10) == "slow"
        assert task.call("job").result(10) == "slow"
        assert app.options(queue="fast").call("job").result(10) == "fast"

    @pytest.mark.parametrize(
        "use",
        [
            lambda app, **wrong: app.register("other", len, **wrong),
            lambda app, **wrong: app.task(**wrong)(len),
            lambda app, **wrong: app.options(**wrong),
            lambda app, **wrong: app.set_option("add", **wrong),
            lambda app, **wrong: app.call.__self__._registry.get("add") and app.options(priority=1).options(**wrong),
        ],
    )
    def test_a_wrong_option_is_refused_wherever_it_is_given(self, app, add, use):
        with pytest.raises(dingo.BadOption, match="did you mean 'priority'"):
            use(app, prioritty=3)
        with pytest.raises(dingo.BadOption, match="'timeout' is a number of seconds"):
            use(app, timeout=-1)
        with pytest.raises(dingo.BadOption, match="did you mean 'priority'"):
            add.options(prioritty=3)
        assert add.call(1, 2).result(10) == 3

    def test_an_unknown_name_is_told_where_the_nearest_is(self, app, add):
        for use in (app.call, app.options(retry=1).call, lambda name: app.set_option(name, retry=1)):
            with pytest.raises(dingo.NotRegistered, match="did you mean 'add'"):
                use("ad")


class TestKeepResult:
    def test_a_result_nobody_holds_is_found_as_long_as_it_is_kept(self):
        import gc

        with dingo.App("local", config=dingo.Config(workers=1, local_results=0)) as app:
            app.register("job", lambda: [1])
            kept = app.options(keep_result=60).call("job")
            dropped = app.call("job")
            ids = [kept.id, dropped.id]
            assert kept.result(10) == dropped.result(10) == [1]
            app.register("next", lambda: None)
            app.call("next").result(10)
            del kept, dropped
            gc.collect()
            assert app.result(ids[0]).result(0) == [1]
            with pytest.raises(dingo.ResultNotFound):
                app.result(ids[1])
            app._session.caller.timer.advance(61)
            gc.collect()
            with pytest.raises(dingo.ResultNotFound):
                app.result(ids[0])


def test_workers_and_pool_are_what_a_serving_process_shall_use(app):
    barrier = threading.Barrier(3)

    @app.task(workers=3, pool="thread")
    def job() -> str:
        barrier.wait(10)
        return threading.current_thread().name

    assert len({result.result(10) for result in app.call_many("job", [()] * 3)}) == 3


def test_options_for_a_broker_are_accepted_and_harmless(add):
    assert add.options(confirm=True, redeliver=False, queue="any").call(1, 2).result(10) == 3


def test_call_many_and_map_take_options(app, add):
    assert [result.result(10) for result in add.options(retry=1).call_many([(1, 2), (3, 4)])] == [3, 7]
    assert list(add.options(priority=9).map([1, 2], [3, 4])) == [4, 6]
    assert list(app.options(timeout=60).map("add", [1, 2], [3, 4], timeout=10)) == [4, 6]


@pytest.mark.parametrize(("kind", "pool"), [("plain", "async"), ("async", "thread"), ("async", "process")])
def test_a_pool_that_cannot_run_the_function_is_refused_where_it_is_asked_for(app, kind, pool):
    async def ajob() -> None: ...

    def job() -> None: ...

    fn = job if kind == "plain" else ajob
    with pytest.raises(dingo.BadOption, match=f"cannot run in a pool of kind {pool!r}"):
        app.register("job", fn, pool=pool)
    app.register("job", fn)
    with pytest.raises(dingo.BadOption, match="cannot run"):
        app.set_option("job", pool=pool)
    assert app.call("job").result(10) is None


@pytest.mark.parametrize("options", [{}, {"retry": 2}])
def test_a_plain_function_that_returns_a_coroutine_ends_bad_return(app, options):
    async def coroutine(): ...

    app.register("job", lambda: coroutine(), **options)
    failure = app.call("job").exception(10).failure
    assert failure.code is Code.BAD_RETURN
    assert "async def" in failure.message
