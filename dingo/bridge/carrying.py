"""Carrying: taking values through their marshallers and back, so that what would fail on the wire fails here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dingo.components import key_of
from dingo.errors import BadArguments, BadReturn
from dingo.message.report import Report, Status
from dingo.message.task import Header, TaskMessage

if TYPE_CHECKING:
    from dingo.job import Job


def carry_arguments(job: Job) -> None:
    """Take a call's arguments through its marshaller and back. Raises BadArguments."""
    plan = job._plan
    header = _header(job)
    marshaller, fn = plan.marshaller, plan.registration.fn
    message = TaskMessage(header, job._args, job._kwargs or {})
    try:
        decoded = marshaller.decode_task(fn, header, marshaller.encode_task(fn, message))
        args, kwargs = decoded if isinstance(decoded, tuple) else (decoded.args, decoded.kwargs)
    except BadArguments:
        raise
    except Exception as error:
        raise BadArguments(_not_carried(marshaller, job, "the arguments", error)) from error
    job._args, job._kwargs = plan.checked(tuple(args), dict(kwargs))


def carried(job: Job, value: Any) -> Any:
    """Return what becomes of a returned value on its way through its marshaller and back. Raises BadReturn."""
    plan = job._plan
    report = Report(job.id, job.name, Status.SUCCESS, value, attempt=job.attempt)
    marshaller, fn = plan.report_marshaller, plan.registration.fn
    try:
        return marshaller.decode_report(fn, _header(job), marshaller.encode_report(fn, report)).value
    except BadReturn:
        raise
    except BadArguments as error:
        raise BadReturn(str(error)) from error
    except Exception as error:
        raise BadReturn(_not_carried(marshaller, job, "the returned value", error)) from error


def _header(job: Job) -> Header:
    plan = job._plan
    keys = (key_of(plan.marshaller), key_of(plan.report_marshaller))
    return Header(job.id, job.name, *keys, dict(plan.option.headers))


def _not_carried(marshaller: Any, job: Job, what: str, error: Exception) -> str:
    key = key_of(marshaller)
    return f"{job.name}(): the {key} marshaller could not carry {what}: {type(error).__name__}: {error}"
