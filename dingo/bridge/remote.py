"""RemoteCaller: calls go to a Producer, and reports come back from a Store.

    any thread        call -> accept: encode, remember in `_pending`, put in line
    sender thread     takes all that stands in line -> Producer.send     -> SENT
    receiver thread   Store.collect -> decode -> the Result's end

One thread owns the producer and one the store; callers never wait for the network unless they ask to.
"""

from __future__ import annotations

import threading
from _queue import SimpleQueue
from dataclasses import replace
from functools import partial
from queue import Empty
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from dingo.aside import Aside
from dingo.blocking import away
from dingo.bridge.codec import Codec, most_bytes
from dingo.bridge.outage import Outage
from dingo.bridge.places import check_counted
from dingo.bridge.sent import Sent
from dingo.bridge.short import Returns, plain_id
from dingo.bridge.unique import UniqueCalls
from dingo.caller.directory import DefaultIDMaker, Directory
from dingo.caller.result import IgnoredResult, Result
from dingo.components import unpickles
from dingo.errors import (
    AppClosed,
    BadArguments,
    BadMessage,
    BadOption,
    BadReturn,
    BrokerUnavailable,
    NotAttached,
    QueueFull,
    ResultNotFound,
    SendUncertain,
)  # fmt: skip
from dingo.events import PRODUCER, Level, Origin
from dingo.job import Fault
from dingo.message.frame import unpack
from dingo.message.report import Code, Failure, Report, Status
from dingo.message.signing import unsealed
from dingo.timer import Timer
from dingo.worker.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dingo.config import Config
    from dingo.contracts import Envelope, Ledger, Producer, Store, StoredCall
    from dingo.events import Hub
    from dingo.hooks import Hooks
    from dingo.job import Job
    from dingo.plan import Plan

# Over a broker a caller that sends faster than the broker takes would grow for ever.
MAX_PENDING = 100_000
# How many calls go to the producer at once. More only adds latency.
BATCH = 1000
# In a burst of calls the sender leaves the line alone for a moment (seconds) after each batch of so many or more:
# a batch costs the broker little more than a call. A burst that pauses, and single calls, are never held up.
BURST, BURST_NAP = 8, 0.0005
# How long a thread waits in a component before it looks whether it is to end (seconds).
LOOK = 0.5

_FORGOTTEN = "the broker's server came back without it, so whether it ran is not known"
_CLOSED = "the app was closed before the report of this call had come; its worker goes on"


class RemoteResult(Result[Any]):
    """A Result whose function runs elsewhere. Its arguments are gone as soon as it is sent."""

    __slots__ = ()

    @property
    def status(self) -> Status:
        """Where it stands, as far as this process has been told."""
        if self._status >= Status.SUCCESS:
            return self._status
        if self._detail is not None and self._detail.status is not None:
            return self._detail.status
        if not self.started:
            return Status.PENDING
        under_way = getattr(self._plan.bridge, "under_way", ())
        return Status.PENDING if any(job is self for job, _ in under_way) else Status.SENT

    @property
    def attempt(self) -> int:
        """The attempt of the newest report; 0 before one came."""
        if self._detail is not None and self._detail.attempt:
            return self._detail.attempt
        return 1 if self._status in (Status.SUCCESS, Status.FAILURE) else 0


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

    def __init__(self, config: Config, hub: Hub, hooks: Hooks, producer: Producer, store: Store | None, *,
                 named: bool) -> None:  # fmt: skip
        self.config = config
        self.hub = hub
        self.hooks = hooks
        self.closed = False
        self.aside = Aside()
        self.timer = Timer(lambda error: self._told_error("timer.failed", error))
        self.directory = Directory(config.local_results, config.local_results_bytes)
        self.reply = "" if store is None else f"reply.{DefaultIDMaker().new_id()}"
        self.codec = Codec(config, self.reply, named=named)
        self._producer = producer
        self._store = store
        self._ledger: Ledger | None = getattr(store, "ledger", None)
        self._unique = UniqueCalls(self._ledger, apart=getattr(store, "apart", False))
        self._ids = DefaultIDMaker()
        self._line: SimpleQueue[tuple[Job, Envelope] | list[tuple[Job, Envelope]] | threading.Event | _Passing | None]
        self._line = SimpleQueue()
        self._pending: dict[str, Job] = {}
        self.under_way: list[tuple[Job, Envelope]] = []
        """What the sender is about to send, or has sent without an answer as yet."""
        self._limit = config.max_pending or MAX_PENDING
        self._most_bytes = most_bytes(config, producer)
        self._sent = Sent(store) if hasattr(store, "unknown") else None
        self._room = threading.Condition()
        self._waiters = 0  # how many callers wait for room
        self._returns = Returns()
        self._pool = _Line()
        self._ending = False
        self._stop = threading.Event()  # ends every nap
        self._sending = Outage(self._emit, "sending calls")
        producer.open(self._emit)
        if store is not None:
            store.open(self._emit)
        self._expect = getattr(store, "expect", None)
        self._threads = [threading.Thread(target=self._send_all, name="dingo-sender", daemon=True)]
        if store is not None:
            self._threads.append(threading.Thread(target=self._receive_all, name="dingo-receiver", daemon=True))
        for thread in self._threads:
            thread.start()

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
        self._take_room()
        maker = plan.id_maker or self._ids
        job._id = maker.new_id() if option.id is None else option.id
        return self._depart(job) if option.unique is None else self._depart_alone(job)

    def _depart_alone(self, job: Job) -> Result[Any]:
        first = self._unique.register(job, self.config.send_timeout_seconds)
        if first != job.id:
            if job._plan.option.ignore_report:
                return IgnoredResult(self._attached(job._plan, first))
            return self._pending.get(first) or self._attach(job._plan, first)  # type: ignore[return-value]
        try:
            return self._depart(job)
        except BaseException:
            self._free_unique(job)
            raise

    def _depart(self, job: Job) -> Result[Any]:
        plan = job._plan
        option = plan.option
        ignored = option.ignore_report or self._store is None
        if self.hooks.on_publish:
            self.hooks.run("on_publish", Context(job))
        envelope = self.codec.envelope(job, reply="" if ignored else self.reply)
        if len(envelope.frame) > self._most_bytes:
            raise BadArguments(
                f"{plan.name}(): the call takes {len(envelope.frame)} bytes, and a message has at most "
                f"{self._most_bytes} (Config.max_message_bytes, or what the broker takes): send a reference to large "
                "data instead"
            )
        if not ignored and self._pending.setdefault(job.id, job) is not job:
            raise BadOption(f"id {job.id!r} belongs to a call that has not ended: choose another")
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

    def _take_room(self) -> None:
        if len(self._pending) < self._limit:
            return
        if self.config.when_full == "raise":
            raise QueueFull(f'{self._limit} calls (max_pending) have not ended: wait for some, or set when_full="wait"')
        with away(), self._room:
            self._waiters += 1
            try:
                self._room.wait_for(lambda: len(self._pending) < self._limit or self.closed)
            finally:
                self._waiters -= 1

    def _withdraw(self, job: Job) -> None:
        if job.start() is not None:
            self._forget(job)
            job.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED))
            raise AppClosed

    def _confirm(self, job: Job) -> None:
        self.flush(self.config.send_timeout_seconds)
        if job._status is Status.FAILURE:
            raise BrokerUnavailable(job._value.failure.message)

    def reconfigure(self, config: Config) -> None:
        """Go by a new configuration from now on, its signing keys too."""
        self.config = config
        self._limit = config.max_pending or MAX_PENDING
        self._most_bytes = most_bytes(config, self._producer)
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
                if len(calls) >= BURST and not self._line.empty():
                    sleep(BURST_NAP)
            for event in events:
                event.set()
            if end:
                return

    def _next_batch(self) -> tuple[list[tuple[Job, Envelope]], list[threading.Event | _Passing], bool]:
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

    def _send(self, calls: list[tuple[Job, Envelope]]) -> None:
        """Send a batch, again and again until the broker has it or its time is over."""
        until = monotonic() + self.config.send_timeout_seconds
        envelopes = [envelope for _, envelope in calls]
        while True:
            try:
                self._producer.send(envelopes)
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
                    self._sent.note(calls)
                if self._expect is not None:
                    self._expect()
                if self._unique.unsent:
                    self._confirm_unique(envelopes)
                return

    def _confirm_unique(self, envelopes: list[Envelope]) -> None:
        try:
            self._unique.confirm(envelopes)
        except BrokerUnavailable as error:  # then their keys are free a little too early
            self._emit(Level.WARNING, "unique.unsure", f"unique calls may come to run beside others: {error}")

    def _not_sent(self, calls: Iterable[tuple[Job, Envelope]], error: BaseException) -> None:
        failure = Failure(Code.NOT_SENT, type(error).__name__, f"the broker did not take it: {error}")
        for job, _ in calls:
            self._forget(job)
            job.finish(Status.FAILURE, Fault(Code.NOT_SENT, failure=failure))
            if job._detail is not None and job._detail.follows:  # nobody holds its Result
                self._emit(Level.ERROR, "callback.lost", f"{job.name} {job.id}: {failure.message}", {"id": job.id})

    def _forget(self, job: Job) -> None:
        self._pending.pop(job._id or "", None)
        if self._sent is not None:
            self._sent.drop(job._id or "")
        if self._waiters:  # who comes later looks at `_pending` after having made itself known
            with self._room:
                self._room.notify()
        if self._unique.unsent:
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
                if collecting.lasts and self._sent is not None:
                    self._sent.doubt()
                packs = self._store.collect(self.reply, LOOK)
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
                self._receive(data)
            if not packs and self._sent is not None:
                self._make_good(*self._sent.lost())

    def _make_good(self, again: list[tuple[Job, Envelope]], over: list[Job]) -> None:
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
        for job in list(self._pending.values()):
            if job.started:
                self._forget(job)
                job.finish(Status.FAILURE, Fault(Code.SHUTDOWN, failure=failure))

    def _receive(self, data: bytes) -> None:
        try:
            for frame in unpack(data):
                self._take_report(frame)
        except BadMessage as error:
            self._refuse_report(error)

    def _take_report(self, frame: bytes) -> None:
        if self._take_success(frame):
            return
        try:
            header, body = self.codec.open_report(frame)
            job = self._pending.get(header["id"])
            if job is None:
                return  # abandoned, or the same report again after a redelivery: the first one counts
            report = self._read(header, body, len(frame), job)
        except BadMessage as error:
            self._refuse_report(error)
            return
        if report.final:
            self._forget(job)
            if report.attempt != 1:
                job.detail().attempt = report.attempt
            end(job, report)
        else:
            show(job, report)

    def _take_success(self, frame: bytes) -> bool:
        """Take a report by the short way. False where it is not that plain."""
        unseal = self.codec.unseal_report
        if unseal is not None:
            try:
                frame = unseal(frame)
            except BadMessage:
                return False
        call_id, at = plain_id(frame)
        job = self._pending.get(call_id)
        if job is None or len(frame) > self.config.max_message_bytes:
            return False
        success = self._returns.of(job._plan).success(frame, at)
        if success is None:
            return False
        value, attempt, _ = success
        self._forget(job)
        if attempt != 1:
            job.detail().attempt = attempt
        job.finish(Status.SUCCESS, value)
        return True

    def _read(self, header: dict[str, Any], body: bytes, size: int, job: Job) -> Report:
        """Read a report that is to be this call's. Raises BadMessage."""
        _check_belongs(header, job.id, job.name)
        why: Exception
        if size > self.config.max_message_bytes:
            why = BadReturn(f"a report of {size} bytes: at most {self.config.max_message_bytes} are read here")
        else:
            try:
                return self.codec.report_of(header, body, job._plan)
            except BadMessage:
                raise
            except Exception as error:  # the value cannot be read here: the worker's code is not ours
                why = error
        return Report(job.id, job.name, Status.FAILURE, failure=Failure.of(Code.BAD_RETURN, why))

    def _refuse_report(self, error: BadMessage) -> None:
        self.hub.emit(Origin.STORE, Level.ERROR, "report.refused", f"a report was refused: {error}", {"error": error})

    # -- what can be asked -------------------------------------------------------------------------

    def cancel(self, job: Job) -> bool:
        """Withdraw a call that has not been sent; ask for any other to be withdrawn or stopped.

        The broker is asked in the background: the final report says what came of it. Raises NotAttached where the
        Store knows only calls that have ended.
        """
        if job._status >= Status.SUCCESS:
            return False
        if job.start() is not None:
            self._forget(job)
            return job.finish(Status.CANCELLED, _cancelled())
        if self._store is None or self._apart:
            raise NotAttached(
                f"{job.name} {job.id} has been sent, and this app's Store knows only calls that have ended: "
                "cancelling needs a broker that is its own backend (redis, sqlite)"
            )
        self.aside.do(self._ask_to_cancel, self._store, job)
        return True

    def _ask_to_cancel(self, store: Store, job: Job) -> None:
        try:
            withdrawn = store.cancel(job.id, job.name)
        except BaseException as error:
            self.hub.emit(
                Origin.STORE, Level.WARNING, "cancel.failed", f"{job.name} {job.id} could not be cancelled: {error}",
                {"id": job.id, "name": job.name, "error": error}, error=error,
            )  # fmt: skip
            return
        if withdrawn:
            self._forget(job)
            job.finish(Status.CANCELLED, _cancelled())

    def find(self, id: str, names: list[str], plan_of: Any) -> Result[Any]:
        """Attach to a call by its id. Raises ResultNotFound, NotAttached, BadMessage (what is kept of it)."""
        job = self._pending.get(id)
        if job is not None and job.name in names:
            return job  # type: ignore[return-value]
        name = names[0] if len(names) == 1 else None
        stored = self._asked.fetch(id, name)
        if stored is None:
            unended = ", or it has not ended (this app's Store knows only calls that have)" if self._apart else ""
            raise ResultNotFound(
                f"no call with id {id!r} is known: it never was, or its result is no longer kept{unended}"
            )
        if stored.frame is None:
            return self._attach(plan_of(stored.name), id)
        job = self._attached(plan_of(stored.name), id)
        try:
            self._end_as_kept(job, stored.frame)
        except BadMessage as error:
            self._refuse_report(error)
            raise
        return job

    def _attached(self, plan: Plan, id: str) -> RemoteResult:
        """Return the Result of a call of another caller."""
        job = RemoteResult(plan, (), None)
        job._id = id
        job.start()
        return job

    def _attach(self, plan: Plan, id: str) -> RemoteResult:
        """Return the same, to be told the end when it comes."""
        job = self._attached(plan, id)
        self.aside.do(self._follow, job)
        return job

    def _end_as_kept(self, job: Job, frame: bytes) -> None:
        header, body = self.codec.open_report(frame)
        end(job, self._read(header, body, len(frame), job))

    def _follow(self, job: Job, unknown_since: float | None = None) -> None:
        """Look from time to time whether a call of another caller has ended: its reports go there."""
        assert self._store is not None
        if job.ended or self.closed:
            return
        try:
            stored = self._store.fetch(job.id, job.name)
        except BrokerUnavailable:  # the receiver thread meets the same, and tells
            self._look_again(job, None)
            return
        if stored is not None and stored.frame is not None:
            try:
                self._end_as_kept(job, stored.frame)
            except BadMessage as error:  # and it is kept: no other will come
                self._refuse_report(error)
        elif stored is not None or self._apart:
            self._look_again(job, None)
        else:
            self._wait_to_be_known(job, unknown_since or monotonic())

    def _wait_to_be_known(self, job: Job, unknown_since: float) -> None:
        """Follow a call that is not in the backend: it may be on its way there; in the end it was withdrawn."""
        if monotonic() - unknown_since < self.config.send_timeout_seconds:
            self._look_again(job, unknown_since)
        else:
            why = "the backend knows the call no more: it was withdrawn, never sent, or its result was not kept"
            job.finish(Status.CANCELLED, Fault.saying(Code.CANCELLED, why))

    def _look_again(self, job: Job, unknown_since: float | None) -> None:
        self.timer.after(LOOK, partial(self.aside.do, self._follow, job, unknown_since))

    def forget(self, id: str, names: Iterable[str]) -> None:
        """Delete what is kept of a call. Raises ResultNotFound."""
        if not any(self._asked.forget(id, name) for name in names):
            raise ResultNotFound(f"no result of a call with id {id!r} is kept")

    def pending(self, queue: str | None = None) -> list[StoredCall]:
        """List the calls that wait for a worker. Raises NotAttached where the Store knows only ended ones."""
        return self._of_broker.calls("waiting", queue)

    def delayed(self, queue: str | None = None) -> list[StoredCall]:
        """List the calls that wait for their time. Raises NotAttached as `pending` does."""
        return self._of_broker.calls("delayed", queue)

    def ended(self, status: Status) -> list[StoredCall]:
        """List the calls that ended so and are kept."""
        found: list[StoredCall] = []
        refused: list[BadMessage] = []
        for one in self._asked.calls("ended", None):
            try:
                header = self._open_kept(one)
            except BadMessage as error:
                refused.append(error)
            else:
                if header.get("s") == status:
                    found.append(replace(one, frame=unsealed(one.frame or b"")))
        if refused:
            why = f"{len(refused)} results that are kept cannot be read here, the first because it is {refused[0]}"
            self._refuse_report(BadMessage(why))
        return found

    def _open_kept(self, call: StoredCall) -> dict[str, Any]:
        """Return the header of the report that is kept of a call. Raises BadMessage."""
        header, _ = self.codec.open_report(call.frame or b"")
        _check_belongs(header, call.id, call.name)
        return header

    def pause(self, queue: str) -> None:
        """Have all workers start nothing more of a queue. Raises NotAttached, BrokerUnavailable."""
        self._counting.pause(queue)

    def resume(self, queue: str) -> None:
        """Have them go on. Raises NotAttached, BrokerUnavailable."""
        self._counting.resume(queue)

    def paused(self) -> set[str]:
        """Return the queues that are paused. Raises NotAttached, BrokerUnavailable."""
        return self._counting.paused()

    @property
    def _counting(self) -> Ledger:
        if self._ledger is None:
            raise NotAttached(
                "pausing needs a backend that all workers can ask: add one, as in "
                'App(broker, backend="redis://host") or backend="sqlite:///jobs.db"'
            )
        return self._ledger

    def purge(self, call: StoredCall) -> bool:
        """Withdraw a call that waits; its caller is told."""
        withdrawn = self._of_broker.cancel(call.id, call.name) is True
        job = self._pending.get(call.id)
        if withdrawn and job is not None:
            self._forget(job)
            job.finish(Status.CANCELLED, _cancelled())
        return withdrawn

    @property
    def _asked(self) -> Store:
        if self._store is None:
            raise NotAttached("this app has no Store to look into: attach one")
        return self._store

    @property
    def _apart(self) -> bool:
        return bool(getattr(self._store, "apart", False))

    @property
    def _of_broker(self) -> Store:
        """The Store, if it knows of calls that have not ended."""
        if self._apart:
            raise NotAttached(
                "this app's Store knows only calls that have ended: to see and purge what waits needs a broker "
                "that is its own backend (redis, sqlite)"
            )
        return self._asked

    # -- the end -----------------------------------------------------------------------------------

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """Send what stands in line, for up to `timeout` seconds; end what is still open here."""
        del drain
        self.closed = True
        with self._room:
            self._room.notify_all()
        self.flush(timeout if timeout is not None else self.config.send_timeout_seconds)
        self._ending = True
        self._stop.set()
        self._line.put(None)
        if self._store is not None:
            self._store.wake()
        for thread in self._threads:
            thread.join(timeout)
        for job in list(self._pending.values()):
            job.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED))
        self._pending.clear()
        self.timer.close()
        self.aside.close(timeout)

    def forget_all(self) -> None:
        """In the child of a fork: the calls and the connections are the parent's."""
        self.closed = True
        for job in list(self._pending.values()):
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


def _check_belongs(header: dict[str, Any], id: str, name: str) -> None:
    if header["id"] != id or header["n"] != name:
        raise BadMessage(f"a report of {header['n']!r} {header['id']} that came as one of {name!r} {id}")


def end(job: Job, report: Report) -> None:
    """End a call as its final report says."""
    if report.status is Status.SUCCESS:
        job.finish(Status.SUCCESS, report.value)
    else:
        failure = report.failure or Failure(Code.BAD_MESSAGE, message="a final report without a value or failure")
        job.finish(report.status, Fault(failure.code, failure=failure))


def show(job: Job, report: Report) -> None:
    """Show an intermediate report to who follows the call."""
    detail = job.detail()
    detail.attempt = report.attempt
    if report.status is Status.PROGRESS and report.progress is None:
        detail.saved = report.value
    job.mark(report.status, report.value, report.failure, report.progress)


def _cancelled() -> Fault:
    return Fault.saying(Code.CANCELLED, "the call was cancelled")
