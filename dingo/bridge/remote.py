"""RemoteCaller: calls go to a Producer, and reports come back from a Store.

    any thread        call -> accept: encode, remember as open, put in line
    sender thread     takes all that stands in line -> Producer.send     -> SENT
    receiver thread   Store.collect -> decode -> the Result's end

One thread owns the producer and one the store; callers never wait for the network unless they ask to.
"""

from __future__ import annotations

import threading
from _queue import SimpleQueue
from contextlib import suppress
from functools import partial
from queue import Empty
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from dingo.aside import Aside
from dingo.blocking import away
from dingo.bridge.arriving import Arrivals
from dingo.bridge.codec import Codec, most_bytes
from dingo.bridge.looking import Looks
from dingo.bridge.open_calls import OpenCalls
from dingo.bridge.opening import Opening
from dingo.bridge.outage import Outage
from dingo.bridge.packing import PackedCalls, pack_size, parts
from dingo.bridge.places import check_counted
from dingo.bridge.remote_result import RemoteResult
from dingo.bridge.sent import Sent
from dingo.bridge.unique import UniqueCalls
from dingo.caller.directory import DefaultIDMaker, Directory
from dingo.caller.result import IgnoredResult, Result
from dingo.components import unpickles
from dingo.errors import (
    AppClosed,
    BadArguments,
    BadOption,
    BrokerUnavailable,
    NotAttached,
    SendUncertain,
)  # fmt: skip
from dingo.events import PRODUCER, Level, Origin
from dingo.job import Fault
from dingo.message import packed
from dingo.message.report import Code, Failure, Status
from dingo.timer import Timer
from dingo.worker.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dingo.bridge.packing import Departing
    from dingo.config import Config
    from dingo.contracts import Envelope, Herald, Ledger, Producer, Store
    from dingo.events import Hub
    from dingo.hooks import Hooks
    from dingo.job import Job
    from dingo.plan import Plan

# How many calls go to the producer at once. More only adds latency.
BATCH = 1000
# In a burst of calls the sender leaves the line alone for a moment (seconds) after each batch of so many or more:
# a batch costs the broker little more than a call. A burst that pauses, and single calls, are never held up.
BURST, BURST_NAP = 8, 0.0005
# How long it takes at most to tell the workers what was cancelled last (seconds).
LEAVING = 2.0
# How long a thread waits in a component before it looks whether it is to end (seconds).
LOOK = 0.5

_FORGOTTEN = "the broker's server came back without it, so whether it ran is not known"
_CLOSED = "the app was closed before the report of this call had come; its worker goes on"


class _Line:
    """Stands where a plan's pool does: calls do not run here."""

    ranked = False
    closed = False
    remote = True


class _Passing:
    """Stands in the sender's line; what it was given is called when everything before it has gone."""

    def __init__(self, fn: Callable[[], object]) -> None:
        self.set = fn


class RemoteCaller:
    """The caller's side of an app that is connected to a broker."""

    state: Any = None
    result_type = RemoteResult
    serves = False

    def __init__(self, config: Config, hub: Hub, hooks: Hooks, producer: Producer, store: Store | None, *,
                 named: bool, herald: Callable[[], Herald | None]) -> None:  # fmt: skip
        """`named`: whether there is a queue for each task name. `herald`: makes one for this caller alone."""
        self.config = config
        self.hub = hub
        self.hooks = hooks
        self.closed = False
        self.aside = Aside()
        self.timer = Timer(lambda error: self._told_error("timer.failed", error))
        self.directory = Directory(config.local_results, config.local_results_bytes)
        self.reply = "" if store is None else f"reply.{DefaultIDMaker().new_id()}"
        self.codec = Codec(config, named=named)
        self._producer = Opening(producer, self._emit)
        self._store = None if store is None else Opening(store, self._emit)
        self._ledger: Ledger | None = getattr(store, "ledger", None)
        self._unique = UniqueCalls(self._ledger, apart=getattr(store, "apart", False))
        self._ids = DefaultIDMaker()
        self._line: SimpleQueue[Departing | list[Departing] | threading.Event | _Passing | None]
        self._line = SimpleQueue()
        self._open_calls = OpenCalls(config)
        self.under_way: list[Departing] = []
        """What the sender is about to send, or has sent without an answer as yet."""
        self._most_bytes = most_bytes(config, producer)
        self._sent = Sent(store) if hasattr(store, "unknown") else None
        self._arrivals = Arrivals(config, hub, self.codec, self._open_calls, self._forget)
        self._look_into(config, herald)
        self._pool = _Line()
        self._ending = False
        self._stop = threading.Event()  # ends every nap
        self._sending = Outage(self._emit, "sending calls")
        with suppress(BrokerUnavailable):  # the threads below go on trying, and tell
            self._producer()
            if self._store is not None:
                self._store()
        self._expect = getattr(store, "expect", None)
        self._threads = [threading.Thread(target=self._send_all, name="dingo-sender", daemon=True)]
        if store is not None:
            self._threads.append(threading.Thread(target=self._receive_all, name="dingo-receiver", daemon=True))
        for thread in self._threads:
            thread.start()

    def _look_into(self, config: Config, herald: Callable[[], Herald | None]) -> None:
        """Have what can be asked answered."""
        looks = self._looks = Looks(
            config, self.hub, self.codec, self._store, self._open_calls, self._arrivals, self._forget, self.aside,
            self.timer, herald,
        )  # fmt: skip
        self.find, self.forget, self.cancel, self.purge = looks.find, looks.forget, looks.cancel, looks.purge
        self.pending, self.delayed, self.ended = looks.pending, looks.delayed, looks.ended
        self.pause, self.resume, self.paused = looks.pause, looks.resume, looks.paused

    def _emit(self, level: Level, code: str, message: str, payload: Any = None) -> None:
        self.hub.emit(Origin.PRODUCER | Origin.STORE, level, code, message, payload)

    def _told_error(self, code: str, error: BaseException) -> None:
        self.hub.emit(
            Origin.BRIDGE, Level.ERROR, code, f"{type(error).__name__}: {error}", {"error": error}, error=error
        )

    # -- what a plan asks of it --------------------------------------------------------------------

    def pool_for(self, plan: Plan) -> Any:
        """Return what stands for the pool: the way out of this process. Raises NotAttached for what it cannot do."""
        self._check_possible(plan)
        return self._pool

    def limit_for(self, plan: Plan) -> None:
        """Limits are the workers' business."""

    def identify(self, job: Job) -> str:
        """Give a call its id."""
        return self.directory.enter(job, self._ids.new_id)

    def late(self, job: Job) -> None:
        """Nothing is put into a pool here."""

    # -- the way out -------------------------------------------------------------------------------

    def accept(self, job: Job) -> Result[Any]:
        """Take a call. Returns another one's Result where a unique one is on its way already.

        Raises AppClosed, BadArguments, NotAttached, QueueFull, BrokerUnavailable (with `unique`, `confirm`).
        """
        if self.closed:
            raise AppClosed
        plan = job._plan
        option = plan.option
        self._open_calls.take_room()
        maker = plan.id_maker or self._ids
        job._id = maker.new_id() if option.id is None else option.id
        return self._depart(job) if option.unique is None else self._depart_alone(job)

    def accept_many(self, plan: Plan, several: Sequence[tuple[tuple[Any, ...], Any]]) -> list[Result[Any]]:
        """Take calls that were checked, with their arguments by position and by name; short ones travel packed.

        Raises as `accept`.
        """
        size = pack_size(plan, self._arrivals.seconds.get(plan.name)) if self._store is not None else 1
        results: list[Result[Any]] = []
        for part in parts(several, size):
            packable = len(part) > 1 and not any(kwargs for _, kwargs in part)
            results += (packable and self._accept_pack(plan, [args for args, _ in part])) or [
                self.accept(self.result_type(plan, args, kwargs)) for args, kwargs in part
            ]
        return results

    def _accept_pack(self, plan: Plan, several: list[tuple[Any, ...]]) -> list[Result[Any]]:
        """Take calls in one message. Nothing is taken where they cannot be packed."""
        if self.closed:
            raise AppClosed
        pack_id = packed.pack_id(self._ids.new_id(), len(several))
        envelope = self.codec.pack(plan, self.reply, pack_id, several)
        if envelope is None or len(envelope.frame) > self._most_bytes:
            return []
        self._open_calls.take_room()
        jobs: list[Result[Any]] = []
        for index, args in enumerate(several):
            job = RemoteResult(plan, args, None)
            job._id = f"{pack_id}i{index}"
            jobs.append(job)
        pack = PackedCalls(pack_id, jobs, self._send_singly)
        self._open_calls.enter_pack(pack)
        self._line.put((pack, envelope))
        if self.closed and pack.withdraw():
            self._forget(pack)
            pack.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED))
            raise AppClosed
        return jobs

    def _send_singly(self, job: Job) -> None:
        """Send a call that was in a pack in a message of its own."""
        self._open_calls.by_id[job.id] = job
        self._line.put((job, self.codec.envelope(job, self.reply)))

    def _depart_alone(self, job: Job) -> Result[Any]:
        first = self._unique.register(job, self.config.send_timeout_seconds)
        if first != job.id:
            if job._plan.option.ignore_report:
                return IgnoredResult(self._looks.attached(job._plan, first))
            return self._open_calls.get(first, job.name) or self._looks.attach(job._plan, first)  # type: ignore[return-value]
        try:
            return self._depart(job)
        except BaseException:
            self._free_unique(job)
            raise

    def _depart(self, job: Job) -> Result[Any]:
        plan = job._plan
        option = plan.option
        ignored = self._is_ignored(job)
        if self.hooks.on_publish:
            self.hooks.run("on_publish", Context(job))
        envelope = self.codec.envelope(job, reply="" if ignored else self.reply)
        if len(envelope.frame) > self._most_bytes:
            raise BadArguments(
                f"{plan.name}(): the call takes {len(envelope.frame)} bytes, and a message has at most "
                f"{self._most_bytes} (Config.max_message_bytes, or what the broker takes): send a reference to large "
                "data instead"
            )
        if ignored:
            self._open_calls.enter_ignored()
        elif not self._open_calls.enter(job):
            raise BadOption(f"id {job.id!r} belongs to a call of {job.name!r} that has not ended: choose another")
        if option.monitor_progress:
            job.mark_sent()
        if self.hub.floor <= Level.DEBUG:
            self.hub.tell(PRODUCER, "call.sent", job)
        self._line.put((job, envelope))
        if self.closed:
            self._withdraw(job)
        if option.confirm:
            self._confirm(job)
        return IgnoredResult(job) if ignored else job  # type: ignore[return-value]

    def _is_ignored(self, job: Job | PackedCalls) -> bool:
        """Whether nobody waits for its report."""
        return job._plan.option.ignore_report or self._store is None

    def _check_possible(self, plan: Plan) -> None:
        option = plan.option
        self._check_pickle(plan)
        if self._store is None and not option.ignore_report:
            raise NotAttached(
                "this app has no Store, so no report can come back: attach one, or use ignore_report=True"
            )
        check_counted(plan.name, option, self._ledger)

    def _check_pickle(self, plan: Plan) -> None:
        """Raise NotAttached where a pickle would travel that its reader must not take."""
        if unpickles(plan.marshaller) and not self.config.signing_keys:
            raise NotAttached(
                f"task {plan.name!r}: its arguments go by pickle, which workers take from a broker only when signed: "
                "set Config.signing_keys here, and accept_pickle=True too at the workers; or use json or msgpack"
            )
        if unpickles(plan.report_marshaller) and not self.config.accept_pickle:
            raise NotAttached(
                f"task {plan.name!r}: its reports come by pickle, which could run anything here: "
                "set Config.accept_pickle=True and signing_keys here and at the workers; or use json or msgpack"
            )

    def _withdraw(self, job: Job) -> None:
        if job.start() is not None:
            self._forget(job)
            job.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED))
            raise AppClosed

    def _confirm(self, job: Job) -> None:
        self.flush(None)  # which lasts no longer than the sender tries
        if job._status is Status.FAILURE and job._value.failure.code is Code.NOT_SENT:  # it may have failed already
            raise BrokerUnavailable(job._value.failure.message)

    def reconfigure(self, config: Config) -> None:
        """Go by a new configuration from now on, its signing keys too."""
        self.config = self._arrivals.config = self._looks.config = config
        self._open_calls.configure(config)
        self._most_bytes = most_bytes(config, self._producer.component)
        self.codec.use_keys(config.signing_keys)

    def flush(self, timeout: float | None) -> bool:
        """Wait until all calls so far are sent; whether they were within `timeout` seconds."""
        passed = threading.Event()
        self._line.put(passed)
        with away():
            return passed.wait(timeout)

    def when_sent(self, fn: Callable[[], object]) -> None:
        """Have `fn()` called on the sender's thread when all calls so far are sent, or given up; it must be quick."""
        self._line.put(_Passing(fn))

    # -- the sender thread -------------------------------------------------------------------------

    def _send_all(self) -> None:
        while True:
            calls, events, end = self._next_batch()
            if calls:
                self._send(calls)
                self.under_way = []
                if self._open_calls.awaits_sending:
                    self._open_calls.ignored_are_sent(sum(self._is_ignored(job) for job, _ in calls))
                if len(calls) >= BURST and not self._line.empty():
                    sleep(BURST_NAP)
            for event in events:
                event.set()
            if end:
                return

    def _next_batch(self) -> tuple[list[Departing], list[threading.Event | _Passing], bool]:
        calls = self.under_way = []
        events: list[threading.Event | _Passing] = []
        entry = self._line.get()
        try:
            while entry is not None:
                if isinstance(entry, threading.Event | _Passing):
                    events.append(entry)
                elif isinstance(entry, list):
                    calls += entry
                elif entry[0].start() is not None:  # else it was cancelled before it was sent
                    calls.append(entry)
                if len(calls) >= BATCH:
                    return calls, events, False
                entry = self._line.get_nowait()
        except Empty:
            return calls, events, False
        return calls, events, True

    def _send(self, calls: list[Departing]) -> None:
        """Send a batch, again and again until the broker has it or its time is over."""
        until = monotonic() + self.config.send_timeout_seconds
        envelopes = [envelope for _, envelope in calls]
        while True:
            try:
                known = self._producer().send(envelopes)
            except (BrokerUnavailable, SendUncertain) as error:
                delay = self._sending.failed(error, self.config.reconnect)
                if delay is None or self._ending or monotonic() + delay > until:
                    self._not_sent(calls, error)
                    return
                self._stop.wait(delay)
            except BaseException as error:
                self._told_error("sender.failed", error)
                self._not_sent(calls, error)
                return
            else:
                self._sending.over()
                if self._sent is not None:
                    self._sent.note(one for one in calls if not self._is_ignored(one[0]))
                if self._expect is not None:
                    self._expect()
                if self._unique.unsent:
                    self._confirm_unique(envelopes)
                if known:
                    self._follow_known(calls, known)
                return

    def _follow_known(self, calls: list[Departing], known: Sequence[Envelope]) -> None:
        """Have calls whose ids others use get what becomes of those: they do not run themselves."""
        theirs = {(one.name, one.id) for one in known}
        for job, envelope in calls:
            if (envelope.name, envelope.id) not in theirs or isinstance(job, PackedCalls) or self._is_ignored(job):
                continue
            text = f"{job.name} {job.id} is there already: this call gets the result of that one"
            self._emit(Level.INFO, "call.known", text, {"id": job.id, "name": job.name})
            job.watch(latch=partial(self._forget, job))
            self._looks.follow(job)

    def _confirm_unique(self, envelopes: list[Envelope]) -> None:
        try:
            self._unique.confirm(envelopes)
        except BrokerUnavailable as error:  # then their keys are free a little too early
            self._emit(Level.WARNING, "unique.unsure", f"unique calls may come to run beside others: {error}")

    def _not_sent(self, calls: Iterable[Departing], error: BaseException) -> None:
        failure = Failure(Code.NOT_SENT, type(error).__name__, f"the broker did not take it: {error}")
        untold = 0
        for job, _ in calls:
            self._forget(job)
            if self._ending or self._is_ignored(job):
                untold += 1 if not isinstance(job, PackedCalls) else len(job.left)
            job.finish(Status.FAILURE, Fault(Code.NOT_SENT, failure=failure))
            if job._detail is not None and job._detail.follows:  # nobody holds its Result
                self._emit(Level.ERROR, "callback.lost", f"{job.name} {job.id}: {failure.message}", {"id": job.id})
        if untold:  # their callers have let go of them, or are about to
            self._emit(Level.ERROR, "calls.lost", f"{untold} calls were not sent: {failure.message}", {"calls": untold})

    def _forget(self, job: Job | PackedCalls) -> None:
        emptied = self._open_calls.drop(job)
        if emptied is not None:
            self._forget(emptied)
        if self._sent is not None:
            self._sent.drop(job)
        if self._unique.unsent and not isinstance(job, PackedCalls):
            self.aside.do(self._free_unique, job)

    def _free_unique(self, job: Job) -> None:
        try:
            self._unique.free(job)
        except BrokerUnavailable as error:  # then its key is free a little too late
            self._emit(Level.WARNING, "unique.unsure", f"{job.name} {job.id} keeps its key for a while: {error}")

    # -- the receiver thread -----------------------------------------------------------------------

    def _receive_all(self) -> None:
        assert self._store is not None
        collecting = Outage(self._emit, "collecting reports")
        while not self._ending:
            try:
                store = self._store()
                if collecting.lasts and self._sent is not None:
                    self._sent.doubt()
                packs = store.collect(self.reply, LOOK)
            except BrokerUnavailable as error:
                delay = collecting.failed(error, self.config.reconnect)
                if delay is None:
                    self._abandon(error)
                    delay = self.config.reconnect.cap  # for calls to come: the backend may be back then
                self._stop.wait(delay)
                continue
            except BaseException as error:
                self._told_error("receiver.failed", error)
                self._stop.wait(LOOK)
                continue
            collecting.over()
            for data in packs:
                self._arrivals.receive(data)
            if not packs and self._sent is not None:
                self._make_good(*self._sent.lost())

    def _make_good(self, again: list[Departing], over: list[Job | PackedCalls]) -> None:
        """Send again what the broker has lost with its memory; end what is not to be run twice, or was too large."""
        if not again and not over:
            return
        text = f"the broker came back without {len(again) + len(over)} calls: {len(again)} of them are sent again"
        self._emit(Level.ERROR, "broker.forgot", text, {"again": len(again), "lost": len(over)})
        if again:
            self._line.put(again)
        for job in over:
            self._forget(job)
            job.finish(Status.FAILURE, Fault.saying(Code.WORKER_LOST, _FORGOTTEN))

    def _abandon(self, error: BaseException) -> None:
        """End the calls whose reports nobody can collect: their callers wait no longer."""
        why = (
            f"the backend was given up ({error}), and what became of the call is not known here: its worker goes on, "
            "and app.result(id) tells when the backend is back"
        )
        failure = Failure(Code.SHUTDOWN, type(error).__name__, why)
        for job in list(self._open_calls.by_id.values()):
            if job.started:
                self._forget(job)
                job.finish(Status.FAILURE, Fault(Code.SHUTDOWN, failure=failure))

    # -- the end -----------------------------------------------------------------------------------

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """Send what stands in line, for up to `timeout` seconds; end what is still open here."""
        del drain
        self.closed = self._looks.closed = True
        self._open_calls.close()
        self.flush(timeout if timeout is not None else self.config.send_timeout_seconds)
        self._ending = True
        self._stop.set()
        self._line.put(None)
        if self._store is not None:
            self._store.component.wake()
        for thread in self._threads:
            thread.join(timeout)
        for job in list(self._open_calls.by_id.values()):
            job.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED))
        self._open_calls.by_id.clear()
        self.timer.close()
        self.aside.close(timeout)
        self._looks.close(LEAVING)

    def forget_all(self) -> None:
        """In the child of a fork: the calls and the connections are the parent's."""
        self.closed = self._looks.closed = True
        for job in list(self._open_calls.by_id.values()):
            job.finish(
                Status.FAILURE,
                Fault(
                    Code.SHUTDOWN,
                    failure=Failure(Code.SHUTDOWN, message="the call belongs to the parent of this process"),
                ),
            )


class NoCaller:
    """The caller's side of an app that only works: it has no Producer. Whatever needs one raises NotAttached."""

    closed = False

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def _refuse(self, *_args: Any) -> Any:
        raise NotAttached("this app has no Producer: it cannot call. Attach one, or connect it as caller too")

    pool_for = find = forget = pending = delayed = ended = purge = pause = resume = paused = _refuse

    def flush(self, timeout: float | None) -> bool:
        """Nothing is under way."""
        del timeout
        return True

    def when_sent(self, fn: Callable[[], object]) -> None:
        """Nothing is to be sent before."""
        fn()

    def reconfigure(self, config: Config) -> None:
        """Nothing here goes by it."""

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """Nothing is open."""

    def forget_all(self) -> None:
        """Nothing is known."""
