"""The texts that stand for bytes, durations and the like where an annotation tells what they mean."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re

_ISO_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?=[\dT])(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:[.,](?P<fraction>\d{1,6}))?S)?)?",
    re.ASCII,
)
_PYTHON_DURATION = re.compile(
    r"(?:(?P<days>-?\d+) days?, )?(?P<hours>\d{1,2}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)"
    r"(?:\.(?P<fraction>\d{6}))?",
    re.ASCII,
)


def bytes_to_text(data: bytes) -> str:
    """Write base64."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def bytes_from_text(text: str) -> bytes:
    """Read base64, of which only the canonical form is accepted. Raises ValueError."""
    data = base64.b64decode(text, validate=True)
    if bytes_to_text(data) != text:
        raise ValueError("not the canonical base64 of any bytes")
    return data


def timedelta_to_text(delta: dt.timedelta) -> str:
    """Write an ISO 8601 duration, exact to the microsecond."""
    sign = "-" if delta.days < 0 else ""
    delta = abs(delta)
    fraction = f".{delta.microseconds:06}" if delta.microseconds else ""
    return f"{sign}P{delta.days}DT{delta.seconds}{fraction}S"


def timedelta_from_text(text: str) -> dt.timedelta:
    """Read an ISO 8601 duration without years and months, or `str` of a timedelta. Raises ValueError."""
    found = _ISO_DURATION.fullmatch(text) or _PYTHON_DURATION.fullmatch(text)
    if found is None:
        raise ValueError("not a duration as PT1H30M or 1:30:00")
    parts = {unit: digits for unit, digits in found.groupdict().items() if digits}
    sign = parts.pop("sign", "")
    micros = int(parts.pop("fraction", "").ljust(6, "0"))
    try:
        delta = dt.timedelta(microseconds=micros, **{unit: int(digits) for unit, digits in parts.items()})
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return -delta if sign == "-" else delta
