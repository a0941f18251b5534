"""News: what workers and listeners say to each other through a Herald, as JSON.

    wish    {"v": 1, "k": "wish", "o": origins, "l": level}
    stop    {"v": 1, "k": "stop", "c": {name: [id, ...]}}      what is not wanted any more: carried as wishes are
    news    {"v": 1, "k": "news", "w": worker, "s": source, "d": dropped, "e": [[origin, level, time, code, ...], ...]}
    card    {"v": 1, "k": "card", "w": worker, ...}

Events are made small and harmless before they leave: objects become texts, texts are cut, passwords are masked.
What arrives is checked as if anybody could have sent it; with `Config.signing_keys` only who has a key can.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dingo.errors import BadMessage
from dingo.events import FleetEvent, Level, Origin
from dingo.inspection import WorkerInfo
from dingo.masking import mask_url
from dingo.message.signing import Seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dingo.events import Event

VERSION = 1
WISH, STOP, NEWS, CARD = "wish", "stop", "news", "card"
# How much travels: bytes of one message, events in one, characters of a text, values in a payload, in one container
# of it, and their depth.
MESSAGE_BYTES = 512 * 1024
FULL_BYTES = 128 * 1024
EVENTS = 200
TEXT = 1000
VALUES = 60
ITEMS = 20
DEPTH = 4
# How many cancelled calls one caller tells of: as many as fit into a message.
STOPS_MOST = 8000

_dumps: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode


class Seals:
    """Signs what is said where there are keys, and opens nothing else then."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._seals = {kind: Seal(keys, kind) for kind in (WISH, NEWS, CARD)} if keys else {}

    def put(self, kind: str, frame: bytes) -> bytes:
        """Sign it, if there are keys."""
        return self._seals[kind].put(frame) if self._seals else frame

    def open(self, kind: str, data: bytes) -> bytes:
        """Return what was signed. Raises BadMessage."""
        if len(data) > MESSAGE_BYTES:
            raise BadMessage(f"a message of {len(data)} bytes in place of a {kind}: at most {MESSAGE_BYTES} are read")
        return self._seals[kind].open(data) if self._seals else data


@dataclass(frozen=True, slots=True)
class Wish:
    """What a listener wishes to hear."""

    origins: int
    level: int

    def frame(self) -> bytes:
        """Put it into bytes."""
        return _frame(WISH, {"o": self.origins, "l": self.level})

    @classmethod
    def of(cls, data: bytes) -> Wish:
        """Read it. Raises BadMessage."""
        fields = _fields(WISH, data)
        level = max((one for one in Level if one <= _number(fields, "l")), default=Level.DEBUG)
        return cls(_number(fields, "o") & int(Origin.ALL), int(level))


@dataclass(frozen=True, slots=True)
class Stop:
    """What a caller does not want any more: names and ids of calls."""

    calls: frozenset[tuple[str, str]]


def stop_frame(calls: Iterable[tuple[str, str]]) -> bytes:
    """Put into bytes what a caller does not want any more."""
    by_name: dict[str, list[str]] = {}
    for name, call_id in calls:
        by_name.setdefault(name, []).append(call_id)
    return _frame(STOP, {"c": by_name})


def read_wish(data: bytes) -> Wish | Stop:
    """Read what somebody wishes of workers. Raises BadMessage."""
    if b'"k":"stop"' not in data[:40]:
        return Wish.of(data)
    calls = _fields(STOP, data).get("c")
    try:
        return Stop(frozenset((name, str(call_id)) for name, ids in calls.items() for call_id in ids))  # type: ignore[union-attr]
    except (TypeError, AttributeError):
        raise BadMessage("a list of calls to stop that is none") from None


@dataclass(frozen=True, slots=True)
class News:
    """Events of a worker. `source` is the token of the hub they passed; `dropped`: how many were lost before them."""

    worker: str
    source: str
    dropped: int
    events: list[FleetEvent]

    @classmethod
    def of(cls, data: bytes) -> News:
        """Read it. Raises BadMessage."""
        fields = _fields(NEWS, data)
        worker, events = _text(fields, "w"), fields.get("e")
        if not isinstance(events, list) or len(events) > EVENTS:
            raise BadMessage(f"news without a list of at most {EVENTS} events")
        return cls(worker, _text(fields, "s"), max(0, _number(fields, "d")), [_event(worker, one) for one in events])


def news_frames(worker: str, source: str, dropped: int, events: Sequence[Event]) -> list[bytes]:
    """Put events into bytes, in as many messages as it takes."""
    head = _dumps({"v": VERSION, "k": NEWS, "w": worker, "s": source})[:-1]
    frames: list[bytes] = []
    told: list[str] = []
    size = 0
    for one in events:
        text = _dumps([int(one.origin), int(one.level), one.time, one.code, _cut(one.message), plain(one.payload)])
        if told and (size + len(text) > FULL_BYTES or len(told) == EVENTS):
            frames.append(f'{head},"d":{dropped},"e":[{",".join(told)}]}}'.encode())
            told, size, dropped = [], 0, 0
        told.append(text)
        size += len(text)
    frames.append(f'{head},"d":{dropped},"e":[{",".join(told)}]}}'.encode())
    return frames


def card_frame(card: dict[str, Any]) -> bytes:
    """Put what a worker says of itself into bytes."""
    return _frame(CARD, card)


def read_card(data: bytes) -> WorkerInfo:
    """Read what a worker says of itself. Raises BadMessage."""
    card = _fields(CARD, data)
    try:
        return WorkerInfo(
            str(card["w"]), str(card["host"]), int(card["pid"]), tuple(map(str, card["queues"])),
            tuple(map(str, card["tasks"])), int(card["workers"]), int(card["busy"]),
            datetime.datetime.fromtimestamp(float(card["since"]), datetime.UTC),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise BadMessage("a worker's card that lacks something") from None


def plain(value: Any) -> Any:
    """Return what JSON can carry of a value: small, without objects and without passwords."""
    return _Plainly().of(value, DEPTH)


class _Plainly:
    """Makes one payload plain, until it has seen so many values."""

    def __init__(self) -> None:
        self._left = VALUES

    def of(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return value.name
        if isinstance(value, str):
            return _cut(value)
        if isinstance(value, int):
            return int(value) if value.bit_length() <= 64 else _cut(f"an int of {value.bit_length()} bits")
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if isinstance(value, BaseException):
            return {"type": type(value).__name__, "message": _shown(value, str)}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        if isinstance(value, bytes | bytearray | dict | list | tuple | set | frozenset):
            return self._of_many(value, depth)
        return _shown(value, repr)

    def _of_many(self, value: Any, depth: int) -> Any:
        if isinstance(value, bytes | bytearray) or depth == 0:
            return f"a {type(value).__name__} of {len(value)}"
        some = list(itertools.islice(value, max(0, min(ITEMS, self._left))))
        if isinstance(value, dict):
            return {_cut(key): self.of(value[key], depth - 1) for key in some if isinstance(key, str)}
        return [self.of(one, depth - 1) for one in some]


def _shown(value: Any, show: Callable[[Any], str]) -> str:
    try:
        return _cut(show(value))
    except Exception as error:  # an object of a user's, whose text cannot be had: that is what there is to say of it
        return f"a {type(value).__name__} whose text cannot be had ({type(error).__name__})"


def _cut(text: str) -> str:
    return mask_url(text if len(text) <= TEXT else f"{text[:TEXT]}...")


def _frame(kind: str, fields: dict[str, Any]) -> bytes:
    return _dumps({"v": VERSION, "k": kind, **fields}).encode()


def _fields(kind: str, data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise BadMessage(f"a {kind} that is no JSON") from None
    if not isinstance(fields, dict) or fields.get("k") != kind:
        raise BadMessage(f"something else in place of a {kind}")
    if fields.get("v") != VERSION:
        raise BadMessage(f"a {kind} of another version than {VERSION}")
    return fields


def _number(fields: dict[str, Any], key: str) -> int:
    value = fields.get(key)
    if type(value) is not int:
        raise BadMessage(f"a message whose {key!r} is no whole number")
    return value


def _text(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or len(value) > TEXT + 3:
        raise BadMessage(f"a message whose {key!r} is no text of at most {TEXT} characters")
    return value


def _event(worker: str, told: Any) -> FleetEvent:
    try:
        origin, level, time, code, message, payload = told
        if not (isinstance(code, str) and isinstance(message, str) and len(code) + len(message) <= 3 * TEXT):
            raise ValueError  # noqa: TRY301 - all that is wrong with it is told alike
        return FleetEvent(worker, Origin(origin), Level(level), float(time), code, message, payload)
    except (ValueError, TypeError, OverflowError):
        raise BadMessage("news with an event that is none") from None
