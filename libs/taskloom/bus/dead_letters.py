"""The dead-letter topic: records that could not be applied, why, and sending them again.

A redriven letter is marked by a record of its own, next to it, so no consumer group and no table is needed to know.
"""

from collections.abc import AsyncIterator, Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from taskloom.bus.admin import MAX_LETTER_BYTES
from taskloom.bus.errors import BusError
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.bus.tail import Start, TailConsumer
from taskloom.wire.messages import DeadLetter, Message
from taskloom.wire.topics import Topics, partition_of

MAX_REASON_CHARACTERS: Final = 4096
READ_TIMEOUT_POLLS: Final = 100
MAX_READ: Final = 10_000
MAX_READ_BYTES: Final = 256 * 1024 * 1024

_encoder = msgspec.json.Encoder()


class Redriven(Message, frozen=True, tag="taskloom.dead-letter.redriven.v1"):
    """The letter at ``partition``, ``offset`` of the dead-letter topic was sent to its topic again."""

    partition: int
    offset: int
    at: datetime


_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(DeadLetter | Redriven)


class Filed(msgspec.Struct, frozen=True):
    """A letter and its place in the dead-letter topic; ``redriven_at`` when it was sent again."""

    partition: int
    offset: int
    letter: DeadLetter
    redriven_at: datetime | None = None

    @property
    def place(self) -> str:
        """``partition:offset``, as the command line shows and takes it."""
        return f"{self.partition}:{self.offset}"


def letter_of(record: ConsumerRecord, reason: str, *, field: str = "", at: datetime | None = None) -> DeadLetter:
    """A letter that holds all of ``record``, with the reason cut to 4,096 characters."""
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=at or datetime.now(UTC),
        reason=reason[:MAX_REASON_CHARACTERS],
        field=field,
        key=(record.key or b"").decode("utf-8", "replace"),
        value=record.value or b"",
        headers=tuple((name, content or b"") for name, content in record.headers),
    )


def to_record(letter: DeadLetter, topics: Topics, partitions: int) -> OutRecord:
    """The record that carries a letter; letters of one task share a partition."""
    partition = partition_of(letter.key, partitions)
    return OutRecord(topics.dead_letters, partition, letter.key.encode(), _encoder.encode(letter))


async def bury(publisher: Publisher, letters: Iterable[DeadLetter], topics: Topics, partitions: int) -> None:
    """Returns when the letters are stored. Raises BusUnavailable when Kafka does not acknowledge them in time."""
    records = [to_record(letter, topics, partitions) for letter in letters]
    await publisher.publish(records, max_record_bytes=MAX_LETTER_BYTES)


async def read(bootstrap: str, topics: Topics, partitions: int, *, since: datetime | None = None) -> list[Filed]:
    """Letters from ``since`` (or all that Kafka still has) until now, oldest first.

    Raises:
        BusUnavailable: Kafka did not answer in time.
        BusError: it stopped answering half way, or there are more than 10,000 letters or 256 MiB of them: ask for less.
    """
    held_bytes = 0
    letters: dict[tuple[int, int], Filed] = {}
    redriven: dict[tuple[int, int], datetime] = {}
    async for record in _records(bootstrap, topics, partitions, since or "beginning"):
        try:
            message = _decoder.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # not ours; the topic is open to others
        if isinstance(message, Redriven):
            redriven[message.partition, message.offset] = message.at
        else:
            letters[record.partition, record.offset] = Filed(record.partition, record.offset, message)
            held_bytes += len(message.value)
            if len(letters) > MAX_READ or held_bytes > MAX_READ_BYTES:
                raise BusError(
                    f"over {MAX_READ} dead letters or {MAX_READ_BYTES >> 20} MiB of them: give a later --since"
                )
    found = [msgspec.structs.replace(filed, redriven_at=redriven.get(place)) for place, filed in letters.items()]
    return sorted(found, key=lambda filed: (filed.letter.at, filed.partition, filed.offset))


async def redrive(publisher: Publisher, letters: Collection[Filed], topics: Topics) -> int:
    """Sends letters' records to their topics and partitions again, as they were, and marks the letters; how many.

    A crash between the two sends a record again at the next redrive: commands carry an id, so that changes nothing.
    """
    again = [
        OutRecord(
            filed.letter.topic,
            filed.letter.partition,
            filed.letter.key.encode(),
            filed.letter.value,
            list(filed.letter.headers),
        )
        for filed in letters
    ]
    await publisher.publish(again)
    now = datetime.now(UTC)
    marks = [
        OutRecord(
            topics.dead_letters,
            filed.partition,
            filed.letter.key.encode(),
            _encoder.encode(Redriven(partition=filed.partition, offset=filed.offset, at=now)),
        )
        for filed in letters
    ]
    await publisher.publish(marks)
    return len(again)


async def _records(bootstrap: str, topics: Topics, partitions: int, start: Start) -> AsyncIterator[ConsumerRecord]:
    places = [TopicPartition(topics.dead_letters, number) for number in range(partitions)]
    tail = TailConsumer(bootstrap, places, start=start, client_id="taskloom-dead-letters")
    await tail.start()
    try:
        silent = 0
        while not tail.caught_up:
            batch = await tail.poll(timeout_ms=200)
            silent = 0 if batch else silent + 1
            if silent > READ_TIMEOUT_POLLS:
                raise BusError(
                    f"Kafka at {bootstrap} stopped answering while {topics.dead_letters} was read; try again"
                )
            for records in batch.values():
                for record in records:
                    yield record
    finally:
        await tail.stop()
