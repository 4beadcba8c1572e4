import asyncio

import pytest

from taskloom.bus.batches import Records, TailConsumer
from taskloom.bus.errors import BusError, BusUnavailable
from taskloom.bus.publish import MAX_RECORD_BYTES, OutRecord, Publisher
from taskloom.wire.topics import Topics
from tests.integration.bus.reading import Collector, places

pytestmark = pytest.mark.integration


def record(topic: str, number: int, partition: int | None = None, size: int = 0) -> OutRecord:
    value = b"%d" % number
    return OutRecord(topic, number % 4 if partition is None else partition, b"key", value.ljust(size))


async def read(kafka_bootstrap: str, topic: str, count: int) -> dict[int, list[bytes | None]]:
    collector = Collector(TailConsumer(kafka_bootstrap, places(topic), start="beginning"))
    await collector.consumer.start()
    try:
        await collector.until(lambda: collector.count >= count)
    finally:
        await collector.consumer.stop()
    return collector.values


async def test_records_keep_their_order_within_a_partition(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    calls = [publisher.publish([record(topics.events, start + i) for i in range(100)]) for start in range(0, 2000, 100)]
    await asyncio.gather(*calls)
    values = await read(kafka_bootstrap, topics.events, 2000)
    for partition in range(4):
        assert values[partition] == [b"%d" % number for number in range(partition, 2000, 4)]


async def test_a_call_larger_than_a_batch_arrives_whole_and_in_order(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    await publisher.publish([record(topics.events, number, partition=1, size=20_000) for number in range(200)])
    values = await read(kafka_bootstrap, topics.events, 200)
    assert [int(value or b"") for value in values[1]] == list(range(200))


async def test_the_largest_record_is_taken(kafka_bootstrap: str, publisher: Publisher, topics: Topics) -> None:
    value = b"x" * (MAX_RECORD_BYTES - 1000)
    await publisher.publish([OutRecord(topics.commands, 0, b"key", value)])
    values = await read(kafka_bootstrap, topics.commands, 1)
    assert values[0] == [value]


async def test_headers_and_keys_arrive_as_sent(kafka_bootstrap: str, publisher: Publisher, topics: Topics) -> None:
    await publisher.publish([OutRecord(topics.commands, 2, b"task-1", b"{}", [("ce_type", b"x"), ("ce_id", b"1")])])
    tail = TailConsumer(kafka_bootstrap, places(topics.commands), start="beginning")
    await tail.start()
    found: Records = {}
    while not found:
        found = await tail.poll()
    await tail.stop()
    ((got,),) = found.values()
    assert (got.key, got.partition, list(got.headers)) == (b"task-1", 2, [("ce_type", b"x"), ("ce_id", b"1")])


async def test_memory_is_bounded_and_waiting_calls_still_go(kafka_bootstrap: str, topics: Topics) -> None:
    publisher = Publisher(kafka_bootstrap, "test", max_queued_bytes=50_000)
    await publisher.start()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, publisher._queued_bytes)
            await asyncio.sleep(0)

    watcher = asyncio.create_task(watch())
    calls = [publisher.publish([record(topics.events, n, size=10_000)]) for n in range(100)]
    await asyncio.gather(*calls)
    watcher.cancel()
    await publisher.stop()
    assert 0 < most <= 50_000


async def test_a_partition_that_does_not_exist_is_named(publisher: Publisher, topics: Topics) -> None:
    with pytest.raises(BusError, match=f"{topics.events} has 4 partitions, so none numbered 9"):
        await publisher.publish([record(topics.events, 1, partition=9)])


async def test_no_broker_at_start_is_said_within_the_time_limit() -> None:
    publisher = Publisher("127.0.0.1:1", "test")
    with pytest.raises(BusUnavailable, match=r"Kafka at 127.0.0.1:1 did not answer within 0.5 s"):
        await publisher.start(timeout_s=0.5)


async def test_ping_answers_while_connected(publisher: Publisher) -> None:
    await publisher.ping()


async def test_what_waits_is_sent_before_the_publisher_closes(kafka_bootstrap: str, topics: Topics) -> None:
    publisher = Publisher(kafka_bootstrap, "test")
    await publisher.start()
    call = asyncio.create_task(publisher.publish([record(topics.events, n) for n in range(1000)]))
    await asyncio.sleep(0)
    await publisher.stop()
    await call
    assert sum(map(len, (await read(kafka_bootstrap, topics.events, 1000)).values())) == 1000


async def test_a_topic_that_does_not_exist_is_named(publisher: Publisher, topics: Topics) -> None:
    with pytest.raises(BusError, match=rf"{topics.prefix}.nowhere does not exist; `taskloom topics`"):
        await publisher.publish([record(f"{topics.prefix}.nowhere", 1)])
