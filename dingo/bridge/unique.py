"""Unique calls: what a call shares with those it must not run beside."""

from __future__ import annotations

from hashlib import blake2b
from time import time
from typing import TYPE_CHECKING

from dingo.contracts import UniqueCall
from dingo.errors import BadOption
from dingo.message.task import Header, TaskMessage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dingo.contracts import Envelope, Ledger
    from dingo.job import Job

# Where the backend does not hold the calls it cannot see that one is no more: a key that nobody freed, because a
# message was lost or deleted by hand, is free again after this time (seconds).
APART_SECONDS = 7 * 86400.0


def key_of_call(job: Job) -> str:
    """Return the key of a unique call. Raises BadArguments, BadOption."""
    unique = job._plan.option.unique
    if isinstance(unique, str):
        return unique
    kwargs = job._kwargs or {}
    if callable(unique):
        key = unique(*job._args, **kwargs)
        if not isinstance(key, str):
            raise BadOption(f"the 'unique' function of task {job.name!r} returns a text, not {key!r}")
        return key
    from dingo.marshaller.json import JsonMarshaller  # noqa: PLC0415 - only for those who use it

    bound = job._plan.binding.signature.bind(*job._args, **kwargs)  # however they were given
    bound.apply_defaults()
    message = TaskMessage(Header("", job.name), bound.args, dict(sorted(bound.kwargs.items())))
    return JsonMarshaller().encode_task(None, message).decode()


def digest_of_call(job: Job) -> str:
    """Return the same for the wire: short, however long the arguments are. Raises BadArguments, BadOption."""
    return blake2b(key_of_call(job).encode(), digest_size=16).hexdigest()


class UniqueCalls:
    """The caller's dealings with the ledger.

    A key is registered before the call is sent, for the time that sending may take; when it is sent, the key is
    the call's for good; the worker frees it with the final report. `unsent`: what is between the first two.
    """

    def __init__(self, ledger: Ledger | None, *, apart: bool) -> None:
        self.unsent: dict[str, UniqueCall] = {}
        self._ledger = ledger
        self._apart = apart

    def register(self, job: Job, seconds: float) -> str:
        """Return the id of the call that has this one's key: its own, if none has. Raises BrokerUnavailable."""
        assert self._ledger is not None
        key = job.detail().unique = digest_of_call(job)
        call = UniqueCall(job.name, key, job.id)
        first = self._ledger.register(call, 2 * seconds)  # in line and on the way
        if first == job.id:
            self.unsent[job.id] = call
        return first

    def confirm(self, envelopes: Iterable[Envelope]) -> None:
        """Note which of these calls are unique: they are sent. Raises BrokerUnavailable."""
        assert self._ledger is not None
        sent: dict[float, list[UniqueCall]] = {}
        for one in envelopes:
            call = self.unsent.pop(one.id, None)
            if call is not None:
                sent.setdefault(self._seconds(one), []).append(call)
        for seconds, calls in sent.items():
            self._ledger.confirm(calls, seconds)

    def _seconds(self, envelope: Envelope) -> float:
        if not self._apart:
            return 0.0  # from now on the backend sees the call itself
        return APART_SECONDS + (0.0 if envelope.due is None else max(0.0, envelope.due - time()))

    def free(self, job: Job) -> None:
        """Let go of the key of a call that was not sent. Raises BrokerUnavailable: then it is free after its time."""
        call = self.unsent.pop(job.id, None)
        if call is not None and self._ledger is not None:
            self._ledger.free([call])
