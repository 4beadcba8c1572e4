from datetime import UTC, datetime

import msgspec
import pytest
from aiokafka import ConsumerRecord

from taskloom.bus.admin import TOPICS
from taskloom.bus.dead_letters import letter_of, to_record
from taskloom.bus.errors import BusUnavailable, TooLarge
from taskloom.bus.publish import MAX_RECORD_BYTES, OutRecord, Publisher
from taskloom.wire.messages import DeadLetter
from taskloom.wire.topics import Topics, partition_of

AT = datetime(2026, 1, 1, tzinfo=UTC)


def consumed(key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...] = ()) -> ConsumerRecord:
    return ConsumerRecord("taskloom.commands", 3, 42, 0, 0, key, value, None, 0, 0, headers)


def test_a_letter_keeps_the_whole_record() -> None:
    letter = letter_of(consumed(b"task-1", b"\xff{", (("ce_type", b"x"),)), "not JSON", field="$", at=AT)
    assert letter == DeadLetter(
        topic="taskloom.commands", partition=3, offset=42, at=AT, reason="not JSON", field="$", key="task-1",
        value=b"\xff{", headers=(("ce_type", b"x"),),
    )  # fmt: skip


def test_a_record_without_key_and_value_makes_a_letter_too() -> None:
    letter = letter_of(consumed(None, None), "empty", at=AT)
    assert (letter.key, letter.value) == ("", b"")


def test_letters_of_one_task_share_a_partition_and_read_back() -> None:
    letter = letter_of(consumed(b"task-1", b"{}"), "x" * 10_000, at=AT)
    record = to_record(letter, Topics("t"), 8)
    assert (record.topic, record.partition, record.key) == ("t.dead-letters", partition_of("task-1", 8), b"task-1")
    assert msgspec.json.decode(record.value or b"", type=DeadLetter) == letter
    assert len(letter.reason) == 4096


async def test_a_record_that_is_too_large_is_named_before_anything_is_sent() -> None:
    publisher = Publisher("127.0.0.1:1", "test")
    publisher._closed = False
    with pytest.raises(TooLarge, match=r"b'task-1' for t.commands has \d+ bytes"):
        await publisher.publish([OutRecord("t.commands", 0, b"task-1", b"x" * MAX_RECORD_BYTES)])
    with pytest.raises(TooLarge):
        await publisher.publish(
            [OutRecord("t.commands", 0, b"k", b"x" * (MAX_RECORD_BYTES - 500), [("h", b"y" * 500)])]
        )


async def test_publishing_nothing_needs_no_broker() -> None:
    await Publisher("127.0.0.1:1", "test").publish([])


async def test_a_publisher_that_was_not_started_says_so() -> None:
    with pytest.raises(BusUnavailable, match="not started"):
        await Publisher("127.0.0.1:1", "test").publish([OutRecord("t", 0, b"k", b"v")])


def test_every_topic_of_the_wire_is_made() -> None:
    names = {name for name in vars(Topics) if isinstance(getattr(Topics, name), property)}
    assert set(TOPICS) == names
