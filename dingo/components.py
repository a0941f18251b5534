"""Components: the marshallers and id makers an app knows, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from dingo.contracts import IDMaker, Marshaller
    from dingo.message.option import Option
    from dingo.plan import Plan


def _json() -> Any:
    from dingo.marshaller.json import JsonMarshaller  # noqa: PLC0415 - most local apps carry nothing

    return JsonMarshaller()


def _msgpack() -> Any:
    from dingo.marshaller.msgpack import MsgpackMarshaller  # noqa: PLC0415 - an extra

    return MsgpackMarshaller()


def _pickle() -> Any:
    from dingo.marshaller.pickle import PickleMarshaller  # noqa: PLC0415 - brings cloudpickle along

    return PickleMarshaller()


def _sequence() -> Any:
    from dingo.caller.directory import SequenceIDMaker  # noqa: PLC0415 - only for those who use it

    return SequenceIDMaker()


def _uuid() -> Any:
    from dingo.caller.directory import UUIDMaker  # noqa: PLC0415 - only for those who use it

    return UUIDMaker()


class Shelf:
    """Objects of one kind by key; the built-in ones are made when they are first asked for."""

    def __init__(self, what: str, methods: tuple[str, ...], built_in: dict[str, Callable[[], Any]]) -> None:
        self._what = what
        self._methods = methods
        self._makers = dict(built_in)
        self._made: dict[str, Any] = {}

    def add(self, key: str, component: Any) -> None:
        """Put an object on the shelf. Raises BadOption for a taken key or an object that cannot do the work."""
        if not isinstance(key, str) or not key:
            raise BadOption(f"the key of a {self._what} is a text, not {key!r}")
        if key in self._makers:
            raise BadOption(f"there is a {self._what} with key {key!r} already: choose another key")
        self.check(component)
        self._makers[key] = lambda: component

    def check(self, component: Any) -> None:
        """Raise BadOption where the object lacks a method."""
        missing = [name for name in self._methods if not callable(getattr(component, name, None))]
        if missing or isinstance(component, type):
            raise BadOption(f"a {self._what} is an object with {', '.join(self._methods)}; {component!r} is not")

    def get(self, key: Any) -> Any:
        """Return the object of a key (an object stands for itself). Raises BadOption for an unknown key."""
        if not isinstance(key, str):
            return key
        if key not in self._made:
            if key not in self._makers:
                raise BadOption(f"no {self._what} with key {key!r}: there are {', '.join(self._makers)}")
            self._made[key] = self._makers[key]()
        return self._made[key]


class Components:
    """What an app was given to carry values and to make ids."""

    def __init__(self) -> None:
        methods = ("prepare", "encode_task", "decode_task", "encode_report", "decode_report")
        self.marshallers = Shelf("marshaller", methods, {"json": _json, "msgpack": _msgpack, "pickle": _pickle})
        self.id_makers = Shelf("id maker", ("new_id",), {"uuid": _uuid, "sequence": _sequence})
        self._prepared: dict[tuple[int, str], Any] = {}

    def marshaller(self, key: Any) -> Marshaller:
        """Return a marshaller by key. Raises BadOption."""
        return self.marshallers.get(key)  # type: ignore[no-any-return]

    def id_maker(self, key: Any) -> IDMaker:
        """Return an id maker by key. Raises BadOption."""
        return self.id_makers.get(key)  # type: ignore[no-any-return]

    def check(self, option: Option) -> None:
        """Raise BadOption for the key of a component that is not known."""
        for key in (option.marshaller, option.report_marshaller):
            if key is not None:
                self.marshaller(key)
        if option.id_maker is not None:
            self.id_maker(option.id_maker)

    def prepare(self, plan: Plan) -> None:
        """Show a task to its marshallers, once each, before they carry anything of it."""
        fn = plan.registration.fn
        for marshaller in (plan.marshaller, plan.report_marshaller):
            if self._prepared.get((id(marshaller), plan.name)) is not fn:
                marshaller.prepare(plan.name, fn)
                self._prepared[id(marshaller), plan.name] = fn


def key_of(marshaller: Any) -> str:
    """Return the key a marshaller goes by on the wire."""
    return str(getattr(marshaller, "key", type(marshaller).__name__))


def unpickles(marshaller: Any) -> bool:
    """Whether reading with this marshaller may run what a message says."""
    return bool(getattr(marshaller, "unpickles", False))
