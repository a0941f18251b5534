"""RemoteWorker: tasks come from a Consumer, run in this process' pools, and their reports go home.

    I/O thread      Consumer.claim -> decode -> pool                 (the only one that touches consumer and reporter)
    pool            runs the job as any other; its end is put in `_done`, and the I/O thread is woken
    I/O thread      encodes the reports of all that is done -> Consumer.settle
                    (where little is to do and the consumer allows it, the pool's thread does so while that one sleeps)
    keeper thread   Consumer.tend: says that this worker lives, whatever its tasks do; stops what was cancelled

The broker holds a task until its report is on its way: what a dead worker had is given to another.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any, cast

from dingo.blocking import here
from dingo.bridge.codec import Codec, queue_of
from dingo.bridge.delivered import RemoteJob
from dingo.bridge.heralding import WorkerNews
from dingo.bridge.local import LocalBridge
from dingo.bridge.outage import Outage
from dingo.bridge.places import FleetLimit, Places, check_counted, is_limited
from dingo.bridge.reading import Reader, UnregisteredError
from dingo.bridge.refusing import Refusals
from dingo.bridge.room import AHEAD_MOST, Room
from dingo.bridge.suspects import Suspects
from dingo.bridge.turns import AT_ONCE, Turns
from dingo.bridge.unpacking import Pack, divided
from dingo.contracts import Delivery, ReportEnvelope, Settlement, UniqueCall, Verdict
from dingo.errors import BadArguments, BadMessage, BadReturn, BrokerUnavailable
from dingo.events import Level, Origin
from dingo.job import Fault, Job
from dingo.message import packed
from dingo.message.frame import NotForUs
from dingo.message.report import Code, Failure, Report, Status
from dingo.worker.attempt import failed
from dingo.worker.loops import LoopPool
from dingo.worker.threads import ThreadPool, shut_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from dingo.config import Config
    from dingo.contracts import Consumer, Herald, Ledger, Place, Reporter
    from dingo.events import Hub
    from dingo.hooks import Hooks
    from dingo.message.signature import Signature
    from dingo.plan import Plan

# How long the I/O thread waits in the consumer before it looks around (seconds).
LOOK = 0.5
# A thread that ends a task may settle it itself while this worker holds no more than so many.
FEW = 4
# How often the keeper says that this worker lives (seconds): well below every lease.
TEND = 1.0
# How long leaving the fleet may take (seconds).
LEAVING = 2.0
# How long it waits at its start to hear what is not wanted any more (seconds).
HEEDS_WITHIN = 2.0

_SUCCESS = Status.SUCCESS


class RemoteWorker(LocalBridge):
    """The worker's side of an app that is connected to a broker."""

    serves = True

    def __init__(self, config: Config, hub: Hub, hooks: Hooks, send: Callable[[Signature, Any], object],
                 refresh: Callable[[str | None], None], lifespan: Callable[[], Any] | None,
                 consumer: Consumer, reporter: Reporter, herald: Herald | None,
                 plan_of: Callable[[str, dict[str, Any]], Plan | None],
                 names: Callable[[], Iterable[str]],
                 when_sent: Callable[[Callable[[], object]], None]) -> None:  # fmt: skip
        super().__init__(config, hub, hooks, send, refresh, lifespan)
        self.carries = True
        self._room = None  # `max_pending` bounds what callers send
        self._consumer = consumer
        self.named: bool = getattr(consumer, "named", False)
        """Whether there is a queue for each task name."""
        self._reporter = reporter
        self._herald = herald
        self.news: WorkerNews | None = None
        """What shows this worker to the fleet, where there is a Herald."""
        self._when_sent = when_sent
        self._names = names
        self._codec = Codec(config)
        self._reader = Reader(config, self._codec, plan_of)
        self._done: deque[Job | Pack | Settlement | ReportEnvelope] = deque()
        self._refusals = Refusals(config, hub, self._codec, self._done.append)
        self._most = AHEAD_MOST  # how many are settled in one batch
        self._asleep = False
        self._full = False  # whether it sleeps without having claimed, for lack of room
        self._baton = threading.Lock()
        """Who holds it does the I/O thread's work; that one lays it down while it sleeps in the consumer."""
        self._settles_aside = getattr(consumer, "settles_aside", False)
        self._claiming = True
        self._dry = False  # whether the last claim found nothing
        self._ending = False
        self.gave_up = False
        """Whether it has given its broker up, and serves no more."""
        self._stop = threading.Event()  # ends every nap
        self._held: dict[tuple[str, str], RemoteJob | Pack] = {}
        self._starting_all: Callable[[list[Delivery]], object] | None = getattr(consumer, "starting_all", None)
        self._suspects = Suspects(self._start_suspects, self._end_unrun, groups=self._starting_all is not None)
        self._claim_room = Room()
        self._turns = Turns(config.queues or (config.queue,))
        self._settles_reports = consumer is cast("Any", reporter)
        self._ledger: Ledger | None = getattr(reporter, "ledger", None)
        self._places = None if self._ledger is None else Places(
            self._ledger, here=self._settles_reports, run=self._run_placed, settle=self._put_off, give_back=self._leave
        )  # fmt: skip
        self._paused: set[str] = set()
        self._unwanted: frozenset[tuple[str, str]] = frozenset()
        consumer.open(partial(self._emit, Origin.CONSUMER))
        reporter.open(partial(self._emit, Origin.REPORTER))
        self._codec.largest_report = getattr(reporter, "max_message_bytes", None) or sys.maxsize
        self._io = threading.Thread(target=self._serve, name="dingo-consumer", daemon=True)
        self._keeper = threading.Thread(target=self._tend_all, name="dingo-keeper", daemon=True)

    def start(self, queues: tuple[str, ...] = (), name: str = "") -> None:
        """Begin to consume. `name`: what this worker is called in its fleet."""
        if queues:
            self._turns = Turns(queues)
        if self._herald is not None:
            name = name or f"{os.uname().nodename}:{os.getpid()}"
            card = partial(self._card, name, time())
            self.news = WorkerNews(self._herald, self.hub, self.config, name, card, self._heed_stops)
            self.news.shown.wait(HEEDS_WITHIN)
        self._io.start()
        self._keeper.start()

    def _heed_stops(self, unwanted: frozenset[tuple[str, str]]) -> None:
        """Stop what callers do not want any more, and begin nothing of it, where no broker can take it back."""
        self._unwanted = unwanted
        for job in self._jobs_held() if unwanted else ():
            if (job.name, job.id) in unwanted:
                self.cancel(job)

    def _card(self, name: str, since: float) -> dict[str, Any]:
        """Return what this worker says of itself."""
        return {
            "w": name, "host": os.uname().nodename, "pid": os.getpid(), "since": since,
            "queues": list(self._turns.names),
            "tasks": sorted(self._names()), "workers": self._threads(), "busy": len(self._held),
        }  # fmt: skip

    def _threads(self) -> int:
        """How many tasks it can run at once, as far as that is bounded."""
        return sum(0 if isinstance(pool, LoopPool) else pool.count for pool in self._pools()) or self.config.workers

    def _emit(self, origin: Origin, level: Level, code: str, message: str, payload: Any = None) -> None:
        self.hub.emit(origin, level, code, message, payload)

    def reconfigure(self, config: Config) -> None:
        """Go by a new configuration from now on, its signing keys too."""
        super().reconfigure(config)
        self._reader.config = self._refusals.config = config
        self._codec.use_keys(config.signing_keys)

    # -- called by whoever runs jobs ---------------------------------------------------------------

    def done(self, entry: Job | Pack | Settlement | ReportEnvelope) -> None:
        """Hand something to the I/O thread. It is woken once for all that comes while it sleeps."""
        self._done.append(entry)
        self._look_again()

    def settle_soon(self, job: RemoteJob) -> None:
        """Hand over a job that has ended, or settle it here."""
        self._done.append(job)
        if self._asleep and not self._settled_here():
            self._look_again()

    def _settled_here(self) -> bool:
        """Settle what is done in this thread, which saves a change of threads; False where the I/O thread is to."""
        if not self._settles_aside or len(self._held) > FEW or here.seat is None or self._full:
            return False
        if not self._baton.acquire(blocking=False):
            return False
        try:
            self._settle_done()
        except BrokerUnavailable:  # the I/O thread meets the same, and tells
            return False
        except BaseException as error:
            self._failed(error)
            return False
        finally:
            self._baton.release()
        return not (self._done or self._ending or self._suspects.waiting())

    def _look_again(self) -> None:
        """Have the I/O thread look around now, if it sleeps in the consumer."""
        if self._asleep:
            self._asleep = False
            self._consumer.wake()

    def _make_threads(self, name: str, count: int) -> ThreadPool:
        pool = super()._make_threads(name, count)
        pool.lending = self._look_again  # a task waits for another: there is room for that now
        return pool

    def tell(self, job: RemoteJob, report: Report) -> None:
        """Send an intermediate report home."""
        try:
            self.done(self._codec.report_envelope(job, report, 0.0))
        except BadReturn as error:
            self.hub.emit(
                Origin.REPORTER,
                Level.WARNING,
                "report.refused",
                f"{job.name} {job.id}: what it said cannot be sent: {error}",
            )

    def wait_for(self, job: Job, due: float) -> None:
        """Give a task that is to be tried again back to the broker, which holds it until then."""
        assert isinstance(job, RemoteJob)
        detail = job.detail()
        wall = time() + (due - self.timer.time())
        frame = self._codec.again(job.frame(self._codec), {"e": wall, "a": detail.attempt}, detail.errors)
        job.put_off(wall, frame)

    def follow(self, job: Job, signatures: tuple[Signature, ...], given: tuple[Any, ...], value: Any) -> None:
        """Make the calls that were to follow this one.

        The broker keeps this one until it has those: of a worker that dies before, all of it comes again.
        """
        super().follow(job, signatures, given, value)
        option = job._plan.option
        if isinstance(job, RemoteJob) and (option.on_success or option.on_error):
            if signatures:
                self._when_sent(partial(self.done, job))
            else:
                self.done(job)

    def cancel(self, job: Job) -> bool:
        """End a job that was cancelled from afar; stop it where its pool can."""
        running = job.ended or job.start() is None
        if not job.finish(Status.CANCELLED, Fault.saying(Code.CANCELLED, "the call was cancelled")):
            return False
        pool = job._plan.pool
        if running and not isinstance(pool, ThreadPool):
            pool.interrupt(job)
        return True

    def limit_for(self, plan: Plan) -> Any:
        """Return what stands for a task's limits: the ledger keeps them. Raises NotAttached."""
        if not is_limited(plan.option):
            return None
        check_counted(plan.name, plan.option, self._ledger)
        return FleetLimit()

    def _leave(self, place: Place) -> None:
        assert self._places is not None
        self._places.left.append(place)
        self._look_again()

    def identify(self, job: Job) -> str:
        """A remote job has its id already."""
        return job._id or ""

    def busy(self) -> bool:
        """Whether it holds any task, or has not yet seen its queues empty."""
        return bool(self._held or self._done or not self._dry or (self._places is not None and self._places.busy))

    # -- the I/O thread ----------------------------------------------------------------------------

    def _serve(self) -> None:
        serving = Outage(partial(self._emit, Origin.CONSUMER), "serving")
        with self._baton:
            while not (self._ending and not self._done and not self._held):
                try:
                    self._settle_done()
                    self._suspects.turn()
                    if self._places is not None:
                        self._places.turn()
                    self._claim()
                except BrokerUnavailable as error:
                    delay = serving.failed(error, self.config.reconnect)
                    if delay is None:  # what it holds is given to others by the broker, when that is back
                        self.gave_up = True
                        return
                    self._stop.wait(delay)
                except BaseException as error:
                    self._failed(error)
                    self._stop.wait(LOOK)
                else:
                    serving.over()

    def _failed(self, error: BaseException) -> None:
        text = f"the consumer failed: {error}"
        self.hub.emit(Origin.BRIDGE, Level.ERROR, "consumer.failed", text, {"error": error}, error=error)

    def _claim(self) -> None:
        room = self._claim_room.now(self._pools(), self.config) if self._claiming else 0
        if self._turns.weighted:
            room = min(room, AT_ONCE)
        queues = self._queues_now() if room > 0 else ()
        flood = 0 if self._places is None or not queues else self._places.flood()
        self._full = not queues
        # Asleep is set before the last look: whoever is done after it wakes the consumer.
        self._asleep = True
        if self._done or (self._places is not None and self._places.left):
            self._asleep = False
        deliveries = self._claim_asleep(queues, room + flood if queues else 0, LOOK if self._asleep else 0.0)
        if queues:
            self._dry = not deliveries
            self._take_all(deliveries if not flood else self._without_surplus(deliveries, room))
            if self._turns.weighted:
                self._turns.took(self._turns.order(self._paused), map(self.queue_of_delivery, deliveries))

    def _claim_asleep(self, queues: Sequence[str], room: int, wait: float) -> list[Delivery]:
        """Claim with the baton laid down."""
        self._baton.release()
        try:
            return self._consumer.claim(queues, room, wait) if queues or wait else []
        finally:
            self._asleep = False
            self._baton.acquire()

    def _queues_now(self) -> tuple[str, ...]:
        queues = self._turns.order(self._paused)
        if not self.named:
            return queues
        # The plain queue last: there may be callers who do not know that there is one for each name.
        return tuple(one for queue in queues for one in (*(queue_of(queue, name) for name in self._names()), queue))

    def _without_surplus(self, deliveries: Iterable[Delivery], room: int) -> Iterable[Delivery]:
        """Leave out, and give back, what there is no room for: of tasks without limits not more than that."""
        assert self._places is not None
        for delivery in deliveries:
            if delivery.envelope.name not in self._places.names:
                room -= 1
                if room < 0:
                    self._done.append(Settlement(delivery, Verdict.RETURN))
                    continue
            yield delivery

    def queue_of_delivery(self, delivery: Delivery) -> str:
        """Return the queue it waited in, as callers and workers know it."""
        envelope = delivery.envelope
        return envelope.queue.removesuffix(f".{envelope.name}") if self.named else envelope.queue

    def _take_all(self, deliveries: Iterable[Delivery]) -> None:
        now = monotonic()
        deliveries = self._not_paused(deliveries) if self._paused else deliveries
        for delivery in self._wanted(deliveries) if self._unwanted else deliveries:
            job = self._reader.short(delivery)
            if job is None:
                self._take(delivery, now)
            else:
                self._begin(job, now)

    def _not_paused(self, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
        """Give back what was claimed of queues that were paused meanwhile."""
        for delivery in deliveries:
            if self.queue_of_delivery(delivery) in self._paused:
                self._done.append(Settlement(delivery, Verdict.RETURN))
            else:
                yield delivery

    def _wanted(self, deliveries: Iterable[Delivery]) -> Iterator[Delivery]:
        """End what was cancelled before it came here."""
        for delivery in deliveries:
            if (delivery.envelope.name, delivery.envelope.id) not in self._unwanted:
                yield delivery
                continue
            try:
                header, _ = self._reader.open(delivery.envelope)
            except BadMessage:
                yield delivery  # to be refused as any other
            else:
                self._refusals.refuse(delivery, header, Failure(Code.CANCELLED, message="the call was cancelled"))

    def _begin(self, job: RemoteJob | Pack, now: float) -> None:
        if isinstance(job, Pack):
            self._run_pack(job, now)
        elif job._plan.limit is None:
            self._run(job, now)
        else:
            self._run_limited(job, now)

    def _take(self, delivery: Delivery, now: float) -> None:
        """Decode a delivery and have it run; whatever is wrong with it harms nobody else."""
        header: dict[str, Any] = {}
        refusals = self._refusals
        try:
            header, body = self._reader.open(delivery.envelope)
            job = self._reader.job(delivery, header, body)
            if job is None:
                self._divide(delivery)
        except NotForUs as error:
            refusals.park(delivery, error.header, str(error), Code.BAD_MESSAGE)
        except UnregisteredError as error:
            refusals.park(delivery, header, str(error), Code.NOT_REGISTERED)
        except BadArguments as error:
            refusals.park(delivery, header, str(error), Code.BAD_ARGUMENTS)
        except BadMessage as error:
            refusals.refuse_told(delivery, header, Failure(Code.BAD_MESSAGE, message=str(error)))
        except Exception as error:  # an option that makes no sense, or whatever a user's own marshaller raises
            refusals.refuse_told(delivery, header, Failure(Code.BAD_MESSAGE, type(error).__name__, str(error)))
        else:
            if job is not None:
                self._begin(job, now)

    def _divide(self, delivery: Delivery) -> None:
        """Have the calls of a pack come again one by one. Raises BadMessage."""
        sends = divided(delivery.envelope, self._codec)
        self._done.append(Settlement(delivery, Verdict.ACK, sends=sends))

    def _run_limited(self, job: RemoteJob, now: float) -> None:
        assert self._places is not None
        expires = None if job._detail is None else job._detail.expires
        if expires is not None and expires <= self.timer.time():
            self._run(job, now)  # which ends it
        elif job.delivery.suspect:
            self._run(job, now)  # when it is its turn, it wants a place: none is taken by who waits
        else:
            self._places.want(job)

    def _run_placed(self, job: RemoteJob) -> None:
        if job.delivery.suspect:
            self._run_recorded([job])
        else:
            self._run(job, monotonic())

    def _put_off(self, batch: list[Settlement]) -> None:
        """Have tasks without a place come again: of them only suspects are held here."""
        self._settle(batch)
        for one in batch:
            self._let_go(one, monotonic())

    def _run(self, job: RemoteJob, now: float) -> None:
        envelope = job.delivery.envelope
        job.begun, job.on_loop = now, job._plan.pool.kind == LoopPool.kind
        self._held[envelope.name, envelope.id] = job
        self._claim_room.take(on_loop=job.on_loop)
        if job.delivery.suspect:
            self._suspects.add(job)
        elif job._plan.option.redeliver:
            self._put(job)
        else:
            self._run_recorded([job])

    def _start_suspects(self, group: list[RemoteJob]) -> None:
        free: list[RemoteJob] = []
        for job in group:
            if job._plan.limit is None:
                free.append(job)
            else:
                assert self._places is not None
                self._places.want(job)
        if free:
            self._run_recorded(free)

    def _run_recorded(self, jobs: list[RemoteJob]) -> None:
        """Run tasks whose starts have to be recorded before."""
        if self._record_starts(jobs):
            for job in jobs:
                self._put(job)

    def _run_pack(self, pack: Pack, now: float) -> None:
        plan, delivery = pack.incoming.plan, pack.delivery
        option = plan.option
        if delivery.suspect or not option.redeliver or plan.limit is not None or option.on_success or option.on_error:
            self._divide(delivery)
            return
        pack.begun, pack.on_loop = now, plan.pool.kind == LoopPool.kind
        self._held[delivery.envelope.name, delivery.envelope.id] = pack
        self._claim_room.take(len(pack.jobs), on_loop=pack.on_loop)
        for job in pack.jobs:
            self._put(job)
        if self._unwanted:
            self._heed_stops(self._unwanted)

    def _record_starts(self, jobs: list[RemoteJob]) -> bool:
        """Have the broker remember that tasks start. Where it cannot, they go back unstarted: False."""
        try:
            if self._starting_all is not None:
                self._starting_all([job.delivery for job in jobs])
            else:
                for job in jobs:
                    self._consumer.starting(job.delivery)
        except BrokerUnavailable as error:
            text = f"the starts of {len(jobs)} calls could not be recorded, so they go back: {error}"
            self._emit(Origin.CONSUMER, Level.WARNING, "start.unrecorded", text)
            for job in jobs:
                self.give_back(job)
            return False
        return True

    def _put(self, job: RemoteJob) -> None:
        pool = job._plan.pool
        pool.put(job)
        if pool.closed and job.start() is not None:  # closing has looked through the pool before this came
            self.give_back(job)

    def _end_unrun(self, job: RemoteJob, code: Code, why: str) -> None:
        fault = Fault.saying(code, why)
        if job.finish(Status.FAILURE, fault):
            job.start()
            self.aside.do(failed, job, fault)  # hooks may take their time: not on the I/O thread

    def _settle_done(self) -> None:
        """Settle all that is done, in one batch; what cannot be settled now stays for the next try.

        After an error that nobody foresaw, little at a time: then one of them that causes it keeps no other waiting.
        """
        batch: list[Settlement] = []
        loose: list[ReportEnvelope] = []
        entries: list[Job | Pack | Settlement | ReportEnvelope] = []
        while self._done and len(entries) < self._most:
            entries.append(self._done.popleft())
        if not entries:
            return
        try:
            for entry in entries:
                if isinstance(entry, ReportEnvelope):
                    loose.append(entry)
                else:
                    batch.append(entry if isinstance(entry, Settlement) else self._settlement(entry))
            if loose:
                self._reporter.report(loose)
            if batch:
                self._settle(batch)
        except BrokerUnavailable:
            self._done.extendleft(reversed([*loose, *batch]))
            raise
        except BaseException:
            self._done.extend(entries)
            self._most = 1
            raise
        self._most = min(AHEAD_MOST, self._most * 2)
        if batch:
            self._let_go_all(batch)

    def _settle(self, batch: list[Settlement]) -> None:
        if not self._settles_reports:  # the report first: then the broker may forget the task
            self._free(batch)
            reports = [report for settlement in batch for report in settlement.reports]
            if reports:
                self._reporter.report(reports)
            for settlement in batch:
                settlement.reports = []  # they are where they belong: the broker has nothing to do with them
        for stale in self._consumer.settle(batch):
            envelope = stale.delivery.envelope
            self.hub.emit(
                Origin.CONSUMER, Level.WARNING, "report.stale",
                f"{envelope.name} {envelope.id} was given to another worker meanwhile: what came of it here is dropped",
                {"id": envelope.id, "name": envelope.name},
            )  # fmt: skip

    def _free(self, batch: list[Settlement]) -> None:
        """Let go of unique keys, before the reports: whoever has the result may call again at once."""
        if self._ledger is None:
            return
        calls = [
            UniqueCall(one.delivery.envelope.name, one.frees, one.delivery.envelope.id)
            for one in batch
            if one.frees is not None
        ]
        if calls:
            self._ledger.free(calls)

    def _let_go_all(self, batch: list[Settlement]) -> None:
        now = monotonic()
        self._claim_room.settled(now, sum(packed.size_of(one.delivery.envelope.id) or 1 for one in batch))
        for settlement in batch:
            self._let_go(settlement, now)

    def _let_go(self, settlement: Settlement, now: float) -> None:
        envelope = settlement.delivery.envelope
        if settlement.delivery.suspect:
            self._suspects.left(settlement.delivery)
        job = self._held.get((envelope.name, envelope.id))
        if job is None or job.delivery is not settlement.delivery:
            return  # it has been claimed again here since
        del self._held[envelope.name, envelope.id]
        taken = now - job.begun
        if isinstance(job, Pack):
            self._claim_room.leave(taken, len(job.jobs), on_loop=job.on_loop)
            return
        self._claim_room.leave(taken, on_loop=job.on_loop)
        if job._plan.limit is not None and (place := vars(job.detail()).pop("place", None)) is not None:
            place.leave()  # it ended without having run

    def _settlement(self, job: Job | Pack) -> Settlement:
        """Make the verdict and the final report of a job that has ended."""
        if isinstance(job, Pack):
            return job.settlement(self._codec)
        assert isinstance(job, RemoteJob)
        key = None if job._detail is None else job._detail.unique
        if not job.incoming.reply:
            return Settlement(job.delivery, frees=key)
        envelope = self._codec.success(job) if job._status is _SUCCESS else None
        if envelope is None:
            envelope = self._codec.final_report(job)
        return Settlement(job.delivery, Verdict.ACK, [envelope], frees=key)

    # -- the keeper thread -------------------------------------------------------------------------

    def _tend_all(self) -> None:
        while not self._ending:
            try:
                for key in self._consumer.tend():
                    job = self._held.get(key)
                    if isinstance(job, RemoteJob):  # the calls of a pack are too short to be stopped
                        self.cancel(job)
                if self._ledger is not None:
                    self._go_by_pauses(self._ledger.tend())
            except BrokerUnavailable:
                pass  # the I/O thread meets the same, and tells
            except BaseException as error:
                self.hub.emit(Origin.CONSUMER, Level.ERROR, "keeper.failed", f"{error}", {"error": error}, error=error)
            self._stop.wait(TEND)

    def _jobs_held(self) -> Iterator[RemoteJob]:
        for one in list(self._held.values()):
            if isinstance(one, Pack):
                yield from one.jobs
            else:
                yield one

    def _go_by_pauses(self, paused: set[str]) -> None:
        """Claim nothing more of these queues, and give back what was claimed of them and has not started."""
        if paused != self._paused:
            self._paused = paused
            self._consumer.wake()
        if paused:
            for job in self._jobs_held():
                if job.queue in paused and job.start() is not None:
                    self.give_back(job)

    # -- the end -----------------------------------------------------------------------------------

    def close(self, timeout: float | None, *, drain: bool) -> None:
        """Stop claiming; let what runs end, for up to `timeout` seconds; give everything else back."""
        until = None if timeout is None else monotonic() + timeout
        self._claiming = False
        pools = self._pools()
        for pool in pools:
            pool.closed = True
        with self._lock:
            waiting = [job for pool in pools for job in pool.waiting()]
        for job in waiting:
            self.give_back(job)
        self._let_run_out(pools, until)
        self.closed = True
        for pool in pools:
            for job in pool.running():
                self.give_back(job)
                if not isinstance(pool, ThreadPool):
                    pool.interrupt(job)
        for job in self._suspects.waiting():
            self.give_back(job)
        self._ending = True
        self._stop.set()
        self._consumer.wake()
        if self._io.is_alive():
            self._io.join(5.0)
        del drain
        self._close_the_rest(until)
        if self.news is not None:
            self.news.close(LEAVING)

    def give_back(self, job: Job) -> None:
        """Return a task to its queue, no attempt counted: claim its end here, so that nothing else settles it."""
        if not isinstance(job, RemoteJob):  # a function given to `as_executor`
            shut_down(job, "the app was closed before this function had ended")
            return
        try:
            del job._open
        except AttributeError:
            return
        job.give_back()
