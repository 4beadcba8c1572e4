"""Commands to Kafka."""

from collections.abc import Sequence
from typing import Protocol

from taskloom.bus.publish import OutRecord
from taskloom.wire.commands import Envelope, encode_command
from taskloom.wire.topics import Topics, partition_of


class RecordPublisher(Protocol):
    async def publish(self, records: Sequence[OutRecord]) -> None: ...


class CommandSender:
    """Sends commands to the partition of their task; ``publish`` returns when Kafka has them all (acks=all)."""

    def __init__(self, publisher: RecordPublisher, topics: Topics, partitions: int) -> None:
        self._publisher = publisher
        self._topic = topics.commands
        self._partitions = partitions

    async def send(self, envelopes: Sequence[Envelope]) -> None:
        """Raises what the publisher raises: BusUnavailable, TooLarge."""
        await self._publisher.publish([self._record(envelope) for envelope in envelopes])

    def _record(self, envelope: Envelope) -> OutRecord:
        key, value, headers = encode_command(envelope)
        return OutRecord(self._topic, partition_of(envelope.task_id, self._partitions), key, value, headers)
