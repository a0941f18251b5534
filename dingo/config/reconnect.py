"""Reconnect: how to come back after a lost connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

from dingo.config.fields import accept_all, kinds_of, knob, refusing_unknown, unknown
from dingo.config.kinds import FLAG, Kind, Wrong, choice, maybe, seconds, whole
from dingo.errors import BadConfig
from dingo.masking import shown
from dingo.message.retry import Retry


@final
@refusing_unknown
@dataclass(frozen=True, slots=True)
class Reconnect:
    """How long to wait between attempts to connect again, and when to give up.

    Wrong or unknown fields raise `BadConfig`.
    """

    policy: Literal["exponential", "fixed", "fibonacci"] = knob(
        choice("exponential", "fixed", "fibonacci"), "exponential"
    )
    """How the waiting time grows from one attempt to the next."""

    tries: int | None = knob(maybe(whole(1)), None)
    """Attempts before giving up. None: never give up."""

    base: float = knob(seconds(above=0), 0.1)
    """Seconds before the first attempt."""

    cap: float = knob(seconds(above=0), 5.0)
    """The longest wait between two attempts, in seconds; not below `base`."""

    jitter: bool = knob(FLAG, True)
    """Whether each wait is made randomly shorter, so that many processes do not come back at once."""

    def __post_init__(self) -> None:
        accept_all(self)
        if self.cap < self.base:
            raise BadConfig(f"cap must be >= base ({self.base:g}), not {self.cap:g}")

    def delay(self, tries: int) -> float:
        """Seconds to wait after so many tries that failed."""
        steps = Retry(backoff=self.policy, base=self.base, cap=self.cap, jitter=self.jitter)
        return steps.delay(tries + 1)

    @classmethod
    def of(cls, value: Reconnect | str | Mapping[str, Any]) -> Reconnect:
        """Make one from a policy's name, from text such as `fixed,tries=5,base=1`, or from a mapping.

        Raises `BadConfig` for unknown or wrong fields.
        """
        if isinstance(value, Reconnect):
            return value
        known = kinds_of(cls)
        if isinstance(value, str):
            policy, *rest = value.split(",")
            pairs = [
                ("policy", policy),
                *((k.strip(), v) for k, _, v in (part.partition("=") for part in rest)),
            ]
        else:
            pairs = list(value.items())
        fields: dict[str, Any] = {}
        for name, given in pairs:
            if name not in known:
                raise unknown(name, known)
            if name in fields:
                raise BadConfig(f"key {name!r} is given twice")
            fields[name] = known[name].checked_text(name, given) if isinstance(value, str) else given
        return cls(**fields)


def _policy(value: object) -> object:
    if not isinstance(value, (Reconnect, str, Mapping)):
        raise Wrong
    try:
        return Reconnect.of(value)
    except BadConfig as error:
        raise Wrong(str(error)) from None


RECONNECT = Kind(
    "a Reconnect, the name of its policy, or a mapping of its fields", _policy,
    right_text="a policy and its fields, such as 'fixed' or 'fixed,tries=5,base=1'",
    show=lambda value: repr(value) if isinstance(value, Reconnect) else shown(value),
)  # fmt: skip
