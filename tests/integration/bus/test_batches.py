import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from taskloom.bus.batches import BatchConsumer
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.testing.eventually import eventually
from taskloom.wire.topics import Topics
from tests.integration.bus.reading import Collector, places

pytestmark = pytest.mark.integration


class Member:
    """A group member with its offsets in a dictionary that the members share, as they share a database."""

    def __init__(self, bootstrap: str, topics: Topics, offsets: dict[TopicPartition, int], **options: Any) -> None:
        self.offsets = offsets
        self.revoked: list[frozenset[TopicPartition]] = []
        self.lost: list[tuple[TopicPartition, int, int]] = []
        self.fault: Exception | None = None
        self.consumer = BatchConsumer(
            bootstrap, [topics.commands], f"{topics.prefix}.group", on_assigned=self.assign, on_revoked=self.revoke,
            on_lost=lambda place, wanted, found: self.lost.append((place, wanted, found)), **options,
        )  # fmt: skip
        self.collector = Collector(self.consumer)

    async def assign(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        if self.fault is not None:
            raise self.fault
        return {place: self.offsets[place] for place in partitions if place in self.offsets}

    async def revoke(self, partitions: frozenset[TopicPartition]) -> None:
        self.revoked.append(partitions)

    async def until(self, condition: Callable[[], object]) -> None:
        """Polls, and stores how far it came, until the condition is met."""

        async def probe() -> bool:
            for place, batch in (await self.collector.poll()).items():
                self.offsets[place] = batch[-1].offset + 1
            return bool(condition())

        await eventually(probe, timeout_s=60.0, interval_s=0)

    async def until_read(self, count: int) -> None:
        await self.until(lambda: self.collector.count >= count)

    async def until_owning(self, count: int) -> None:
        await self.until(lambda: len(self.consumer.assigned) == count)


Join = Callable[..., Coroutine[Any, Any, Member]]


@pytest.fixture
async def join(kafka_bootstrap: str, topics: Topics) -> AsyncIterator[Join]:
    members: list[Member] = []
    offsets: dict[TopicPartition, int] = {}

    async def join(**options: Any) -> Member:
        member = Member(kafka_bootstrap, topics, offsets, **options)
        members.append(member)
        await member.consumer.start()
        return member

    yield join
    await asyncio.gather(*(member.consumer.stop() for member in members))


async def fill(publisher: Publisher, topics: Topics, numbers: range) -> None:
    await publisher.publish([OutRecord(topics.commands, n % 4, b"key", b"%d" % n) for n in numbers])


async def test_reading_begins_at_the_offset_of_ours(join: Join, publisher: Publisher, topics: Topics) -> None:
    await fill(publisher, topics, range(40))
    member = await join()
    member.offsets.update(dict.fromkeys(places(topics.commands)[:2], 7))
    await member.until_read(26)
    assert member.collector.values[0] == [b"%d" % n for n in range(28, 40, 4)]
    assert member.collector.values[3] == [b"%d" % n for n in range(3, 40, 4)]


async def test_a_batch_is_no_larger_than_asked(join: Join, publisher: Publisher, topics: Topics) -> None:
    await fill(publisher, topics, range(400))
    member = await join(max_records=50)
    sizes: list[int] = []
    while sum(sizes) < 400:
        sizes.append(sum(map(len, (await member.collector.poll()).values())))
    assert max(sizes) == 50


async def test_partitions_move_to_a_new_member_and_back_without_loss(
    join: Join, publisher: Publisher, topics: Topics
) -> None:
    one = await join()
    await one.until_owning(4)
    await fill(publisher, topics, range(100))
    await one.until_read(100)
    joining = asyncio.create_task(join())
    await one.until_owning(2)
    two = await joining
    await asyncio.gather(one.until_owning(2), two.until_owning(2))
    assert one.consumer.assigned.isdisjoint(two.consumer.assigned)
    assert one.revoked == [frozenset(places(topics.commands))]
    await fill(publisher, topics, range(100, 200))
    await asyncio.gather(one.until_read(150), two.until_read(50))
    places_of_two = two.consumer.assigned
    await two.consumer.stop()
    assert two.revoked == [places_of_two]
    await one.until_owning(4)
    await fill(publisher, topics, range(200, 240))
    await one.until_read(190)
    seen = [value for member in (one, two) for values in member.collector.values.values() for value in values]
    assert sorted(int(value or b"") for value in seen) == list(range(240))


async def test_a_fault_of_on_assigned_comes_out_of_poll_and_is_tried_again(
    join: Join, publisher: Publisher, topics: Topics
) -> None:
    await fill(publisher, topics, range(4))
    member = await join()
    member.fault = ConnectionError("the database is away")
    with pytest.raises(ConnectionError, match="the database is away"):
        await member.until(lambda: False)
    member.fault = None
    await member.until_read(4)


async def test_an_offset_that_retention_passed_is_reported_and_reading_goes_on(
    kafka_bootstrap: str, join: Join, publisher: Publisher, topics: Topics
) -> None:
    await fill(publisher, topics, range(40))
    first = places(topics.commands)[0]
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await admin.start()
    await admin.delete_records({first: RecordsToDelete(before_offset=6)})
    await admin.close()
    member = await join()
    member.offsets[first] = 2
    await member.until_read(34)
    assert member.lost == [(first, 2, 6)]
    assert member.collector.values[0] == [b"%d" % n for n in range(24, 40, 4)]


async def test_seeking_back_reads_a_batch_again(join: Join, publisher: Publisher, topics: Topics) -> None:
    await fill(publisher, topics, range(8))
    member = await join()
    await member.until_read(8)
    member.consumer.seek(places(topics.commands)[1], 1)
    await member.until_read(9)
    assert member.collector.values[1] == [b"1", b"5", b"5"]


async def test_paused_partitions_wait_while_others_go_on(join: Join, publisher: Publisher, topics: Topics) -> None:
    member = await join()
    await member.until_owning(4)
    held = places(topics.commands)[:1]
    member.consumer.pause(held)
    await fill(publisher, topics, range(40))
    await member.until_read(30)
    assert member.collector.values[0] == []
    member.consumer.resume(held)
    await member.until_read(40)


async def test_what_is_behind_is_known(join: Join, publisher: Publisher, topics: Topics) -> None:
    await fill(publisher, topics, range(400))
    member = await join(max_records=40)
    await member.until_read(40)
    assert 0 < sum(member.consumer.behind().values()) <= 360
    await member.until_read(400)
    assert sum(member.consumer.behind().values()) == 0


@pytest.mark.parametrize("task", ["_heartbeat_task", "_coordination_task", "_fetch_task"])
async def test_a_consumer_with_a_dead_background_task_is_replaced(
    join: Join, publisher: Publisher, topics: Topics, task: str
) -> None:
    member = await join()
    await member.until_owning(4)
    inner: Any = member.consumer._consumer
    owner = inner._fetcher if task == "_fetch_task" else inner._coordinator
    getattr(owner, task).cancel()

    async def broken() -> None:
        raise RuntimeError("broken on purpose")

    dead = asyncio.create_task(broken())
    await asyncio.wait({dead})
    setattr(owner, task, dead)
    await fill(publisher, topics, range(8))
    await member.until_read(8)
    assert member.consumer._consumer is not inner
