"""An event with its envelope, and its bytes: the same JSON in the store and on the events topic.

The JSON is flat: the envelope's fields, then ``type`` and the event's own, then ``hash``::

    {"task_id": "t", "version": 2, "at": "…Z", "tenant_id": "default", "type": "taskloom.task.queued.v1", "hash": "…"}

An event of an aggregate that is no task has ``entity_id`` in the place of ``task_id``.

``hash`` is the SHA-256, in hex, over the previous event's hash (32 bytes, zeros before the first) and the bytes of this
JSON without the ``hash`` field. So the chain is checked over the bytes as stored; nothing is encoded anew.
"""

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, cast, get_args

import msgspec
from msgspec import Struct, structs

from taskloom.domain.entities.events import ENTITY_EVENTS, EntityEvent
from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.envelope import EventMeta, Recorded
from taskloom.domain.task.events import Event, TaskEvent
from taskloom.wire.errors import WireError
from taskloom.wire.upcast import upcast

__all__ = ["GENESIS", "EventMeta", "Recorded", "chain_fault", "digest_of", "event_type", "link", "seal", "unseal"]

GENESIS: Final = bytes(32)
_ENTITY_OPEN: Final = b'{"entity_id":'
_HASH_OPEN: Final = b',"hash":"'
_HASH_BYTES: Final = len(_HASH_OPEN) + 64 + 2


AnyEvent = TaskEvent | EntityEvent


class EntityMeta(Struct, frozen=True, omit_defaults=True):
    """The envelope of an entity's event, as JSON."""

    entity_id: str
    version: int
    at: datetime
    tenant_id: str
    command_id: str = ""
    actor: str = ""


_encoder = msgspec.json.Encoder()
_meta_decoder = msgspec.json.Decoder(EventMeta)
_entity_meta_decoder = msgspec.json.Decoder(EntityMeta)
_event_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)
# Looked up once a type: msgspec makes `__struct_config__` anew at every access.
_NAMES: Final[dict[type[Event], str]] = {
    kind: str(kind.__struct_config__.tag) for kind in (*get_args(TaskEvent), *ENTITY_EVENTS)
}


def event_type(event: Event) -> str:
    """Public name of an event, for example ``taskloom.task.queued.v1``."""
    return _NAMES[type(event)]


def seal(event: AnyEvent, meta: EventMeta, previous: bytes) -> Recorded:
    """Bytes and hash of a new event; ``previous`` is the digest of the event before it, or ``GENESIS``."""
    envelope = EntityMeta(*structs.astuple(meta)) if is_entity_id(meta.task_id) else meta
    unsealed = _encoder.encode(envelope)[:-1] + b"," + _encoder.encode(event)[1:]
    digest = sha256(previous + unsealed).digest()
    body = unsealed[:-1] + _HASH_OPEN + digest.hex().encode() + b'"}'
    return Recorded(meta, cast(TaskEvent, event), event_type(event), body, digest)


def unseal(body: bytes) -> Recorded:
    """Reads stored or published bytes; older event types come out as today's form.

    Raises:
        WireError: the bytes are no event of ours.
    """
    try:
        meta = _meta_of(body)
        try:
            event = _event_decoder.decode(body)
        except msgspec.ValidationError:
            event = msgspec.convert(upcast(msgspec.json.decode(body)), AnyEvent)
        return Recorded(meta, event, event_type(event), body, digest_of(body))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"not an event: {error}") from error


def _meta_of(body: bytes) -> EventMeta:
    if body.startswith(_ENTITY_OPEN):
        return EventMeta(*structs.astuple(_entity_meta_decoder.decode(body)))
    return _meta_decoder.decode(body)


def digest_of(body: bytes) -> bytes:
    """The hash that the event's bytes claim to have (use ``chain_fault`` to check it).

    Raises:
        WireError: the bytes carry no hash.
    """
    tail = body[-_HASH_BYTES:]
    if not tail.startswith(_HASH_OPEN):
        raise WireError("not an event: no hash at its end", field="hash")
    return bytes.fromhex(tail[len(_HASH_OPEN) : -2].decode())


def link(body: bytes, previous: bytes) -> bytes:
    """The hash that these bytes must have after ``previous``."""
    return sha256(previous + body[:-_HASH_BYTES] + b"}").digest()


def chain_fault(bodies: Iterable[bytes], previous: bytes = GENESIS, first_version: int = 1) -> str | None:
    """What is wrong with a task's stored events in order: a missing, moved or changed one; None when all is well."""
    for version, body in enumerate(bodies, start=first_version):
        try:
            stored, claimed = _meta_of(body).version, digest_of(body)
        except (msgspec.MsgspecError, WireError, ValueError) as error:
            return f"event {version} cannot be read: {error}"
        if stored != version:
            return f"event {version} is missing: version {stored} stands in its place"
        if link(body, previous) != claimed:
            return f"event {version} does not match its hash: it or the one before it was changed"
        previous = claimed
    return None
