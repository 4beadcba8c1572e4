"""Reports of attempts: commands to the orchestrator, in order per task, their ids the same should one be sent again."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from services.executor.outbox import Outbox
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.commands import Report, ReportCompleted, ReportDeclined, ReportFailed, ReportStarted
from taskloom.domain.task.directives import RunAttempt, StopAttempt
from taskloom.domain.values import ErrorInfo
from taskloom.wire.claims import CLAIM_OVER_BYTES
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, encode_command
from taskloom.wire.topics import partition_of

MAX_MESSAGE_CHARS: Final = 4_000
MAX_DETAILS_BYTES: Final = 16 * 1024

_encoder = msgspec.json.Encoder()


class Order(Protocol):
    """What a report needs of the directive that it answers."""

    @property
    def task_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class Sealed(Struct, frozen=True):
    """A report as a record; ``fits`` when its value may travel as it is, else a part of it has to become a claim."""

    record: OutRecord
    fits: bool


class Reporter:
    """Makes the records of reports and puts them into the outbox."""

    def __init__(self, outbox: Outbox, *, topic: str, partitions: int, executor_id: str) -> None:
        self._outbox = outbox
        self._topic = topic
        self._partitions = partitions
        self.executor_id = executor_id

    def send(self, order: Order, report: Report, what: str, done: Callable[[], None] | None = None) -> None:
        """``what`` makes the report's id unique within its attempt; ``done`` is called once Kafka has it."""
        self._outbox.put(self.seal(order, report, what).record, done)

    def put(self, sealed: Sealed, done: Callable[[], None] | None = None) -> None:
        self._outbox.put(sealed.record, done)

    def seal(self, order: Order, report: Report, what: str) -> Sealed:
        """The record of a report.

        Raises:
            msgspec.MsgspecError, TypeError, ValueError: it holds what JSON cannot.
        """
        task_id = order.task_id
        traced = isinstance(order, RunAttempt)
        attributes = Attributes(
            id=f"{task_id}/{order.attempt}/{what}",
            type=str(report.__struct_config__.tag),
            source=self.executor_id,
            tenant_id=order.tenant_id if traced else "default",  # type: ignore[attr-defined]
            traceparent=order.traceparent if traced else "",  # type: ignore[attr-defined]
        )
        key, value, headers = encode_command(Envelope(task_id, report, attributes))
        record = OutRecord(self._topic, partition_of(task_id, self._partitions), key, value, headers)
        return Sealed(record, len(value) <= CLAIM_OVER_BYTES)

    def started(self, order: Order, pid: int) -> None:
        self.send(order, ReportStarted(order.attempt, self.executor_id, pid), "started")

    def declined(self, order: Order, reason: str, done: Callable[[], None] | None = None) -> None:
        self.send(order, ReportDeclined(order.attempt, self.executor_id, reason), "declined", done)

    def completed(self, order: Order, **fields: Any) -> Sealed:
        return self.seal(order, ReportCompleted(order.attempt, self.executor_id, **fields), "completed")

    def failed(self, order: Order, error: ErrorInfo, done: Callable[[], None] | None = None, **fields: Any) -> None:
        """Reports a failure; message and details are cut to size, so that an error can always be told."""
        self.send(order, ReportFailed(order.attempt, self.executor_id, bounded(error), **fields), "failed", done)


def bounded(error: ErrorInfo) -> ErrorInfo:
    """The error with a message of at most 4,000 characters, and its details if they are JSON and under 16 KiB."""
    details = error.details
    try:
        if details and len(_encoder.encode(details)) > MAX_DETAILS_BYTES:
            details = {"left_out": f"the error's details were over {MAX_DETAILS_BYTES} bytes"}
    except (msgspec.MsgspecError, TypeError, ValueError):
        details = {"left_out": "the error's details are not JSON"}
    return msgspec.structs.replace(
        error, type=error.type[:256], message=error.message[:MAX_MESSAGE_CHARS], details=details
    )


__all__ = ["Order", "Reporter", "Sealed", "StopAttempt", "bounded"]
