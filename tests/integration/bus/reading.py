"""Collecting what is on a topic."""

from collections import defaultdict
from collections.abc import Callable

from aiokafka import TopicPartition

from taskloom.bus.batches import BatchConsumer, Records, TailConsumer
from taskloom.testing.eventually import eventually


def places(topic: str, partitions: int = 4) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in range(partitions)]


class Collector:
    """Polls a consumer and keeps the values it gave, by partition, in order."""

    def __init__(self, consumer: BatchConsumer | TailConsumer) -> None:
        self.consumer = consumer
        self.values: dict[int, list[bytes | None]] = defaultdict(list)

    async def poll(self) -> Records:
        records = await self.consumer.poll(timeout_ms=100)
        for place, batch in records.items():
            self.values[place.partition] += [record.value for record in batch]
        return records

    @property
    def count(self) -> int:
        return sum(map(len, self.values.values()))

    async def until(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        async def probe() -> bool:
            await self.poll()
            return bool(condition())

        await eventually(probe, timeout_s=timeout_s, interval_s=0)
