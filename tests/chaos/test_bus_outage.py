"""The broker is killed, or held still, under a publisher and both kinds of consumers: they go on by themselves."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping

import pytest
from aiokafka import TopicPartition

from taskloom.bus.admin import ensure_topics
from taskloom.bus.batches import BatchConsumer, Records, TailConsumer
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.local.kafka import EmbeddedKafka
from taskloom.testing.eventually import eventually
from taskloom.wire.topics import Topics

pytestmark = pytest.mark.chaos

PARTITIONS = 4


class Traffic:
    """Publishes rising numbers for as long as it runs, and notes what a group member and a tail read."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.acknowledged = 0
        self.outages = 0
        self.grouped: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
        self.tailed: dict[int, list[int]] = {number: [] for number in range(PARTITIONS)}
        self.offsets: dict[TopicPartition, int] = {}
        self.publisher = Publisher(bootstrap, "chaos", delivery_timeout_s=4.0)
        self.group = BatchConsumer(
            bootstrap, [topic], f"{topic}.group", on_assigned=self._assigned, on_revoked=self._revoked
        )
        self.tail = TailConsumer(bootstrap, [TopicPartition(topic, number) for number in range(PARTITIONS)])
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        await asyncio.gather(self.publisher.start(), self.tail.start(), self.group.start())
        self._tasks = [asyncio.create_task(loop()) for loop in (self._publish, self._read_group, self._read_tail)]

    async def stop(self) -> None:
        self._stopping.set()
        await asyncio.gather(*self._tasks)
        await asyncio.gather(self.publisher.stop(), self.tail.stop(), self.group.stop())

    def read_all(self) -> bool:
        """True when each reader has every number that was acknowledged."""
        return all(
            set(range(number, self.acknowledged, PARTITIONS)) <= set(read[number])
            for read in (self.grouped, self.tailed)
            for number in range(PARTITIONS)
        )

    def first_seen_in_order(self) -> bool:
        """Doubles are legal, but a number must not be seen before a smaller one of its partition."""
        firsts = [list(dict.fromkeys(values)) for read in (self.grouped, self.tailed) for values in read.values()]
        return all(numbers == sorted(numbers) for numbers in firsts)

    async def _publish(self) -> None:
        while not self._stopping.is_set():
            numbers = range(self.acknowledged, self.acknowledged + 40)
            records = [OutRecord(self.topic, n % PARTITIONS, b"key", b"%d" % n) for n in numbers]
            try:
                await self.publisher.publish(records)
            except BusUnavailable:
                self.outages += 1
                continue
            self.acknowledged += len(records)

    async def _read_group(self) -> None:
        while not self._stopping.is_set():
            records = await self.group.poll()
            self._note(self.grouped, records)
            for place, batch in records.items():
                self.offsets[place] = batch[-1].offset + 1

    async def _read_tail(self) -> None:
        while not self._stopping.is_set():
            self._note(self.tailed, await self.tail.poll())

    def _note(self, read: dict[int, list[int]], records: Records) -> None:
        for place, batch in records.items():
            read[place.partition] += [int(record.value or b"") for record in batch]

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {place: self.offsets.get(place, 0) for place in partitions}

    async def _revoked(self, partitions: frozenset[TopicPartition]) -> None:
        return


@pytest.fixture
async def traffic(kafka_bootstrap: str, topic_prefix: str) -> AsyncIterator[Traffic]:
    await ensure_topics(kafka_bootstrap, topic_prefix, PARTITIONS)
    traffic = Traffic(kafka_bootstrap, Topics(topic_prefix).events)
    await traffic.start()
    await eventually(lambda: traffic.acknowledged > 400 and min(map(len, traffic.grouped.values())) > 0)
    yield traffic
    await traffic.stop()


async def more_than(traffic: Traffic, count: int) -> None:
    await eventually(lambda: traffic.acknowledged > count, timeout_s=60.0)


async def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(
    embedded_kafka: EmbeddedKafka, traffic: Traffic
) -> None:
    embedded_kafka.kill()
    await eventually(lambda: traffic.outages > 0, timeout_s=30.0)
    await embedded_kafka.start()
    await more_than(traffic, traffic.acknowledged + 2000)
    await eventually(traffic.read_all, timeout_s=60.0)
    assert traffic.first_seen_in_order()


async def test_nothing_acknowledged_is_lost_when_the_broker_stands_still(
    embedded_kafka: EmbeddedKafka, traffic: Traffic
) -> None:
    assert embedded_kafka.pid is not None
    os.kill(embedded_kafka.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: traffic.outages > 1, timeout_s=40.0)
    finally:
        os.kill(embedded_kafka.pid, signal.SIGCONT)
    await more_than(traffic, traffic.acknowledged + 2000)
    await eventually(traffic.read_all, timeout_s=60.0)
    assert traffic.first_seen_in_order()
