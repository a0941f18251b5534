"""Kinds of values: what a knob takes, how text is read for it, and what is said of a wrong value."""

from __future__ import annotations

import math
import re
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dingo.errors import BadConfig
from dingo.masking import MASK, SCHEME, shown

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_KEY_BYTES = 32  # RFC 2104 asks for keys at least as long as the digest; SHA-256 gives 32 bytes


class Wrong(Exception):
    """The value does not fit; the text, if any, says more than the value would."""


class Kind:
    """What a knob takes.

    `right`: what a value must be, after "must be"; `right_text`: the same of a value given as text, where that
    differs. `accept(value)` returns the value as the field shall hold it, or raises `Wrong`; `read(text)` turns text
    into a value for `accept`, or raises ValueError; `show(value)` describes a value without its secrets.
    """

    def __init__(self, right: str, accept: Callable[[Any], object], read: Callable[[str], object] = str, *,
                 right_text: str = "", show: Callable[[Any], str] = shown) -> None:  # fmt: skip
        self.right = right
        self.right_text = right_text or right
        self.accept = accept
        self.read = read
        self.show = show

    def checked(self, label: str, value: object) -> object:
        """Return the value as the field shall hold it, or raise `BadConfig` about `label`."""
        try:
            return self.accept(value)
        except Wrong as why:
            raise self._bad(label, self.right, value, why) from None

    def checked_text(self, label: str, text: str) -> object:
        """Return what the text means for the field, or raise `BadConfig` about `label`."""
        text = text.strip()
        try:
            return self.accept(self.read(text))
        except Wrong as why:
            raise self._bad(label, self.right_text, text, why) from None
        except ValueError:
            raise self._bad(label, self.right_text, text) from None

    def _bad(self, label: str, right: str, value: object, why: Wrong | None = None) -> BadConfig:
        rest = f": {why}" if why is not None and why.args else f", not {self.show(value)}"
        return BadConfig(f"{label} must be {right}{rest}")


def maybe(kind: Kind) -> Kind:
    """None, or what another kind takes."""

    def accept(value: object) -> object:
        return None if value is None else kind.accept(value)

    def read(text: str) -> object:
        return None if text.lower() in {"", "none", "null"} else kind.read(text)

    return Kind(f"{kind.right}, or None", accept, read, right_text=f"{kind.right_text}, or empty", show=kind.show)


def whole(least: int) -> Kind:
    """A whole number from `least` on."""

    def accept(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise Wrong
        if value > sys.maxsize:
            raise Wrong(f"the largest possible is {sys.maxsize}")
        return int(value)

    return Kind(f"a whole number >= {least}", accept, int)


def seconds(*, least: float = -math.inf, above: float = -math.inf) -> Kind:
    """A finite time: `least` seconds or more, or more than `above`."""

    def accept(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Wrong
        try:
            number = float(value)
        except OverflowError:
            raise Wrong from None
        if not math.isfinite(number) or number < least or number <= above:
            raise Wrong
        if number > threading.TIMEOUT_MAX:
            raise Wrong(f"the longest a thread can wait is {threading.TIMEOUT_MAX:.0f}")
        return number

    return Kind("a number of seconds " + (f"> {above:g}" if math.isfinite(above) else f">= {least:g}"), accept, float)


def choice(*choices: str) -> Kind:
    """One of some words."""

    def accept(value: object) -> object:
        if not isinstance(value, str) or value not in choices:
            raise Wrong
        return value

    return Kind(", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}", accept)


def url(example: str, *words: str) -> Kind:
    """A URL, or one of some words."""

    def accept(value: object) -> object:
        if not isinstance(value, str):
            raise Wrong
        if value not in words and not re.fullmatch(rf"(?i){SCHEME}[^\x00-\x1f\x7f]*(?<!\s)", value):
            raise Wrong
        return value

    return Kind(" or ".join([f"a URL such as {example!r}", *map(repr, words)]), accept)


_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise Wrong
    return value


FLAG = Kind(
    "True or False", _flag, lambda text: _WORDS.get(text.lower(), text),
    right_text="true or false (or 1/0, yes/no, on/off)",
)  # fmt: skip


def _queue_name(value: object) -> object:
    # 255 bytes is what AMQP can carry; commas separate the names of `dingo worker --queues`.
    if not isinstance(value, str) or not value or value != value.strip() or "," in value:
        raise Wrong
    if not value.isprintable() or len(value.encode()) > 255:
        raise Wrong
    return value


QUEUE_NAME = Kind("a name of 1 to 255 bytes without commas, control characters or outer spaces", _queue_name)


def queue_and_weight(text: str) -> tuple[str, float | None]:
    """Read "NAME" or "NAME=WEIGHT". Raises BadConfig."""
    name, equals, weight = text.strip().partition("=")
    QUEUE_NAME.checked(f"queue {shown(text)}: the name", name)
    if not equals:
        return name, None
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise BadConfig(f"queue {shown(text)}: a weight must be a number over 0, as in 'orders=3'")
    return name, number


def _queues(value: object) -> object:
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise Wrong
    try:
        for one in value:
            queue_and_weight(one)
    except BadConfig as error:
        raise Wrong(str(error)) from None
    return tuple(value)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


QUEUES = Kind(
    "a list of names of queues, each alone or with a weight, such as 'orders=3'", _queues, _parts,
    right_text="names of queues separated by commas, each alone or with a weight, such as 'orders=3,mails=1'",
)  # fmt: skip


def _secrets(value: object) -> object:
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"it is a value of type {type(value).__name__!r}")
    for number, key in enumerate(value, 1):
        which = f"key {number} of {len(value)}"
        if not isinstance(key, str):
            raise Wrong(f"{which} is a value of type {type(key).__name__!r}")
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise Wrong(f"{which} holds characters that UTF-8 cannot carry") from None
        if size < LEAST_KEY_BYTES:
            raise Wrong(f"{which} has {size} bytes")
        if key in value[: number - 1]:
            raise Wrong(f"{which} is the same as key {value.index(key) + 1}")
    return tuple(value)


_DIFFERENT = f"each {LEAST_KEY_BYTES} bytes or longer and different from the others"

SECRETS = Kind(
    f"a list of texts, {_DIFFERENT}", _secrets, _parts, right_text=f"texts separated by commas, {_DIFFERENT}",
    show=lambda value: repr((MASK,) * len(value)) if isinstance(value, tuple) else MASK,
)  # fmt: skip


def _options(value: object) -> object:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise Wrong
    return dict(value)


def _read_options(text: str) -> object:
    import json  # noqa: PLC0415 - few give them as text

    return json.loads(text) if text else {}


def _show_options(value: object) -> str:
    return "{" + ", ".join(f"{name!r}: {MASK}" for name in value) + "}" if isinstance(value, dict) else shown(value)


OPTIONS = Kind(
    "a mapping of names to values", _options, _read_options, right_text="an object in JSON", show=_show_options
)
