from datetime import UTC, datetime

import pytest

from taskloom.bus.batches import TailConsumer
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.testing.eventually import eventually
from taskloom.wire.topics import Topics
from tests.integration.bus.reading import Collector, places

pytestmark = pytest.mark.integration


async def publish(publisher: Publisher, topic: str, numbers: range) -> None:
    await publisher.publish([OutRecord(topic, n % 4, b"key-%d" % n, b"%d" % n) for n in numbers])


async def test_from_the_end_only_what_comes_after_start_is_read(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    await publish(publisher, topics.events, range(20))
    collector = Collector(TailConsumer(kafka_bootstrap, places(topics.events)))
    await collector.consumer.start()
    await publish(publisher, topics.events, range(20, 24))
    await collector.until(lambda: collector.count >= 4)
    assert sorted(value or b"" for values in collector.values.values() for value in values) == [
        b"20",
        b"21",
        b"22",
        b"23",
    ]
    await collector.consumer.stop()


async def test_from_the_beginning_it_knows_when_it_has_read_all(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    await publish(publisher, topics.executors, range(100))
    tail = TailConsumer(kafka_bootstrap, places(topics.executors), start="beginning", max_records=30)
    collector = Collector(tail)
    await tail.start()
    assert not tail.caught_up
    await collector.until(lambda: tail.caught_up)
    assert collector.count == 100
    await tail.stop()


async def test_an_empty_topic_is_read_at_once(kafka_bootstrap: str, topics: Topics) -> None:
    tail = TailConsumer(kafka_bootstrap, places(topics.executors), start="beginning")
    await tail.start()
    assert tail.caught_up
    await tail.stop()


async def test_from_a_moment_on(kafka_bootstrap: str, publisher: Publisher, topics: Topics) -> None:
    await publish(publisher, topics.events, range(4))
    between = await eventually(lambda: datetime.now(UTC))
    await eventually(lambda: (datetime.now(UTC) - between).total_seconds() > 0.01)
    await publish(publisher, topics.events, range(4, 8))
    collector = Collector(
        TailConsumer(
            kafka_bootstrap, places(topics.events), start=datetime.fromtimestamp(between.timestamp() + 0.005, UTC)
        )
    )
    await collector.consumer.start()
    await collector.until(lambda: collector.count >= 4)
    assert sorted(value or b"" for values in collector.values.values() for value in values) == [b"4", b"5", b"6", b"7"]
    await collector.consumer.stop()


async def test_from_offsets_on_of_some_partitions_alone(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    await publish(publisher, topics.events, range(16))
    first, second = places(topics.events)[:2]
    collector = Collector(TailConsumer(kafka_bootstrap, [first, second], start={first: 1, second: 3}))
    await collector.consumer.start()
    await collector.until(lambda: collector.count >= 4)
    assert collector.values == {0: [b"4", b"8", b"12"], 1: [b"13"]}
    await collector.consumer.stop()


async def test_after_a_stop_it_starts_anew_from_the_end(
    kafka_bootstrap: str, publisher: Publisher, topics: Topics
) -> None:
    collector = Collector(TailConsumer(kafka_bootstrap, places(topics.events)))
    await collector.consumer.start()
    await collector.consumer.stop()
    await publish(publisher, topics.events, range(4))
    await collector.consumer.start()
    await publish(publisher, topics.events, range(4, 8))
    await collector.until(lambda: collector.count >= 4)
    assert collector.values[0] == [b"4"]
    await collector.consumer.stop()


async def test_a_topic_that_does_not_exist_is_said_within_the_time_limit(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    tail = TailConsumer(kafka_bootstrap, places(f"{topic_prefix}.nowhere"))
    with pytest.raises(BusUnavailable, match=r"nowhere at .* within 1 s"):
        await tail.start(timeout_s=1.0)


async def test_polling_before_start_is_an_error(kafka_bootstrap: str, topics: Topics) -> None:
    with pytest.raises(BusUnavailable, match="not started"):
        await TailConsumer(kafka_bootstrap, places(topics.events)).poll()
