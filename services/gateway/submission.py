"""From the bytes of a submission to a command that is ready to send: valid, named, large values put away."""

from collections.abc import Collection
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct, structs

from services.gateway.ids import derived_id, new_command_id, new_task_id
from services.gateway.problems import BadRequest, Unknown, decoded
from services.gateway.security import Caller
from taskloom.domain.ids import is_valid_id
from taskloom.domain.runs import GOAL, is_run
from taskloom.domain.scheduling.match import ANY_QUEUE
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.modes import resolved
from taskloom.domain.task.submission import Invalid, check_from_outside, check_size, normalise
from taskloom.domain.values import ErrorInfo, TaskSpec
from taskloom.domain.workflow.kinds import kinds_in
from taskloom.domain.workflow.references import stored_names_in
from taskloom.kinds.inputs import InvalidInput, validate
from taskloom.kinds.offers import Offer
from taskloom.wire.claims import CLAIM_OVER_BYTES, MAX_VALUE_BYTES, check_in, claimed_digest
from taskloom.wire.cloudevents import GATEWAY_SOURCE, Attributes
from taskloom.wire.commands import Envelope

SOURCE: Final = GATEWAY_SOURCE
_SUBMIT: Final = str(SubmitTask.__struct_config__.tag)
_MERGED: Final = ("model_tier", "model_override", "provider_override", "research_strategy", "skill")
_MERGED_OPTIONAL: Final = ("max_iterations", "max_concurrent_agents", "enable_verification")

_WHEN: Final = {"docker": "an executor announces it while a Docker Engine answers at its TASKLOOM_DOCKER_HOST"}
"""Of kinds that come and go: what has to be there."""

_decoder = msgspec.json.Decoder(SubmitTask)


class ClaimSink(Protocol):
    """Where values over 64 KiB are stored, by their hash."""

    async def put(self, value: bytes) -> str: ...


class Origin(Struct, frozen=True):
    """What all commands of one request have in common. ``wait_s``: of ``Prefer: wait``, 0 without it."""

    caller: Caller
    reply_to: str
    traceparent: str = ""
    correlation_id: str = ""
    key: str = ""
    wait_s: float = 0.0


class Submission(Struct, frozen=True):
    """``confirm``: the id was chosen from outside, or stored workflows are named: only the orchestrator knows whether
    that one is free and those are there.

    A reply is asked for only when somebody waits for it: else a batch of 1,000 would bring 1,000 of them back.
    """

    envelope: Envelope
    spec: TaskSpec
    confirm: bool

    @property
    def awaited(self) -> bool:
        return bool(self.envelope.attributes.reply_to)

    @property
    def task_id(self) -> str:
        return self.envelope.task_id

    @property
    def command_id(self) -> str:
        return self.envelope.attributes.id


def read_submission(body: bytes | msgspec.Raw, known: Offer, origin: Origin, index: int | None = None) -> Submission:
    """One valid submission. ``index`` is its place in a batch, where it has one.

    Raises:
        BadRequest: names the field; ``Unknown`` when ``known`` lacks its kind or queue.
    """
    command = resolved(decoded(_decoder.decode, bytes(body)))
    task_id = _task_id(command, origin, index)
    _check_id(task_id, "task_id")
    try:
        check_from_outside(command)
        spec = normalise(
            command,
            task_id=task_id,
            tenant_id=origin.caller.tenant_id,
            user_id=origin.caller.user_id,
            kinds=known.kinds,
        )
        validate(spec.kind, spec.input, spec.context)
    except (Invalid, InvalidInput) as invalid:
        if invalid.field == "kind":
            raise _unknown_kind(invalid.message, "kind", command.kind) from invalid
        raise BadRequest(invalid.message, field=invalid.field) from invalid
    _check(spec, known)
    try:
        known.schemas.check(spec.kind, spec.input)
    except InvalidInput as invalid:
        # Unknown, since an executor with another schema may have registered just now.
        raise Unknown(invalid.message, field=invalid.field) from invalid
    confirm = command.task_id is not None or bool(origin.key) or _names_stored(command)
    reply_to = origin.reply_to if confirm or origin.wait_s else ""
    return Submission(_envelope(command, task_id, origin, reply_to), spec, confirm)


def _task_id(command: SubmitTask, origin: Origin, index: int | None) -> str:
    if command.task_id is not None:
        return command.task_id
    if not origin.key:
        return new_task_id()
    whose = (origin.caller.tenant_id, origin.caller.user_id)
    return derived_id("task", *whose, origin.key, *(() if index is None else (str(index),)))


def _names_stored(command: SubmitTask) -> bool:
    """True when stored workflows are named: whether they are there is known to the orchestrator alone."""
    return command.kind == "workflow" and any(True for _ in stored_names_in(command.input))


def _check(spec: TaskSpec, known: Offer) -> None:
    _check_id(spec.session_id, "session_id")
    if spec.queue not in known.queues and ANY_QUEUE not in known.queues:
        names = ", ".join(sorted(known.queues))
        raise Unknown(f"no executor serves the queue {spec.queue!r}; known queues: {names}", field="queue")
    if spec.kind == "workflow":
        for path, kind in kinds_in(spec.input.get("definition")):
            if kind not in known.kinds:
                message = f"no executor runs the kind {kind!r}; known kinds: {_listed(known.kinds)}"
                raise _unknown_kind(message, path, kind)
    for field, value in (("input", spec.input), ("context", spec.context)):
        # A claim gives access to a stored value, so only the gateway itself may write one.
        if "$claim" in value and claimed_digest(value) is not None:
            raise BadRequest("$claim is reserved; send the value itself", field=f"{field}.$claim")


def _unknown_kind(message: str, field: str, kind: str) -> Unknown:
    return Unknown(f"{message}; {_WHEN[kind]}" if kind in _WHEN else message, field=field)


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _check_id(text: str, field: str) -> None:
    # msgspec's pattern lets a line feed at the end through (Python's "$"); it must not reach a header or a key.
    if not is_valid_id(text):
        raise BadRequest("not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field=field)


def _envelope(command: SubmitTask, task_id: str, origin: Origin, reply_to: str) -> Envelope:
    attributes = Attributes(
        id=new_command_id(),
        type=_SUBMIT,
        source=SOURCE,
        tenant_id=origin.caller.tenant_id,
        actor=origin.caller.user_id,
        correlation_id=origin.correlation_id,
        reply_to=reply_to,
        traceparent=origin.traceparent,
        key_id=origin.caller.key_id,
    )
    return Envelope(task_id, command, attributes)


async def put_away(submission: Submission, claims: ClaimSink) -> Submission:
    """The submission with ``input`` and ``context`` over 64 KiB stored and replaced by references.

    Raises:
        BadRequest: a value is over 16 MiB, or one that cannot be put away is over 64 KiB.
    """
    command, spec = submission.envelope.command, submission.spec
    assert isinstance(command, SubmitTask)
    changes: dict[str, Any] = {}
    # A workflow stays whole: its run is folded from the event that holds it.
    for field in ("context",) if is_run(spec.kind) else ("input", "context"):
        value, stored = check_in(getattr(spec, field))
        if stored is not None:
            if len(stored[1]) > MAX_VALUE_BYTES:
                raise BadRequest(f"{len(stored[1])} bytes of JSON, {MAX_VALUE_BYTES} are allowed", field=field)
            await claims.put(stored[1])
            changes[field] = value
    if "context" in changes:
        # The stored context has the model fields in it already; merged again they would spoil the reference.
        changes |= dict.fromkeys(_MERGED, "") | dict.fromkeys(_MERGED_OPTIONAL)
        if spec.kind == GOAL and "model" in spec.input:
            changes["input"] = {**command.input, "model": spec.input["model"]}
    for field in ("metadata", "labels", "tags"):
        try:
            check_size(field, getattr(spec, field))
        except Invalid as invalid:
            raise BadRequest(invalid.message, field=invalid.field) from invalid
    envelope = structs.replace(submission.envelope, command=structs.replace(command, **changes))
    return structs.replace(submission, envelope=envelope)


def failed_with(submission: Submission, error: ErrorInfo) -> Submission:
    """The submission of a task that is recorded and fails at once."""
    command = submission.envelope.command
    assert isinstance(command, SubmitTask)
    envelope = structs.replace(submission.envelope, command=structs.replace(command, fails_with=error))
    return structs.replace(submission, envelope=envelope)


def is_large(body: bytes | msgspec.Raw) -> bool:
    """False when no value in this body can be over the limit for travelling inline."""
    size = len(body) if isinstance(body, bytes) else memoryview(body).nbytes
    return size > CLAIM_OVER_BYTES
