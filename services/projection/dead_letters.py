"""Records that cannot be applied, onto the dead-letter topic with the reason."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec
from aiokafka import ConsumerRecord

from services.projection.batch import Poison
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.wire.messages import DeadLetter
from taskloom.wire.topics import Topics, partition_of

MAX_KEPT_BYTES: Final = 1_000_000
"""A larger value is cut: its base64 form must fit into a record, and it is still where ``offset`` says."""

_encode: Final = msgspec.json.Encoder().encode


class DeadLetters(Protocol):
    async def bury(self, poison: Collection[Poison]) -> None:
        """Returns when they are safe in Kafka; raises TaskloomError when they are not."""


class KafkaDeadLetters:
    """Dead letters by way of a publisher."""

    def __init__(self, publisher: Publisher, topics: Topics, partitions: int) -> None:
        self._publisher, self._topic, self._partitions = publisher, topics.dead_letters, partitions

    async def bury(self, poison: Collection[Poison]) -> None:
        await self._publisher.publish([self._record(dead) for dead in poison])

    def _record(self, dead: Poison) -> OutRecord:
        key = (dead.record.key or b"").decode("utf-8", "replace")
        value = _encode(_letter(dead, key))
        return OutRecord(self._topic, partition_of(key, self._partitions), key.encode(), value)


def _letter(dead: Poison, key: str) -> DeadLetter:
    record: ConsumerRecord = dead.record
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=datetime.now(UTC),
        reason=f"projection: {dead.reason}"[:4096],
        field=dead.field,
        key=key,
        value=(record.value or b"")[:MAX_KEPT_BYTES],
        headers=tuple((name, content or b"") for name, content in record.headers),
    )
