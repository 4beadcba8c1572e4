"""The Kafka door: a record becomes a command for its task, a forward to the right partition, or a dead letter."""

from datetime import datetime
from typing import Any, Final, Protocol

from msgspec import Struct, structs

from services.orchestrator.peers import of_step
from taskloom.bus.publish import MAX_RECORD_BYTES
from taskloom.domain.ids import is_task_id
from taskloom.domain.scheduling.match import ANY_QUEUE
from taskloom.domain.task.commands import RetryChild, SubmitTask, UpdateTask
from taskloom.domain.task.modes import kind_of, resolved
from taskloom.domain.task.submission import (
    BUILT_IN_KINDS,
    BUILT_IN_QUEUES,
    WEBHOOK_KIND,
    Invalid,
    check_from_outside,
    check_no_forged_fork,
)
from taskloom.domain.workflow.kinds import kinds_in
from taskloom.kinds.inputs import InvalidInput, validate
from taskloom.kinds.offers import Offer
from taskloom.rules import RuleBroken, TenantRules
from taskloom.wire.claims import is_claim
from taskloom.wire.cloudevents import GATEWAY_SOURCE, ORCHESTRATOR_SOURCE, Attributes, asked_by
from taskloom.wire.commands import Envelope, decode_command
from taskloom.wire.errors import WireError
from taskloom.wire.messages import DeadLetter
from taskloom.wire.topics import partition_of

MAX_COMMAND_BYTES: Final = MAX_RECORD_BYTES - 64 * 1024
"""A compressed batch can bring in a value that no producer of ours could send on."""

MAX_REASON_CHARS: Final = 4096


class Misplaced(Struct, frozen=True):
    """A command whose key belongs to another partition: its producer hashes keys differently. It is sent there."""

    envelope: Envelope


class Rejected(Struct, frozen=True):
    """A record that cannot be applied. ``asked`` is set when it says where its reply goes."""

    letter: DeadLetter
    task_id: str = ""
    asked: Attributes | None = None


class Announces(Protocol):
    """What executors said lately that they run, and for which queues (``announced.Announced``)."""

    def of(self, tenant_id: str) -> Offer: ...


class Ingest:
    """Reads command records of a topic with so many ``partitions``."""

    def __init__(self, partitions: int, announced: Announces, rules: TenantRules | None = None) -> None:
        self._rules = rules or TenantRules()
        self._partitions = partitions
        self._announced = announced

    def read(self, record: Any, now: datetime) -> Envelope | Misplaced | Rejected:
        """``record`` is an aiokafka ``ConsumerRecord`` of the commands topic."""
        if record.value is not None and len(record.value) > MAX_COMMAND_BYTES:
            reason = f"the command has {len(record.value)} bytes, {MAX_COMMAND_BYTES} are allowed"
            return _rejected(record, now, reason, "$")
        try:
            envelope = decode_command(record.key, record.value, record.headers, fallback_id=_place(record))
        except WireError as error:
            return _rejected(record, now, error.message, error.field)
        except Exception as error:  # noqa: BLE001 - whatever a record holds, it must not block its partition
            return _rejected(record, now, f"the record cannot be read: {error!r}")
        envelope = _with_kind(envelope)
        try:
            self._check(envelope)
        except (Invalid, InvalidInput, RuleBroken) as invalid:
            return _rejected(record, now, invalid.message, invalid.field, envelope.task_id)
        except Exception as error:  # noqa: BLE001 - as above
            return _rejected(record, now, f"the command cannot be checked: {error!r}", task_id=envelope.task_id)
        if partition_of(envelope.task_id, self._partitions) != record.partition:
            return Misplaced(envelope)
        return envelope

    def _check(self, envelope: Envelope) -> None:
        command = envelope.command
        if envelope.attributes.source.startswith(GATEWAY_SOURCE):
            return
        if isinstance(command, SubmitTask):
            if of_step(envelope):
                return  # its run is told what is wrong with it
            if command.kind == WEBHOOK_KIND and envelope.attributes.source == ORCHESTRATOR_SOURCE:
                return  # it waits until an executor delivers webhooks
            check_from_outside(command)
            if command.fork is not None:
                return  # it is checked once it is made (forks.py)
            self.check(command, envelope.attributes.tenant_id)
            self._rules.check(envelope.attributes.tenant_id, kind_of(command), command.input)
        elif isinstance(command, RetryChild) and envelope.attributes.source != ORCHESTRATOR_SOURCE:
            raise Invalid("a child workflow goes on when the run around it is retried", "ce_type")
        elif isinstance(command, UpdateTask) and isinstance(command.queue, str):
            _check_queue(command.queue, self._announced.of(envelope.attributes.tenant_id))

    def check(self, command: SubmitTask, tenant_id: str) -> None:
        """What the gateway checks too.

        Raises:
            Invalid: a claim, or a kind or queue that no executor has.
            InvalidInput: the input does not fit its kind.
        """
        for name in ("input", "context"):
            if is_claim(getattr(command, name)):
                raise Invalid("a reference to a stored value cannot be sent from outside; send the value", name)
        if command.kind == WEBHOOK_KIND:
            check_from_outside(command)
        check_no_forged_fork(command)
        self._check_runnable(resolved(command), tenant_id)

    def check_fork(self, command: SubmitTask, tenant_id: str) -> None:
        """The same for a fork. What its source has by reference was checked when it came in.

        Raises:
            RuleBroken: besides, a rule of the tenant's.
        """
        command = resolved(command)
        self._check_runnable(command, tenant_id)
        if not is_claim(command.input):
            self._rules.check(tenant_id, kind_of(command), command.input)

    def _check_runnable(self, command: SubmitTask, tenant_id: str) -> None:
        kind, offer = kind_of(command), self._announced.of(tenant_id)
        _check_kind(kind, "kind", offer)
        if kind == "workflow":
            for path, inner in kinds_in(command.input.get("definition")):
                _check_kind(inner, path, offer)
        _check_queue(command.queue, offer)
        if is_claim(command.input):
            return
        validate(kind, command.input, command.context)
        offer.schemas.check(kind, command.input)


def _with_kind(envelope: Envelope) -> Envelope:
    """A submission has the kind that its mode stands for from here on, as those of the gateway."""
    command = envelope.command
    if not isinstance(command, SubmitTask) or (asked := resolved(command)) is command:
        return envelope
    return structs.replace(envelope, command=asked)


def _check_kind(kind: str, field: str, offer: Offer) -> None:
    if kind not in BUILT_IN_KINDS and kind not in offer.kinds:
        known = ", ".join(sorted(BUILT_IN_KINDS | offer.kinds))
        raise Invalid(f"no executor runs the kind {kind!r}; known kinds: {known}", field)


def _check_queue(queue: str, offer: Offer) -> None:
    if queue not in BUILT_IN_QUEUES and offer.queues.isdisjoint((queue, ANY_QUEUE)):
        known = ", ".join(sorted(BUILT_IN_QUEUES | offer.queues))
        raise Invalid(f"no executor serves the queue {queue!r}; known queues: {known}", "queue")


def _place(record: Any) -> str:
    return f"k-{record.topic}-{record.partition}-{record.offset}"[-128:]


def _rejected(record: Any, now: datetime, reason: str, field: str = "", task_id: str = "") -> Rejected:
    # A value that is too large is not looked into, so only headers can say who is to be told.
    value = None if record.value is not None and len(record.value) > MAX_COMMAND_BYTES else record.value
    asked = asked_by(record.headers, value, fallback_id=_place(record))
    if not task_id and asked is not None:
        named = asked.subject or (record.key or b"").decode("utf-8", "replace")
        task_id = named if is_task_id(named) else ""
    return Rejected(dead_letter(record, now, reason, field), task_id, asked)


def dead_letter(record: Any, now: datetime, reason: str, field: str = "") -> DeadLetter:
    """A letter with all of the record. A value that only compression brought in is left where ``offset`` points."""
    value = record.value or b""
    if len(value) > MAX_RECORD_BYTES:
        value, reason = b"", f"{reason} (the value is not in this letter)"
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=now,
        reason=reason[:MAX_REASON_CHARS],
        field=field[:MAX_REASON_CHARS],
        key=(record.key or b"").decode("utf-8", "replace"),
        value=value,
        headers=tuple((name, content or b"") for name, content in record.headers),
    )


def with_actor(envelope: Envelope) -> Envelope:
    """Client commands carry an actor, which is also what makes a task remember their ids."""
    attributes = envelope.attributes
    if attributes.actor:
        return envelope
    return structs.replace(envelope, attributes=structs.replace(attributes, actor=attributes.source or "anonymous"))
