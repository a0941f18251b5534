"""What a caller can ask a broker and its backend: to find, list, cancel and forget calls, and to pause queues."""

from __future__ import annotations

import datetime
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from dingo.bridge.arriving import check_belongs
from dingo.bridge.packing import PackedCalls
from dingo.bridge.remote_result import RemoteResult
from dingo.bridge.withdrawals import Withdrawals
from dingo.caller.directory import is_default_id
from dingo.errors import BadMessage, BrokerUnavailable, NotAttached, NotRegistered, ResultNotFound
from dingo.events import Level, Origin
from dingo.inspection import CallInfo
from dingo.job import Fault
from dingo.message import packed
from dingo.message.report import Code, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dingo.aside import Aside
    from dingo.bridge.arriving import Arrivals
    from dingo.bridge.codec import Codec
    from dingo.bridge.open_calls import OpenCalls
    from dingo.bridge.opening import Opening
    from dingo.caller.result import Result
    from dingo.config import Config
    from dingo.contracts import Herald, Ledger, Store, StoredCall
    from dingo.events import Hub
    from dingo.job import Job
    from dingo.plan import Plan
    from dingo.timer import Timer

# How often one who follows a call of another caller looks (seconds).
FOLLOW_EVERY = 0.5


class Looks:
    """Answers questions about calls, wherever they were made."""

    def __init__(self, config: Config, hub: Hub, codec: Codec, store: Opening[Store] | None, open_calls: OpenCalls,
                 arrivals: Arrivals, forget: Callable[[Job | PackedCalls], None], aside: Aside,
                 timer: Timer, herald: Callable[[], Herald | None]) -> None:  # fmt: skip
        self.config = config
        self.closed = False
        self._hub = hub
        self._codec = codec
        self._store = store
        self._ledger: Ledger | None = None if store is None else getattr(store.component, "ledger", None)
        self._open_calls = open_calls
        self._arrivals = arrivals
        self._forget = forget
        self._aside = aside
        self._timer = timer
        self._herald = herald
        self._withdrawals: Withdrawals | None = None
        self._withdrawing = threading.Lock()

    def cancel(self, job: Job) -> bool:
        """Withdraw a call that has not been sent; ask for any other to be withdrawn or stopped.

        The broker is asked in the background: the final report says what came of it. Where the Store knows only calls
        that have ended, the call ends here, and the workers are told. Raises NotAttached where they cannot be.
        """
        if job._status >= Status.SUCCESS:
            return False
        if job.start() is not None:
            self._forget(job)
            return job.finish(Status.CANCELLED, _cancelled())
        if self._store is None or self._apart:
            self._withdrawn.add(job.name, job.id)
            self._forget(job)
            return job.finish(Status.CANCELLED, _cancelled())
        member = None if job.id in self._open_calls.by_id else packed.member_of(job.id)
        self._aside.do(self._try_to_cancel, job, member)
        return True

    @property
    def _withdrawn(self) -> Withdrawals:
        """What tells the workers of cancelled calls. Raises NotAttached."""
        with self._withdrawing:
            if self._withdrawals is None:
                herald = self._herald()
                if herald is None:
                    raise NotAttached(
                        "a call that has been sent can be cancelled only where the workers can be told: that needs "
                        "redis, amqp, sqlite or memory as broker or as backend, by their URLs"
                    )
                self._withdrawals = Withdrawals(herald, self._hub, self.config)
                self._arrivals.unclaimed = self._withdrawals.over
            return self._withdrawals

    def close(self, timeout: float) -> None:
        """Tell the workers what was cancelled last."""
        if self._withdrawals is not None:
            self._withdrawals.close(timeout)

    def _try_to_cancel(self, job: Job, member: packed.Member | None) -> None:
        try:
            store = self._asked
            if member is None:
                withdrawn = self._withdraw(store, job.id, job.name, job._plan.option.keep_result)
            else:
                withdrawn = self._cancel_in_pack(store, job, member)
        except BaseException as error:
            self._hub.emit(
                Origin.STORE, Level.WARNING, "cancel.failed", f"{job.name} {job.id} could not be cancelled: {error}",
                {"id": job.id, "name": job.name, "error": error}, error=error,
            )  # fmt: skip
            return
        if withdrawn:
            self._forget(job)
            job.finish(Status.CANCELLED, _cancelled())

    def _cancel_in_pack(self, store: Store, job: Job, member: packed.Member) -> bool:
        """Withdraw one call of a pack. One that runs is as good as done: it ends cancelled, whatever comes of it."""
        pack = self._open_calls.by_id.get(member.pack)
        if not isinstance(pack, PackedCalls):
            return self._cancel_in_anothers_pack(store, job)
        waits = store.fetch(member.pack, job.name)
        if waits is None or waits.state != "waiting":
            return True
        if store.cancel(member.pack, job.name, b"", 0.0) is True:  # the others are sent again, each by itself
            job.finish(Status.CANCELLED, _cancelled())
            self._forget(pack)
            pack.scatter()
        return True

    def _cancel_in_anothers_pack(self, store: Store, job: Job) -> bool:
        """Withdraw a call that waits by itself meanwhile; else have the workers stop it, or not begin it.

        Only the process that has sent a pack can take it apart. The call's report says what came of it.
        """
        if self._withdraw(store, job.id, job.name, job._plan.option.keep_result):
            return True
        self._withdrawn.add(job.name, job.id)
        if not job.watch(latch=partial(self._withdrawn.over, job.name, job.id)):
            self._withdrawn.over(job.name, job.id)
        return False

    def find(self, id: str, names: list[str], plan_of: Any) -> Result[Any]:
        """Attach to a call by its id. Raises ResultNotFound, NotAttached, BadMessage (what is kept of it)."""
        names = self._only(id, names)
        for one in names:
            if (held := self._open_calls.get(id, one)) is not None:
                return held  # type: ignore[return-value]
        name = names[0] if len(names) == 1 else None
        stored = self._fetch(self._asked, id, name)
        if stored is None:
            unended = ", or it has not ended (this app's Store knows only calls that have)" if self._apart else ""
            raise ResultNotFound(
                f"no call with id {id!r} is known: it never was, or its result is no longer kept{unended}"
            )
        if stored.frame is None:
            return self.attach(plan_of(stored.name), id)
        job = self.attached(plan_of(stored.name), id)
        try:
            self._arrivals.end_as_kept(job, stored.frame)
        except BadMessage as error:
            self._arrivals.refuse(error)
            raise
        return job

    def _only(self, id: str, names: list[str]) -> list[str]:
        """Return the one of these names that the call has, where calls of several names may have an id.

        Raises ResultNotFound where several have it.
        """
        if not isinstance(id, str):
            raise ResultNotFound(f"no call has the id {id!r}: ids are texts")
        if len(names) == 1 or is_default_id(id):
            return names
        found = [name for name in names if self._is_known(id, name)]
        if len(found) > 1:
            several = ", ".join(found)
            raise ResultNotFound(f"id {id!r} belongs to calls of several tasks ({several}): give the name too")
        return found or names

    def _is_known(self, id: str, name: str) -> bool:
        if self._open_calls.get(id, name) is not None:
            return True
        with suppress(NotAttached):  # then it is known only where it was made
            return self._asked.fetch(id, name) is not None
        return False

    def attached(self, plan: Plan, id: str) -> RemoteResult:
        """Return the Result of a call of another caller."""
        job = RemoteResult(plan, (), None)
        job._id = id
        job.start()
        return job

    def attach(self, plan: Plan, id: str) -> RemoteResult:
        """Return the same, to be told the end when it comes."""
        job = self.attached(plan, id)
        self.follow(job)
        return job

    def follow(self, job: Job) -> None:
        """Have a call end as another caller's of the same id does, whose reports go there."""
        self._aside.do(self._follow, job)

    def _fetch(self, store: Store, call_id: str, name: str | None) -> StoredCall | None:
        """Return what is known of a call: by itself, or in its pack."""
        stored = store.fetch(call_id, name)
        if stored is None and (member := packed.member_of(call_id)) is not None:
            stored = store.fetch(member.pack, name)
        return stored

    def _follow(self, job: Job, unknown_since: float | None = None) -> None:
        """Look from time to time whether a call of another caller has ended: its reports go there."""
        if job.ended or self.closed:
            return
        try:
            stored = self._fetch(self._asked, job.id, job.name)
        except BrokerUnavailable:  # the receiver thread meets the same, and tells
            self._look_again(job, None)
            return
        if stored is not None and stored.frame is not None:
            try:
                self._arrivals.end_as_kept(job, stored.frame)
            except BadMessage as error:  # and it is kept: no other will come
                self._arrivals.refuse(error)
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
        self._timer.after(FOLLOW_EVERY, partial(self._aside.do, self._follow, job, unknown_since))

    def forget(self, id: str, names: list[str]) -> None:
        """Delete what is kept of a call. Raises ResultNotFound."""
        names = self._only(id, names)
        member = packed.member_of(id)
        ids = (id,) if member is None else (id, member.pack)  # those of a pack are kept, and forgotten, together
        if not any(self._asked.forget(one, name) for one in ids for name in names):
            raise ResultNotFound(f"no result of a call with id {id!r} is kept")

    def pending(self, queue: str | None = None) -> list[CallInfo]:
        """List the calls that wait for a worker. Raises NotAttached where the Store knows only ended ones."""
        return _infos(self._of_broker.calls("waiting", queue), Status.SENT)

    def delayed(self, queue: str | None = None) -> list[CallInfo]:
        """List the calls that wait for their time. Raises NotAttached as `pending` does."""
        return _infos(self._of_broker.calls("delayed", queue), Status.SENT)

    def ended(self, status: Status, plan_of: Any) -> list[CallInfo]:
        """List the calls that ended so and are kept."""
        found: list[CallInfo] = []
        refused: list[BadMessage] = []
        for one in self._asked.calls("ended", None):
            try:
                header, body = self._codec.open_report(one.frame or b"")
                check_belongs(header, one.id, one.name)
                if header.get("s") == status:
                    found += self._ended_infos(one, header, body, plan_of)
            except BadMessage as error:
                refused.append(error)
        if refused:
            why = f"{len(refused)} results that are kept cannot be read here, the first because it is {refused[0]}"
            self._arrivals.refuse(BadMessage(why))
        return found

    def _ended_infos(self, call: StoredCall, header: dict[str, Any], body: bytes, plan_of: Any) -> list[CallInfo]:
        """Describe a call that has ended, or those of a pack.

        Without its failure where the task is not known here, or its reports are not to be read. Raises BadMessage.
        """
        infos = _infos([call], Status(header["s"]))
        try:
            plan = plan_of(call.name)
        except (NotRegistered, NotAttached):
            return infos
        body = packed.member_report(body, 0) if packed.size_of(call.id) else body
        report = self._arrivals.read(header, body, len(body), self.attached(plan, call.id))
        failure = report.failure if header["s"] == Status.FAILURE else None  # a value that cannot be read is none
        return [replace(one, attempt=report.attempt, failure=failure) for one in infos]

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
        """Withdraw all calls that wait in a queue; their callers are told. Return how many."""
        calls = [*self._of_broker.calls("waiting", queue), *self._of_broker.calls("delayed", queue)]
        return sum(self._withdraw_waiting(call) for call in calls)

    def _withdraw_waiting(self, call: StoredCall) -> int:
        if not self._withdraw(self._of_broker, call.id, call.name, None):
            return 0
        pack = self._open_calls.by_id.get(call.id)
        job = pack if isinstance(pack, PackedCalls) else self._open_calls.get(call.id, call.name)
        if job is not None:
            self._forget(job)
            job.finish(Status.CANCELLED, _cancelled())
        return packed.size_of(call.id) or 1

    def _withdraw(self, store: Store, call_id: str, name: str, keep: float | None) -> bool:
        """Withdraw a call that waits, with a report for whoever waits for it. False: none waits under that id."""
        frame = self._codec.cancellation(call_id, name, _cancelled().failure)
        return store.cancel(call_id, name, frame, self.config.keep_result if keep is None else keep) is True

    @property
    def _asked(self) -> Store:
        if self._store is None:
            raise NotAttached("this app has no Store to look into: attach one")
        return self._store()

    @property
    def _apart(self) -> bool:
        return self._store is not None and bool(getattr(self._store.component, "apart", False))

    @property
    def _of_broker(self) -> Store:
        """The Store, if it knows of calls that have not ended."""
        if self._apart:
            raise NotAttached(
                "this app's Store knows only calls that have ended: to see and purge what waits needs a broker "
                "that is its own backend (redis, sqlite)"
            )
        return self._asked


def _infos(calls: Iterable[StoredCall], status: Status) -> list[CallInfo]:
    """Describe calls of one status, those of each pack in its place."""
    infos: list[CallInfo] = []
    for call in calls:
        eta = None if call.due is None else datetime.datetime.fromtimestamp(call.due, datetime.UTC)
        ids = [packed.member_id(call.id, index) for index in range(packed.size_of(call.id))] or [call.id]
        infos += [CallInfo(id, call.name, status, call.queue, eta) for id in ids]
    return infos


def _cancelled() -> Fault:
    return Fault.saying(Code.CANCELLED, "the call was cancelled")
