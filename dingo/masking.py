"""Masking: what may be shown of a URL or a value, so that no credentials stand in logs, events, `repr` or errors."""

from __future__ import annotations

import re

MASK = "***"
SHOWN_LIMIT = 200  # characters of a value in a message: enough to recognise it, not enough to fill a log

# Texts, which `re` compiles when they are first needed: most processes mask nothing.
SCHEME = r"[a-z][a-z0-9+.-]*://"
_ANY = rf"(?:(?![;,\s]+{SCHEME}).)"  # any character, as long as no further URL of a list begins there
_CREDENTIALS = rf"(?is)(://(?:(?!:){_ANY})*:|^(?!{SCHEME})[^:]*:(?!//)){_ANY}*@"
_SECRET_PARAMETER = (
    r"(?is)((?:password|passwd|pwd|passphrase|secret|token|credential|api_?key|access_?key)[\w.%-]*=)"
    rf"(?:(?!&){_ANY})*"
)


def mask_url(text: str) -> str:
    """Return `text` with passwords replaced by `***`: `redis://user:***@host/0?token=***`.

    Masks what stands between the user's name and the `@` (also where there is no scheme, in each URL of a
    list, and with characters that should have been percent-encoded), and the values of query parameters
    such as `password=` and `token=`. In doubt it masks more. Raises nothing, whatever the text.
    """
    text = str(text)
    text = re.sub(_CREDENTIALS, rf"\g<1>{MASK}@", text)
    return re.sub(_SECRET_PARAMETER, rf"\g<1>{MASK}", text)


def shown(value: object) -> str:
    """Describe a value in a message. Of containers and objects only the type: they may hold anything."""
    if value is None or isinstance(value, (bool, float)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() <= 64 else f"an int of {value.bit_length()} bits"
    if isinstance(value, str):
        text = mask_url(value)
        return repr(text if len(text) <= SHOWN_LIMIT else text[:SHOWN_LIMIT] + "...")
    return f"a value of type {type(value).__name__!r}"
