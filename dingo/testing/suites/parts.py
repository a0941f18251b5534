"""The suites of what is chosen per task: marshallers, id makers, invokers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dingo.errors import BadArguments, BadMessage
from dingo.message.report import Code, Failure, Progress, Report, Status
from dingo.message.task import Header, TaskMessage


class MarshallerSuite:
    """A Marshaller: what goes in comes out, and what cannot be carried is refused."""

    @pytest.fixture
    def marshaller(self) -> Any:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    @staticmethod
    def fn(number: int, text: str = "", *, flag: bool = False) -> list[int]:
        """Stand for a task."""
        return [number, len(text), flag]

    def carry(self, marshaller: Any, *args: Any, **kwargs: Any) -> TaskMessage:
        """Take a call there and back."""
        marshaller.prepare("fn", self.fn)
        header = Header("1", "fn")
        data = marshaller.encode_task(self.fn, TaskMessage(header, args, kwargs))
        carried: TaskMessage = marshaller.decode_task(self.fn, header, data)
        return carried

    def test_arguments_arrive_as_they_were_sent(self, marshaller: Any) -> None:
        """By position and by name, large integers too."""
        message = self.carry(marshaller, 2**70, "ü\n", flag=True)
        assert (tuple(message.args), message.kwargs) == ((2**70, "ü\n"), {"flag": True})

    def test_every_kind_of_report_arrives_as_it_was_sent(self, marshaller: Any) -> None:
        """A value, a failure, progress."""
        marshaller.prepare("fn", self.fn)
        for sent in (
            Report("1", "fn", Status.SUCCESS, [1, 2], attempt=1, time=1.5),
            Report("1", "fn", Status.FAILURE, failure=Failure(Code.EXCEPTION, "E", "m", "t"), attempt=2, time=2.5),
            Report("1", "fn", Status.PROGRESS, progress=Progress(1, 2, "x"), attempt=1, time=3.5),
        ):
            data = marshaller.encode_report(self.fn, sent)
            assert marshaller.decode_report(self.fn, Header("1", "fn"), data) == sent

    def test_bytes_that_are_no_message_are_refused(self, marshaller: Any) -> None:
        """With BadMessage (or BadArguments), never another error."""
        marshaller.prepare("fn", self.fn)
        for data in (b"", b"\xff\xfe", b"{", b"null"):
            with pytest.raises((BadMessage, BadArguments)):
                marshaller.decode_task(self.fn, Header("1", "fn"), data)


class IDMakerSuite:
    """An IDMaker: texts, never the same twice, from any thread."""

    @pytest.fixture
    def maker(self) -> Any:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    def test_ids_are_texts_and_differ_across_threads(self, maker: Any) -> None:
        """4 threads draw 500 each."""
        ids: list[str] = []
        threads = [threading.Thread(target=lambda: ids.extend([maker.new_id() for _ in range(500)])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(one, str) and one for one in ids)
        assert len(set(ids)) == 2000


class InvokerSuite:
    """An Invoker: runs the function with what it is given, and hands on what it returns."""

    @pytest.fixture
    def invoker(self) -> Any:
        """Return the implementation under test; override it."""
        raise NotImplementedError

    def test_the_function_gets_its_arguments_and_its_value_comes_back(self, invoker: Any) -> None:
        """By position and by name."""
        assert invoker.invoke(lambda a, *, b: a - b, (5,), {"b": 2}) == 3

    def test_what_the_function_raises_is_raised(self, invoker: Any) -> None:
        """Not swallowed, not wrapped."""
        with pytest.raises(ZeroDivisionError):
            invoker.invoke(lambda: 1 / 0, (), {})
