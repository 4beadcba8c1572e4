"""Records of one poll, read: events by task, chunks, heartbeats, and what cannot be read."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from msgspec import Struct, field

from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.envelope import Recorded
from taskloom.wire.errors import WireError
from taskloom.wire.messages import AuditEntry, ExecutorHeartbeat, OrchestratorHeartbeat, OutputChunk
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import Topics

Records = Mapping[TopicPartition, list[ConsumerRecord]]

_chunks: Final = msgspec.json.Decoder(OutputChunk)
_audit: Final = msgspec.json.Decoder(AuditEntry)
_heartbeats: Final = msgspec.json.Decoder(ExecutorHeartbeat | OrchestratorHeartbeat)


class Poison(Struct, frozen=True):
    """A record that cannot be applied, and why."""

    record: ConsumerRecord
    reason: str
    field: str = ""


class Arrived(Struct, frozen=True):
    """An event with the record that brought it."""

    recorded: Recorded
    record: ConsumerRecord


class Batch(Struct):
    """What a poll brought, in the order of its records. ``events`` are those of tasks, ``entities`` those of other
    aggregates. Heartbeats: the last of each executor; None is a tombstone."""

    events: list[Arrived] = field(default_factory=list)
    entities: list[Arrived] = field(default_factory=list)
    chunks: list[OutputChunk] = field(default_factory=list)
    heartbeats: dict[str, ExecutorHeartbeat | None] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    poison: list[Poison] = field(default_factory=list)


def read_batch(records: Records, topics: Topics) -> Batch:
    """Never raises: a record that cannot be read stands in ``poison``."""
    batch = Batch()
    readers: dict[str, Callable[[Batch, ConsumerRecord], None]] = {
        topics.events: _read_event,
        topics.outputs: _read_chunk,
        topics.executors: _read_heartbeat,
        topics.audit: _read_audit,
    }
    for place, arrived in records.items():
        read = readers[place.topic]
        for record in arrived:
            try:
                read(batch, record)
            except WireError as error:
                batch.poison.append(Poison(record, error.message, error.field))
            except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
                batch.poison.append(Poison(record, str(error)))
    return batch


def _read_event(batch: Batch, record: ConsumerRecord) -> None:
    arrived = Arrived(unseal(record.value or b""), record)
    (batch.entities if is_entity_id(arrived.recorded.task_id) else batch.events).append(arrived)


def _read_chunk(batch: Batch, record: ConsumerRecord) -> None:
    chunk = _chunks.decode(record.value or b"")
    if not 0 < chunk.seq < 2**63 or not 0 < chunk.attempt < 2**31 or "\x00" in chunk.task_id:
        raise WireError(f"chunk {chunk.seq} of attempt {chunk.attempt} cannot be", field="seq")
    if chunk.at.tzinfo is None:
        raise WireError("the time has no zone", field="at")
    batch.chunks.append(chunk)


def _read_audit(batch: Batch, record: ConsumerRecord) -> None:
    entry = _audit.decode(record.value or b"")
    if entry.at.tzinfo is None or not -(2**31) <= entry.status < 2**31:
        raise WireError("the time has no zone, or the status is none", field="at")
    if "\x00" in "".join(
        (entry.tenant_id, entry.id, entry.user_id, entry.key_id, entry.method, entry.route, entry.task_id)
    ):
        raise WireError("a text has a character 0 in it", field="id")
    batch.audit.append(entry)


def _read_heartbeat(batch: Batch, record: ConsumerRecord) -> None:
    key = (record.key or b"").decode()
    heartbeat = None if record.value is None else _heartbeats.decode(record.value)
    if isinstance(heartbeat, OrchestratorHeartbeat):
        return  # on the same topic, of no interest here
    batch.heartbeats[heartbeat.executor_id if heartbeat is not None else key] = heartbeat


def flat(records: Records) -> Iterator[ConsumerRecord]:
    for arrived in records.values():
        yield from arrived


def halves(records: Records) -> list[dict[TopicPartition, list[Any]]]:
    """The same records in two parts, order within a partition kept; for finding the one that cannot be applied."""
    places = list(records)
    if len(places) > 1:
        middle = len(places) // 2
        return [{tp: list(records[tp]) for tp in part} for part in (places[:middle], places[middle:])]
    [(only, arrived)] = records.items()
    middle = len(arrived) // 2
    return [{only: arrived[:middle]}, {only: arrived[middle:]}]
