"""Values between a call and its task: checked, corrected, written and read.

`annotations` and `records` read what the user declared; `correction` makes of an annotation what corrects
values to it; `binding` makes of a function the code that checks its calls. `scalars`, `tags` and `forms` say
how values travel, `typed` how calls and reports do; `json`, `msgpack` and `pickle` are the marshallers,
imported when they are asked for: a local app carries nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dingo.marshaller.binding import Binding, Unresolved, binding_of, is_context
from dingo.marshaller.correction import Correction, Mismatch, correction

if TYPE_CHECKING:
    from dingo.marshaller.json import JsonMarshaller
    from dingo.marshaller.msgpack import MsgpackMarshaller
    from dingo.marshaller.pickle import PickleMarshaller

__all__ = [
    "Binding",
    "Correction",
    "JsonMarshaller",
    "Mismatch",
    "MsgpackMarshaller",
    "PickleMarshaller",
    "Unresolved",
    "binding_of",
    "correction",
    "is_context",
]

_LATER = {"JsonMarshaller": "json", "MsgpackMarshaller": "msgpack", "PickleMarshaller": "pickle"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
