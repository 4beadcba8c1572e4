"""Records gather while a round runs, never more than one round takes, and none is lost on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from services.orchestrator.gathering import Gathering
from taskloom.testing.memory import InMemoryRecord

Polled = dict[int, list[InMemoryRecord]]


def records(*offsets: int, place: int = 0) -> Polled:
    return {place: [InMemoryRecord("commands", place, offset, None, None) for offset in offsets]}


class Consumer:
    """Gives what is put into it, and notes how much was asked for."""

    def __init__(self) -> None:
        self.polls: asyncio.Queue[Polled | Exception] = asyncio.Queue()
        self.asked: list[int] = []

    async def poll(self, most: int) -> Polled:
        self.asked.append(most)
        found = await self.polls.get()
        if isinstance(found, Exception):
            raise found
        return found

    async def bring(self, *polls: Polled) -> None:
        for each in polls:
            self.polls.put_nowait(each)
        for _ in range(10 + len(polls)):
            await asyncio.sleep(0)


@asynccontextmanager
async def gathering(consumer: Consumer, limit: int = 100, **given: Any) -> AsyncIterator[Gathering]:
    made = Gathering(consumer.poll, limit, **given)
    running = asyncio.create_task(made.run())
    try:
        await asyncio.sleep(0)
        yield made
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def offsets(taken: Any) -> dict[int, list[int]]:
    return {place: [record.offset for record in found] for place, found in taken.items()}


async def test_what_is_polled_between_two_takes_comes_together_in_order() -> None:
    consumer = Consumer()
    async with gathering(consumer) as waiting:
        await consumer.bring(records(0, 1), records(5, place=3), records(2))
        assert waiting.ready.is_set()
        assert offsets(waiting.take()) == {0: [0, 1, 2], 3: [5]}
        assert not waiting.ready.is_set()
        assert not waiting.take()


async def test_no_more_waits_than_a_round_takes() -> None:
    consumer = Consumer()
    async with gathering(consumer, limit=3) as waiting:
        await consumer.bring(records(0, 1), records(2), records(3))
        assert consumer.asked == [3, 1]
        assert offsets(waiting.take()) == {0: [0, 1, 2]}
        await consumer.bring()
        assert offsets(waiting.take()) == {0: [3]}


async def test_what_comes_again_from_an_earlier_offset_takes_the_place_of_what_waited() -> None:
    consumer = Consumer()
    async with gathering(consumer, limit=4) as waiting:
        await consumer.bring(records(7, 8), records(5, 6, 7))
        assert offsets(waiting.take()) == {0: [5, 6, 7]}
        assert consumer.asked == [4, 2, 1]


async def test_lost_records_are_told_after_those_before_them_were_applied() -> None:
    consumer, told = Consumer(), list[tuple[int, int]]()
    async with gathering(consumer, on_lost=lambda place, found: told.append((place, found))) as waiting:
        await consumer.bring(records(0, 1))
        waiting.lose(0, 50)
        await consumer.bring({}, records(50))
        assert offsets(waiting.take()) == {0: [0, 1]}
        assert not told
        waiting.taken()
        assert told == [(0, 50)]
        await consumer.bring()
        assert offsets(waiting.take()) == {0: [50]}


async def test_waiting_for_more_ends_as_soon_as_a_round_is_full() -> None:
    consumer = Consumer()
    async with gathering(consumer, limit=2) as waiting, asyncio.timeout(60):
        more = asyncio.create_task(waiting.more(60))
        await consumer.bring(records(0))
        assert not more.done()
        await consumer.bring(records(1))
        await more
        await waiting.more(0.001)


async def test_a_poll_that_fails_ends_the_gathering_with_its_error() -> None:
    consumer = Consumer()
    consumer.polls.put_nowait(OSError("away"))
    with pytest.raises(OSError, match="away"):
        await Gathering(consumer.poll, 5).run()
