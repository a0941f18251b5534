"""The built-in marshallers, id makers and invokers keep their contracts."""

import pytest

from dingo.caller.directory import DefaultIDMaker, SequenceIDMaker, UUIDMaker
from dingo.marshaller import JsonMarshaller, MsgpackMarshaller, PickleMarshaller
from dingo.testing.suites import IDMakerSuite, InvokerSuite, MarshallerSuite


class TestMarshallers(MarshallerSuite):
    @pytest.fixture(params=[JsonMarshaller, MsgpackMarshaller, PickleMarshaller])
    def marshaller(self, request):
        return request.param()


class TestIDMakers(IDMakerSuite):
    @pytest.fixture(params=[DefaultIDMaker, SequenceIDMaker, UUIDMaker])
    def maker(self, request):
        return request.param()


class Plain:
    def invoke(self, fn, args, kwargs):
        return fn(*args, **kwargs)

    def returned(self, fn, value):
        return value


class TestInvokers(InvokerSuite):
    @pytest.fixture
    def invoker(self):
        return Plain()
