"""Cutting and joining of output."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.outbox import Outbox
from services.executor.output import CHUNK_BYTES, OutputWriter, cut, incomplete_tail
from taskloom.bus.publish import OutRecord
from taskloom.domain.values import OUTPUT_SEQ_SPAN
from taskloom.wire.messages import OutputChunk


class Sink:
    """Takes all records at once."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []

    async def publish(self, records: Sequence[OutRecord]) -> None:
        self.records += records

    def chunks(self) -> list[OutputChunk]:
        return [msgspec.json.decode(record.value or b"", type=OutputChunk) for record in self.records]


class Room:
    """A writer with its outbox."""

    def __init__(self, *, attempt: int = 1, limit_bytes: int = 0) -> None:
        self.sink = Sink()
        self.outbox = Outbox(self.sink, name="outputs", max_records=1000, max_bytes=10_000_000)
        self.first: list[str] = []
        self.writer = OutputWriter(
            self.outbox,
            topic="outputs",
            partition=3,
            task_id="t",
            attempt=attempt,
            tenant_id="acme",
            on_first=self.first.append,
            limit_bytes=limit_bytes,
        )

    async def finish(self) -> list[OutputChunk]:
        sender = asyncio.create_task(self.outbox.run())
        self.summary = await self.writer.close()
        self.outbox.close()
        await sender
        return self.sink.chunks()


@given(st.text(max_size=400), st.integers(min_value=4, max_value=40))
def test_cutting_splits_no_character_and_loses_nothing(text: str, limit: int) -> None:
    pieces = list(cut(text.encode(errors="surrogatepass"), limit))
    assert b"".join(pieces) == text.encode(errors="surrogatepass")
    assert all(0 < len(piece) <= limit for piece in pieces)
    for piece in pieces:
        piece.decode(errors="surrogatepass")


@given(st.binary(max_size=400), st.integers(min_value=4, max_value=40))
def test_cutting_any_bytes_loses_nothing(data: bytes, limit: int) -> None:
    pieces = list(cut(data, limit))
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize(
    ("data", "missing_its_rest"),
    [
        (b"", 0),
        (b"abc", 0),
        ("é".encode(), 0),
        ("é".encode()[:1], 1),
        ("€".encode()[:2], 2),
        ("😀".encode()[:3], 3),
        ("😀".encode(), 0),
        (b"\x80\x80\x80\x80", 0),
    ],
)
def test_the_beginning_of_a_character_is_recognised(data: bytes, missing_its_rest: int) -> None:
    assert incomplete_tail(data) == missing_its_rest


async def test_the_first_write_goes_at_once_and_later_small_ones_travel_together() -> None:
    room = Room()
    await room.writer.write("first\n", "stdout")
    assert len(room.outbox) == 1
    assert room.first == ["stdout"]
    for number in range(10):
        await room.writer.write(f"{number}\n", "stdout")
    assert len(room.outbox) == 1
    chunks = await room.finish()
    assert [chunk.text for chunk in chunks] == ["first\n", "".join(f"{number}\n" for number in range(10))]
    assert room.first == ["stdout"]


async def test_small_writes_leave_after_a_moment_without_another_write() -> None:
    from taskloom.testing.eventually import eventually

    room = Room()
    await room.writer.write("a", "stdout")
    await room.writer.write("b", "stdout")
    await eventually(lambda: len(room.outbox) == 2, interval_s=0.005)


async def test_streams_keep_their_order_and_sequence_numbers_rise_by_one_within_the_attempt() -> None:
    room = Room(attempt=3)
    for text, stream in (("a", "stdout"), ("b", "stderr"), ("c", "stdout"), ("d", "stdout"), ("e", "stderr")):
        await room.writer.write(text, stream)  # type: ignore[arg-type]
    chunks = await room.finish()
    assert [(chunk.stream, chunk.text) for chunk in chunks] == [
        ("stdout", "a"),
        ("stderr", "b"),
        ("stdout", "cd"),
        ("stderr", "e"),
    ]
    assert [chunk.seq - 2 * OUTPUT_SEQ_SPAN for chunk in chunks] == [1, 2, 3, 4]
    assert (room.summary.last_seq, room.summary.chunks, room.summary.bytes) == (chunks[-1].seq, 4, 5)
    assert {(chunk.tenant_id, record.partition) for chunk, record in zip(chunks, room.sink.records, strict=True)} == {
        ("acme", 3)
    }


async def test_a_character_written_in_two_parts_arrives_whole_even_with_another_stream_in_between() -> None:
    room = Room()
    euro = "€".encode()
    await room.writer.write(b"x" + euro[:1], "stdout")
    await room.writer.write("between", "stderr")
    await room.writer.write(euro[1:] + b"y", "stdout")
    chunks = await room.finish()
    assert "".join(chunk.text for chunk in chunks if chunk.stream == "stdout") == "x€y"
    assert all(chunk.data == b"" for chunk in chunks)


async def test_bytes_that_are_not_text_travel_as_data_and_nothing_is_lost() -> None:
    room = Room()
    await room.writer.write(b"\xff\xfe\x00", "stdout")
    await room.writer.write("€".encode()[:2], "stdout")
    chunks = await room.finish()
    assert b"".join(chunk.data or chunk.text.encode() for chunk in chunks) == b"\xff\xfe\x00" + "€".encode()[:2]
    assert room.summary.bytes == 5


async def test_a_large_write_is_cut_to_chunks() -> None:
    room = Room()
    await room.writer.write("ä" * CHUNK_BYTES, "stdout")
    chunks = await room.finish()
    assert "".join(chunk.text for chunk in chunks) == "ä" * CHUNK_BYTES
    assert max(len(chunk.text.encode()) for chunk in chunks) <= CHUNK_BYTES


async def test_an_attempt_without_output_has_an_empty_summary() -> None:
    room = Room()
    assert await room.finish() == []
    assert room.summary.last_seq == 0


async def test_output_over_the_limit_is_cut_between_characters_marked_once_and_counted() -> None:
    room = Room(limit_bytes=10)
    await room.writer.write("12345678", "stdout")
    await room.writer.write("9grün", "stderr")
    await room.writer.write("more", "stdout")
    await room.writer.write("more", "stderr")
    chunks = await room.finish()
    assert [(chunk.stream, chunk.text) for chunk in chunks[:2]] == [("stdout", "12345678"), ("stderr", "9g")]
    assert [chunk.stream for chunk in chunks[2:]] == ["log"]
    assert "10 bytes" in chunks[2].text
    assert room.summary.dropped_bytes == 4 + 8
    assert room.summary.bytes == 10 + len(chunks[2].text)


async def test_a_character_across_the_limit_is_dropped_whole_and_what_fits_exactly_is_not_marked() -> None:
    room = Room(limit_bytes=3)
    await room.writer.write("aü", "stdout")
    assert [chunk.text for chunk in await room.finish()] == ["aü"]
    room = Room(limit_bytes=2)
    await room.writer.write("aü", "stdout")
    chunks = await room.finish()
    assert (chunks[0].text, chunks[1].stream, room.summary.dropped_bytes) == ("a", "log", 2)
