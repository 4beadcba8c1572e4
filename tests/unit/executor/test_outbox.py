"""The outbox: order, bounds, and patience with Kafka."""

import asyncio
from collections.abc import Sequence

import pytest

from services.executor import outbox as module
from services.executor.outbox import Outbox
from taskloom.bus.errors import BusUnavailable, TooLarge
from taskloom.bus.publish import OutRecord


class Kafka:
    """Fails ``failures`` times, then takes records; refuses those over ``limit`` bytes for good."""

    def __init__(self, failures: int = 0, limit: int = 1_000_000) -> None:
        self.failures = failures
        self.limit = limit
        self.batches: list[list[OutRecord]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise BusUnavailable
        if any(len(record.value or b"") > self.limit for record in records):
            raise TooLarge
        self.batches.append(list(records))

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for batch in self.batches for record in batch]


def record(value: bytes) -> OutRecord:
    return OutRecord("topic", 0, b"key", value)


def outbox(kafka: Kafka, max_records: int = 100, max_bytes: int = 10_000) -> Outbox:
    return Outbox(kafka, name="reports", max_records=max_records, max_bytes=max_bytes)


async def finish(box: Outbox) -> None:
    box.close()
    await asyncio.wait_for(box.run(), 60)


async def test_records_put_together_leave_together_and_in_order() -> None:
    kafka = Kafka()
    box = outbox(kafka)
    for number in range(5):
        box.put(record(b"%d" % number))
    await finish(box)
    assert [len(batch) for batch in kafka.batches] == [5]
    assert kafka.values == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_record_is_kept_and_sent_again_until_kafka_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    kafka = Kafka(failures=4)
    box = outbox(kafka)
    acknowledged: list[str] = []
    box.put(record(b"a"), lambda: acknowledged.append("a"))
    box.put(record(b"b"), lambda: acknowledged.append("b"))
    await finish(box)
    assert kafka.values == [b"a", b"b"]
    assert acknowledged == ["a", "b"]


async def test_done_is_not_called_before_kafka_has_the_record() -> None:
    kafka = Kafka()
    kafka.gate.clear()
    box = outbox(kafka)
    acknowledged = asyncio.Event()
    box.put(record(b"a"), acknowledged.set)
    running = asyncio.create_task(box.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not acknowledged.is_set()
    kafka.gate.set()
    await asyncio.wait_for(acknowledged.wait(), 60)
    box.close()
    await running


@pytest.mark.parametrize(("max_records", "max_bytes"), [(3, 10_000), (100, 30)])
async def test_a_full_outbox_holds_writers_back_until_kafka_has_taken_some(max_records: int, max_bytes: int) -> None:
    kafka = Kafka()
    kafka.gate.clear()
    box = outbox(kafka, max_records, max_bytes)
    for _ in range(3):
        assert not box.is_full
        box.put(record(b"0123456789"))
    assert box.is_full
    waiting = asyncio.create_task(box.room())
    running = asyncio.create_task(box.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    kafka.gate.set()
    await asyncio.wait_for(waiting, 60)
    assert len(box) < max_records
    box.close()
    await running


async def test_a_record_that_kafka_never_takes_does_not_stand_in_the_way_of_the_others() -> None:
    kafka = Kafka(limit=5)
    box = outbox(kafka)
    for value in (b"a", b"b", b"too large", b"c"):
        box.put(record(value))
    await finish(box)
    assert kafka.values == [b"a", b"b", b"c"]
    assert len(box) == 0
