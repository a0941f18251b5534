"""RemoteCaller: calls go to a Producer, and reports come back from a Store.

    any thread        call -> accept: encode, remember in `_pending`, put in line
    sender thread     takes all that stands in line -> Producer.send     -> SENT
    receiver thread   Store.collect -> decode -> the Result's end

One thread owns the producer and one the store; callers never wait for the network unless they ask to.
"""

from __future__ import annotations

import itertools
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
from dingo.bridge.packing import PackedCalls, pack_size, parts
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
from dingo.message import packed
from dingo.message.frame import unpack
from dingo.message.report import Code, Failure, Report, Status
from dingo.message.signing import unsealed
from dingo.timer import Timer
from dingo.worker.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dingo.bridge.packing import Departing
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
        return Status.PENDING if any(job is self or job.holds(self) for job, _ in under_way) else Status.SENT

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
        self._line: SimpleQueue[Departing | list[Departing] | threading.Event | _Passing | None]
        self._line = SimpleQueue()
        self._pending: dict[str, Job | PackedCalls] = {}
        self.under_way: list[Departing] = []
        """What the sender is about to send, or has sent without an answer as yet."""
        self._limit = config.max_pending or MAX_PENDING
        self._most_bytes = most_bytes(config, producer)
        self._sent = Sent(store) if hasattr(store, "unknown") else None
        self._room = threading.Condition()
        self._waiters = 0  # how many callers wait for room
        self._in_packs = 0  # how many calls there are in packs beyond the packs themselves
        self._ignored = self._ignored_sent = 0  # how many calls that nobody waits for were taken, and sent
        self._ignored_numbers = itertools.count(1)
        self._seconds: dict[str, float] = {}  # how long calls of a task take, by its name, as workers say
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

    def accept_many(self, plan: Plan, several: Sequence[tuple[tuple[Any, ...], Any]]) -> list[Result[Any]]:
        """Take calls that were checked, with their arguments by position and by name; short ones travel packed.

        Raises as `accept`.
        """
        size = pack_size(plan, self._seconds.get(plan.name)) if self._store is not None else 1
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
        self._take_room()
        jobs: list[Result[Any]] = []
        for index, args in enumerate(several):
            job = RemoteResult(plan, args, None)
            job._id = f"{pack_id}i{index}"
            jobs.append(job)
        pack = PackedCalls(pack_id, jobs, self._send_singly)
        with self._room:
            self._in_packs += len(jobs) - 1
        self._pending[pack_id] = pack
        self._line.put((pack, envelope))
        if self.closed and pack.withdraw():
            self._forget(pack)
            pack.finish(Status.FAILURE, Fault.saying(Code.SHUTDOWN, _CLOSED))
            raise AppClosed
        return jobs

    def _send_singly(self, job: Job) -> None:
        """Send a call that was in a pack in a message of its own."""
        self._pending[job.id] = job
        self._line.put((job, self.codec.envelope(job, self.reply)))

    def _depart_alone(self, job: Job) -> Result[Any]:
        first = self._unique.register(job, self.config.send_timeout_seconds)
        if first != job.id:
            if job._plan.option.ignore_report:
                return IgnoredResult(self._attached(job._plan, first))
            return self._open_job(first) or self._attach(job._plan, first)  # type: ignore[return-value]
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
            self._ignored = next(self._ignored_numbers)
        elif self._pending.setdefault(job.id, job) is not job:
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

    def _take_room(self) -> None:
        if self._crowd() < self._limit:
            return
        if self.config.when_full == "raise":
            raise QueueFull(
                f"{self._limit} calls (max_pending) have not ended, or have not been sent where their reports are "
                'ignored: wait for some, or set when_full="wait"'
            )
        with away(), self._room:
            self._waiters += 1
            try:
                self._room.wait_for(lambda: self._crowd() < self._limit or self.closed)
            finally:
                self._waiters -= 1

    def _crowd(self) -> int:
        """How many calls this process holds."""
        return len(self._pending) + self._in_packs + self._ignored - self._ignored_sent

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
                if self._ignored != self._ignored_sent:
                    self._let_ignored_go(calls)
                if len(calls) >= BURST and not self._line.empty():
                    sleep(BURST_NAP)
            for event in events:
                event.set()
            if end:
                return

    def _let_ignored_go(self, calls: list[Departing]) -> None:
        self._ignored_sent += sum(self._is_ignored(job) for job, _ in calls)
        if self._waiters:
            with self._room:
                self._room.notify_all()

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
                    self._sent.note(one for one in calls if not self._is_ignored(one[0]))
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

    def _not_sent(self, calls: Iterable[Departing], error: BaseException) -> None:
        failure = Failure(Code.NOT_SENT, type(error).__name__, f"the broker did not take it: {error}")
        for job, _ in calls:
            self._forget(job)
            job.finish(Status.FAILURE, Fault(Code.NOT_SENT, failure=failure))
            if job._detail is not None and job._detail.follows:  # nobody holds its Result
                self._emit(Level.ERROR, "callback.lost", f"{job.name} {job.id}: {failure.message}", {"id": job.id})

    def _forget(self, job: Job | PackedCalls) -> None:
        found = self._pending.pop(job._id or "", None)
        if found is None:
            self._forget_member(job)
        elif isinstance(found, PackedCalls):
            with self._room:
                self._in_packs -= len(found.jobs) - 1
        if self._sent is not None:
            self._sent.drop(job._id or "")
        if self._waiters:  # who comes later looks at `_pending` after having made itself known
            with self._room:
                self._room.notify()
        if self._unique.unsent and not isinstance(job, PackedCalls):
            self.aside.do(self._free_unique, job)

    def _forget_member(self, job: Job | PackedCalls) -> None:
        member = packed.member_of(job._id or "")
        pack = None if member is None else self._pending.get(member.pack)
        if member is not None and isinstance(pack, PackedCalls):
            pack.left.discard(member.number)
            if not pack.left:
                self._forget(pack)

    def _open_job(self, call_id: str) -> Job | None:
        """Return the call of that id whose report has not come."""
        job = self._pending.get(call_id)
        if job is None and (member := packed.member_of(call_id)) is not None:
            pack = self._pending.get(member.pack)
            return pack.jobs[member.number] if isinstance(pack, PackedCalls) else None
        return None if isinstance(job, PackedCalls) else job

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
            pack = self._pending.get(header["id"])
            if isinstance(pack, PackedCalls):
                for index, job in enumerate(pack.jobs):
                    member = header | {"id": job.id}
                    self._take_opened(member, packed.member_report(body, index), len(frame))
            else:
                self._take_opened(header, body, len(frame))
        except BadMessage as error:
            self._refuse_report(error)

    def _take_opened(self, header: dict[str, Any], body: bytes, size: int) -> None:
        job = self._open_job(header["id"])
        if job is None:
            return  # abandoned, or the same report again after a redelivery: the first one counts
        report = self._read(header, body, size, job)
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
        if isinstance(job, PackedCalls):
            return self._take_successes(job, frame, at)
        success = self._returns.of(job._plan).success(frame, at)
        if success is None:
            return False
        self._forget(job)
        if success.attempt != 1:
            job.detail().attempt = success.attempt
        job.finish(Status.SUCCESS, success.value)
        self._learn(job.name, success.seconds)
        return True

    def _take_successes(self, pack: PackedCalls, frame: bytes, at: int) -> bool:
        """Take the report of a pack whose calls have all succeeded. False where it is not that plain."""
        success = self._returns.of(pack.jobs[0]._plan).successes(frame, at, len(pack.jobs))
        if success is None:
            return False
        self._forget(pack)
        for job, value in zip(pack.jobs, success.value, strict=True):
            job.finish(Status.SUCCESS, value)
        self._learn(pack.name, success.seconds)
        return True

    def _learn(self, name: str, seconds: float | None) -> None:
        if seconds is not None:
            self._seconds[name] = seconds

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
        member = None if job.id in self._pending else packed.member_of(job.id)
        self.aside.do(self._try_to_cancel, self._store, job, member)
        return True

    def _try_to_cancel(self, store: Store, job: Job, member: packed.Member | None) -> None:
        try:
            if member is None:
                withdrawn = store.cancel(job.id, job.name) is True
            else:
                withdrawn = self._cancel_in_pack(store, job, member)
        except BaseException as error:
            self.hub.emit(
                Origin.STORE, Level.WARNING, "cancel.failed", f"{job.name} {job.id} could not be cancelled: {error}",
                {"id": job.id, "name": job.name, "error": error}, error=error,
            )  # fmt: skip
            return
        if withdrawn:
            self._forget(job)
            job.finish(Status.CANCELLED, _cancelled())

    def _cancel_in_pack(self, store: Store, job: Job, member: packed.Member) -> bool:
        """Withdraw one call of a pack. One that runs is as good as done: it ends cancelled, whatever comes of it."""
        pack = self._pending.get(member.pack)
        waits = store.fetch(member.pack, job.name)
        if not isinstance(pack, PackedCalls) or waits is None or waits.state != "waiting":
            return True
        if store.cancel(member.pack, job.name) is True:
            job.finish(Status.CANCELLED, _cancelled())
            self._forget(pack)
            pack.scatter()
        return True

    def find(self, id: str, names: list[str], plan_of: Any) -> Result[Any]:
        """Attach to a call by its id. Raises ResultNotFound, NotAttached, BadMessage (what is kept of it)."""
        job = self._open_job(id)
        if job is not None and job.name in names:
            return job  # type: ignore[return-value]
        name = names[0] if len(names) == 1 else None
        stored = self._fetch(self._asked, id, name)
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

    def _fetch(self, store: Store, call_id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call: by itself, or in its pack."""
        stored = store.fetch(call_id, name)
        if stored is None and (member := packed.member_of(call_id)) is not None:
            stored = store.fetch(member.pack, name)
        return stored

    def _end_as_kept(self, job: Job, frame: bytes) -> None:
        header, body = self.codec.open_report(frame)
        member = packed.member_of(job.id)
        if member is not None and header["id"] == member.pack:
            header, body = header | {"id": job.id}, packed.member_report(body, member.number)
        end(job, self._read(header, body, len(frame), job))

    def _follow(self, job: Job, unknown_since: float | None = None) -> None:
        """Look from time to time whether a call of another caller has ended: its reports go there."""
        assert self._store is not None
        if job.ended or self.closed:
            return
        try:
            stored = self._fetch(self._store, job.id, job.name)
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
        member = packed.member_of(id)
        ids = (id,) if member is None else (id, member.pack)  # those of a pack are kept, and forgotten, together
        if not any(self._asked.forget(one, name) for one in ids for name in names):
            raise ResultNotFound(f"no result of a call with id {id!r} is kept")

    def pending(self, queue: str | None = None) -> list[StoredCall]:
        """List the calls that wait for a worker. Raises NotAttached where the Store knows only ended ones."""
        return _unpacked(self._of_broker.calls("waiting", queue))

    def delayed(self, queue: str | None = None) -> list[StoredCall]:
        """List the calls that wait for their time. Raises NotAttached as `pending` does."""
        return _unpacked(self._of_broker.calls("delayed", queue))

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
                    found += _unpacked([replace(one, frame=unsealed(one.frame or b""))])
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

    def purge(self, queue: str) -> int:
        """Withdraw all calls that wait in a queue; their callers are told, where they are here. Return how many."""
        calls = [*self._of_broker.calls("waiting", queue), *self._of_broker.calls("delayed", queue)]
        return sum(self._withdraw_waiting(call) for call in calls)

    def _withdraw_waiting(self, call: StoredCall) -> int:
        if self._of_broker.cancel(call.id, call.name) is not True:
            return 0
        job = self._pending.get(call.id)
        if job is not None:
            self._forget(job)
            job.finish(Status.CANCELLED, _cancelled())
        return packed.size_of(call.id) or 1

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


def _unpacked(calls: Iterable[StoredCall]) -> list[StoredCall]:
    """Put the calls of each pack into its place."""
    several: list[StoredCall] = []
    for call in calls:
        size = packed.size_of(call.id)
        several += [replace(call, id=packed.member_id(call.id, index)) for index in range(size)] or [call]
    return several


def _cancelled() -> Fault:
    return Fault.saying(Code.CANCELLED, "the call was cancelled")
