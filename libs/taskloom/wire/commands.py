"""Commands to and from Kafka records."""

import re
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import Struct

from taskloom.domain.entities.commands import ENTITY_COMMANDS, EntityCommand, kind_of
from taskloom.domain.entities.ids import entity_id, is_entity_id, parts_of
from taskloom.domain.ids import is_task_id, is_valid_id
from taskloom.domain.task.commands import (
    ClientCommand,
    Command,
    NoteChild,
    PeerCommand,
    Report,
    SubmitTask,
    TaskCommand,
)
from taskloom.wire.cloudevents import ORCHESTRATOR_SOURCE, Attributes, Headers, read, to_headers
from taskloom.wire.errors import WireError

MAX_DEPTH: Final = 100
"""Levels of nesting in a command's JSON. Deeper data would be stored, and then fail who reads it with less stack."""


class Envelope(Struct, frozen=True):
    """A command on its way: which task or entity, what is wished, and by whom."""

    task_id: str
    command: TaskCommand | EntityCommand
    attributes: Attributes


_encoder = msgspec.json.Encoder()
_OF_ENTITIES: Final = frozenset(ENTITY_COMMANDS)
_BRACKETS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_NAMED: Final = re.compile(r"Object (?:contains unknown|missing required) field `([^`]*)`")
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    str(kind.__struct_config__.tag): msgspec.json.Decoder(kind)
    for kind in get_args(ClientCommand) + get_args(PeerCommand) + get_args(Report) + ENTITY_COMMANDS
    if kind is not NoteChild  # it passes only between a run and its steps, in memory
}


def command_type(command: Command) -> str:
    """Public name of a command, for example ``taskloom.task.submit.v1``."""
    return str(command.__struct_config__.tag)


def encode_command(envelope: Envelope) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the record that carries a command."""
    return envelope.task_id.encode(), _encoder.encode(envelope.command), to_headers(envelope.attributes)


def decode_command(key: bytes | None, value: bytes | None, headers: Headers, *, fallback_id: str) -> Envelope:
    """Reads a command record. The task id is the subject, else ``task_id`` of a submission, else the key; for an entity
    subject or key are its name, or its whole id.

    ``fallback_id`` (made from the record's place, so the same after a re-read) stands in for a missing command id, and
    names a submission that came without any id.

    Raises:
        WireError: what is wrong, with the field's path (``priority``, ``ce_type``, ``key``).
    """
    attributes, data = read(headers, value)
    decoder = _DECODERS.get(attributes.type)
    if decoder is None:
        raise WireError(
            f"{attributes.type!r} is not a command; known are: {', '.join(sorted(_DECODERS))}", field="ce_type"
        )
    try:
        command: TaskCommand | EntityCommand = decoder.decode(data or b"{}")
    except msgspec.ValidationError as error:
        raise WireError(str(error), field=faulty_field(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the data is not JSON: {error}", field="$") from error
    if is_too_deep(data):
        raise WireError(f"the data nests deeper than {MAX_DEPTH} levels", field="$")
    if not is_valid_id(attributes.tenant_id):
        raise WireError(f"{attributes.tenant_id!r} is not a tenant id", field="ce_tenantid")
    if type(command) in _OF_ENTITIES:
        task_id = _entity_id(key, attributes, cast(EntityCommand, command))
    else:
        submits = type(command) is SubmitTask
        task_id = _task_id(key, attributes, cast(TaskCommand, command)) or (fallback_id if submits else "")
        of_step = attributes.source == ORCHESTRATOR_SOURCE  # a step's task whose workflow had to be looked up
        if not (is_valid_id if submits and not of_step else is_task_id)(task_id):
            raise WireError(f"{task_id!r} is not a task id (1 to 128 of A-Z a-z 0-9 : _ - .)", field="key")
    if not attributes.id:
        attributes = msgspec.structs.replace(attributes, id=fallback_id)
    return Envelope(task_id, command, attributes)


def _task_id(key: bytes | None, attributes: Attributes, command: TaskCommand) -> str:
    if isinstance(command, SubmitTask) and command.task_id:
        return command.task_id
    return attributes.subject or (key or b"").decode("utf-8", "replace")


def _entity_id(key: bytes | None, attributes: Attributes, command: EntityCommand) -> str:
    named, kind = attributes.subject or (key or b"").decode("utf-8", "replace"), kind_of(command)
    found = named if is_entity_id(named) else entity_id(kind, attributes.tenant_id, named)
    try:
        name = parts_of(found)
    except ValueError as error:
        raise WireError(f"{named!r} is not an id (1 to 128 of A-Z a-z 0-9 : _ - .)", field="ce_subject") from error
    if name[:2] != (kind, attributes.tenant_id):
        raise WireError(f"{named!r} is not a {kind} of this tenant", field="ce_subject")
    return found


def is_too_deep(data: bytes) -> bool:
    """True when valid JSON nests deeper than ``MAX_DEPTH``. Costs two counts of bytes where it has few brackets."""
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for token in _BRACKETS.findall(data):
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
        if depth > MAX_DEPTH:
            return True
    return False


def field_of(error: msgspec.ValidationError) -> str:
    """Path of the faulty value, ``retry.factor``, as msgspec ends its message with it; ``$`` for all of it."""
    _, found, path = str(error).rpartition("at `$.")
    return path.rstrip("`") if found else "$"


def faulty_field(error: msgspec.ValidationError) -> str:
    """Path of the faulty field; that of an unknown or missing one too, which msgspec names in its message alone."""
    named = _NAMED.match(str(error))
    return f"{field_of(error)}.{named[1]}".removeprefix("$.") if named else field_of(error)
