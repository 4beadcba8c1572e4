"""What was polled and waits for its round. While a round runs the records behind it gather, so the next one takes more.

A round costs two transactions and some requests to Kafka however few commands it takes, so under load fewer and larger
ones are cheaper for everybody: the database and the broker as well.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

Records = Mapping[Any, Sequence[Any]]
Lost = tuple[Any, int]
"""A partition, and the offset from which on it can be read again."""

GATHER_FROM: Final = 50
"""Commands of a round from which on the next one is waited for a little longer."""


class Gathering:
    """Polls by itself, while fewer than ``limit`` records wait; the rest waits in Kafka.

    ``poll`` gives at most so many records, by partition, in order. Should it go back within a partition (a batch was
    dropped, or the partition came back to us), what waits of it is dropped: it comes again. ``on_lost`` is told of
    records that Kafka has no more once those before them were taken (``lose``); until then nothing is polled.
    """

    def __init__(
        self,
        poll: Callable[[int], Awaitable[Records]],
        limit: int,
        on_lost: Callable[[Any, int], None] = lambda *_: None,
    ) -> None:
        self._poll, self._limit, self._on_lost = poll, limit, on_lost
        self._waiting: dict[Any, list[Any]] = {}
        self._count = 0
        self._lost: list[Lost] = []
        self._room, self._full = asyncio.Event(), asyncio.Event()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Polls until cancelled.

        Raises:
            Exception: whatever ``poll`` raised.
        """
        while True:
            for place, records in (await self._poll(self._limit - self._count)).items():
                if records:
                    self._add(place, records)
            while self._count >= self._limit or self._lost:
                self._full.set()
                self._room.clear()
                await self._room.wait()

    def lose(self, place: Any, found: int) -> None:
        """Kafka no longer has what comes next of a partition; reading goes on at ``found``."""
        self._lost.append((place, found))
        self.ready.set()

    def take(self) -> Records:
        """All that waits. Call ``taken`` once it was applied."""
        waiting, self._waiting, self._count = self._waiting, {}, 0
        self.ready.clear()
        self._full.clear()
        if not self._lost:
            self._room.set()
        return waiting

    def taken(self) -> None:
        """What was taken is applied: now losses behind it can be told."""
        if self._lost and not self._waiting:
            lost, self._lost = self._lost, []
            for place, found in lost:
                self._on_lost(place, found)
            self._room.set()

    async def more(self, within_s: float) -> None:
        """Returns when ``limit`` records wait, or after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._full.wait()

    def _add(self, place: Any, records: Sequence[Any]) -> None:
        known = self._waiting.get(place)
        if known is not None and records[0].offset > known[-1].offset:
            known.extend(records)
            self._count += len(records)
        else:
            self._waiting[place] = list(records)
            self._count += len(records) - len(known or ())
        self.ready.set()
