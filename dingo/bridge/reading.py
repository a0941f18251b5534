"""Reading: what a worker makes of a message that it has claimed.

short   a plain call of a known kind, or a pack of such: no header is decoded
open    any other: its header, once it is checked
job     the call, or the pack, that belongs to a header

Whatever is wrong with a message is raised, and RemoteWorker (`dingo.bridge.serving`) sees to it that it harms no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.bridge import travel
from dingo.bridge.codec import PLAIN_HEADER, check_header, errors_of
from dingo.bridge.delivered import RemoteJob
from dingo.bridge.short import PLANS_MOST, Incoming, Known
from dingo.bridge.unpacking import Pack
from dingo.components import key_of, unpickles
from dingo.errors import BadMessage
from dingo.message.signing import unsealed
from dingo.message.task import Header

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.bridge.codec import Codec
    from dingo.config import Config
    from dingo.contracts import Delivery, Envelope
    from dingo.plan import Plan


class UnregisteredError(Exception):
    """No task of that name is registered here: another worker may know it."""


class Reader:
    """Makes jobs of deliveries. `plan_of(name, option)` finds the plan of a task, None where it is unknown here."""

    def __init__(self, config: Config, codec: Codec, plan_of: Callable[[str, dict[str, Any]], Plan | None]) -> None:
        self.config = config
        self._codec = codec
        self._plan_of = plan_of
        self._known = Known()
        self._plans: dict[tuple[str, str, bytes], Plan] = {}

    def short(self, delivery: Delivery) -> RemoteJob | Pack | None:
        """Read a plain call of a known kind, or several; None for the long way."""
        envelope = delivery.envelope
        frame, unseal = envelope.frame, self._codec.unseal_task
        if len(frame) > self.config.max_message_bytes:
            return None
        if unseal is not None:
            try:
                frame = unseal(frame)
            except BadMessage:
                return None
        read = self._known.read(envelope, frame)
        if read is None:
            return None
        incoming, args = read
        return Pack(incoming, delivery, args) if incoming.size else RemoteJob(incoming, args, None, delivery)

    def open(self, envelope: Envelope) -> tuple[dict[str, Any], bytes]:
        """Return the header, and what follows it. Raises BadMessage, NotForUs."""
        if len(envelope.frame) > self.config.max_message_bytes:
            raise BadMessage(
                f"a message of {len(envelope.frame)} bytes: at most {self.config.max_message_bytes} are read"
            )
        header, body = self._codec.open_task(envelope.frame)
        check_header(header)
        if header["id"] != envelope.id or header["n"] != envelope.name:
            raise BadMessage("a message that came as another call's: it was changed on its way")
        return header, body

    def job(self, delivery: Delivery, header: dict[str, Any], body: bytes) -> RemoteJob | Pack | None:
        """Return what is to run; None where the calls of a pack are to come again one by one.

        Raises UnregisteredError, BadMessage, BadArguments, and whatever a user's own marshaller raises.
        """
        arguments, previous, followers = self._codec.unfold(header, body)
        plan = self._plan(header["n"], header.get("o"), followers)
        if plan is None:
            raise UnregisteredError(f"no task named {header['n']!r} is registered here")
        self._check_marshallers(plan, header)
        if "k" in header:
            return self._pack(delivery, header, body, plan)
        message = plan.marshaller.decode_task(
            plan.registration.fn, Header(header["id"], plan.name, headers=header.get("h") or {}), arguments
        )
        incoming = self._incoming(plan, header)
        job = RemoteJob(incoming, tuple(message.args), dict(message.kwargs) or None, delivery)
        if header.keys() <= PLAIN_HEADER:
            self._known.add(unsealed(delivery.envelope.frame), incoming)
        else:
            _read_detail(job, header)
            job.detail().previous = self._codec.previous(previous, plan)
        return job

    def _incoming(self, plan: Plan, header: dict[str, Any]) -> Incoming:
        keep = plan.option.keep_result
        keep = self.config.keep_result if keep is None else keep
        return Incoming(plan, header.get("r", ""), keep, header.get("k", 0))

    def _pack(self, delivery: Delivery, header: dict[str, Any], body: bytes, plan: Plan) -> Pack | None:
        """Make a pack that is read by the short way from now on; None where there is no such way."""
        incoming = self._incoming(plan, header)
        args = incoming.arguments(body, 0)
        if args is None or not incoming.reply:
            return None
        self._known.add(unsealed(delivery.envelope.frame), incoming)
        return Pack(incoming, delivery, args)

    def _check_marshallers(self, plan: Plan, header: dict[str, Any]) -> None:
        """Refuse a call that goes another way than here, and pickle unless it is accepted: then it was signed."""
        mine, reports = key_of(plan.marshaller), key_of(plan.report_marshaller)
        sent, wanted = header.get("m", "json"), header.get("rm", "json")
        if sent != mine or wanted != reports:
            raise BadMessage(
                f"a call of {plan.name!r} by the marshaller {sent!r} that wants its reports by {wanted!r}: "
                f"here they are {mine!r} and {reports!r}; set the same at both ends"
            )
        if unpickles(plan.marshaller) and not self.config.accept_pickle:
            raise BadMessage(
                f"a call of {plan.name!r} in pickle, which this worker does not accept: it could run anything. "
                "Set accept_pickle=True and signing_keys here if it is meant"
            )

    def _plan(self, name: str, given: Any, followers: bytes) -> Plan | None:
        key = (name, "" if given is None else repr(given), followers)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan_of(name, travel.read({} if given is None else given, followers))
            if plan is not None:
                if len(self._plans) > PLANS_MOST:
                    self._plans.clear()
                self._plans[key] = plan
        return plan


def _read_detail(job: RemoteJob, header: dict[str, Any]) -> None:
    detail = job.detail()
    detail.attempt = header.get("a", 0)
    detail.errors = errors_of(header)
    detail.headers = header.get("h")
    detail.expires = header.get("x")
    detail.due = header.get("e")
    detail.unique = header.get("u")
    job._plan = job._plan.full()
