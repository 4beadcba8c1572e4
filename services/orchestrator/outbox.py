"""Publishes what was stored, in its order: events, directives to executors, replies.

The event store's notification log is the outbox: after a crash the next owner reads it from the stored position. A
duplicate on the topic is legal (readers drop it by task id and version), a gap is not: a batch is retried until Kafka
has it, and while Kafka is away the queue fills up and holds the command loop back.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

import msgspec
import structlog

from services.orchestrator.batch import Batch
from services.orchestrator.ports import Publishes
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.domain.envelope import Recorded
from taskloom.domain.task.directives import Directive
from taskloom.wire.cloudevents import ORCHESTRATOR_SOURCE, Attributes, to_headers
from taskloom.wire.commands import Envelope, encode_command
from taskloom.wire.messages import DeadLetter, Reply
from taskloom.wire.topics import Topics, partition_of

MAX_QUEUED_BATCHES = 16

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_FIXED = [
    ("ce_specversion", b"1.0"),
    ("content-type", b"application/json"),
    ("ce_source", ORCHESTRATOR_SOURCE.encode()),
]


@lru_cache(maxsize=1024)
def _shared(type_: str, at: datetime, tenant_id: str) -> list[tuple[str, bytes]]:
    """The headers that events of one type, round and tenant share."""
    return [
        *_FIXED,
        ("ce_type", type_.encode()),
        ("ce_time", at.isoformat().encode()),
        ("ce_tenantid", tenant_id.encode()),
    ]


class Records:
    """Makes Kafka records of what leaves the orchestrator; the partition is always explicit."""

    def __init__(self, topics: Topics, partitions: int) -> None:
        self._topics = topics
        self._partitions = partitions
        self._events_topic = topics.events  # made anew at each look

    def event(self, recorded: Recorded, traceparent: str) -> OutRecord:
        meta = recorded.meta
        key = meta.task_id.encode()
        headers = [
            *_shared(recorded.type, meta.at, meta.tenant_id),
            ("ce_id", b"%b/%d" % (key, meta.version)),
            ("ce_subject", key),
        ]
        if traceparent:
            headers.append(("traceparent", traceparent.encode()))
        return OutRecord(self._events_topic, partition_of(meta.task_id, self._partitions), key, recorded.body, headers)

    def directive(self, directive: Directive, traceparent: str) -> OutRecord:
        kind = str(directive.__struct_config__.tag)
        attributes = Attributes(
            id=f"{directive.task_id}/{directive.attempt}/{kind}",
            type=kind,
            source=ORCHESTRATOR_SOURCE,
            subject=directive.task_id,
            traceparent=traceparent,
        )
        partition = partition_of(directive.executor_id, self._partitions)
        key = directive.executor_id.encode()
        return OutRecord(self._topics.assignments, partition, key, _encode(directive), to_headers(attributes))

    def reply(self, reply: Reply, asked: Attributes) -> OutRecord:
        attributes = Attributes(
            id=f"{reply.command_id}/reply",
            type=str(reply.__struct_config__.tag),
            source=ORCHESTRATOR_SOURCE,
            subject=reply.task_id,
            time=reply.at,
            tenant_id=asked.tenant_id,
            correlation_id=asked.correlation_id or asked.id,
            traceparent=asked.traceparent,
        )
        partition = partition_of(asked.reply_to, self._partitions)
        return OutRecord(
            self._topics.replies, partition, asked.reply_to.encode(), _encode(reply), to_headers(attributes)
        )

    def forward(self, envelope: Envelope) -> OutRecord:
        key, value, headers = encode_command(envelope)
        return OutRecord(self._topics.commands, partition_of(envelope.task_id, self._partitions), key, value, headers)

    def dead_letter(self, letter: DeadLetter, now: datetime) -> OutRecord:
        attributes = Attributes(
            id=f"{letter.topic}/{letter.partition}/{letter.offset}",
            type=str(letter.__struct_config__.tag),
            source=ORCHESTRATOR_SOURCE,
            subject=letter.key,
            time=now,
        )
        partition = partition_of(letter.key, self._partitions)
        return OutRecord(
            self._topics.dead_letters, partition, letter.key.encode(), _encode(letter), to_headers(attributes)
        )


@dataclass(slots=True)
class Parcel:
    """Records that leave together; ``positions`` are the log positions published once they are gone, by partition."""

    records: Sequence[OutRecord]
    positions: dict[int, int] = field(default_factory=dict)
    stored_at: float = 0.0


class Outbox:
    """One task that publishes parcels in order.

    Args:
        on_published: called with the positions of each parcel that Kafka has.
    """

    def __init__(self, publisher: Publishes, on_published: Callable[[dict[int, int]], None]) -> None:
        self._publisher = publisher
        self._on_published = on_published
        self._queue: asyncio.Queue[Parcel] = asyncio.Queue(MAX_QUEUED_BATCHES)

    async def put(self, parcel: Parcel) -> None:
        """Takes a parcel; waits while ``MAX_QUEUED_BATCHES`` are on their way."""
        if parcel.records:
            await self._queue.put(parcel)
        elif parcel.positions:
            self._on_published(parcel.positions)

    async def flush(self) -> None:
        """Returns when everything taken so far is published."""
        await self._queue.join()

    async def run(self) -> None:
        while True:
            parcel = await self._queue.get()
            try:
                await self.publish_until_done(parcel.records)
                self._on_published(parcel.positions)
            finally:
                self._queue.task_done()

    async def publish_until_done(self, records: Sequence[OutRecord]) -> None:
        """Returns when Kafka has the records, however long it is away."""
        if not records:
            return
        delay_s = 0.1
        while True:
            try:
                await self._publisher.publish(records)
                return
            except BusUnavailable as error:
                _log.warning("kafka is away, publishing again", error=str(error), records=len(records), delay_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(5.0, delay_s * 2)


def parcel_of(batch: Batch, replies: Sequence[tuple[Reply, Attributes]], records: Records) -> list[OutRecord]:
    """A stored batch as records, events first: whoever gets a reply can already read the events."""
    traces = {name: state.traceparent for name, state in batch.touched.items()}
    leaving = [records.event(recorded, traces.get(recorded.meta.task_id, "")) for recorded in batch.events]
    leaving += [records.directive(directive, traces.get(directive.task_id, "")) for directive in batch.directives]
    leaving += [records.forward(envelope) for envelope in batch.peers]
    leaving += [records.reply(reply, asked) for reply, asked in replies]
    return leaving


def passed_on(batch: Batch, records: Records, now: datetime) -> list[OutRecord]:
    """What no event stands for: forwards and dead letters. It has to be in Kafka before the offset of the record that
    it came from is stored; sent twice after a crash it does no harm (a command is known by its id)."""
    leaving = [records.forward(envelope) for envelope in batch.forwards]
    return leaving + [records.dead_letter(letter, now) for letter in batch.dead_letters]
