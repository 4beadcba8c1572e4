"""Orders for agents out of Kafka: one reader of the assignments topic for all links of this gateway.

It looks at the key of each record and hands on what is a linked agent's. What an agent missed between two links is read
from the topic by offset, for all who ask at about the same time in one go.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from aiokafka import TopicPartition
from msgspec import Struct

from taskloom import telemetry
from taskloom.bus.errors import BusError, BusUnavailable
from taskloom.bus.tail import Records

CAPACITY: Final = 10_000
"""Orders that wait for one link; a link that is slower is cut, and its agent comes back for the rest by offset."""

GATHER_S: Final = 0.05
READ_BACK_S: Final = 30.0
MAX_READ_BACK: Final = 200_000
"""Records of a partition that are looked through for what an agent missed; beyond it, it starts from now."""

_log = telemetry.get_logger(__name__)


class Reader(Protocol):
    """Part of ``taskloom.bus.tail.TailConsumer``."""

    positions: dict[TopicPartition, int]

    async def start(self, timeout_s: float = 30.0) -> None: ...

    async def poll(self, timeout_ms: int = 200) -> Records: ...

    async def stop(self) -> None: ...


MakeReader = Callable[[Mapping[TopicPartition, int] | None], Reader]
"""A reader of the assignments topic: from these offsets on, or, without any, of all partitions from the end on."""


class Orders:
    """What came for one key since ``subscribe``. ``lost``: some were dropped since the link is too slow."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue(CAPACITY)
        self.lost = False

    def put(self, record: Any) -> None:
        if self._queue.full():
            self.lost = True
        if not self.lost:
            self._queue.put_nowait(record)

    async def next(self) -> Any:
        """The next record, in the order of offsets."""
        return await self._queue.get()


class Assignments:
    """Reads while there are links; ``close`` ends it."""

    def __init__(self, make: MakeReader) -> None:
        self._make = make
        self._orders: dict[bytes, set[Orders]] = {}
        self._running: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def subscribe(self, executor_id: str) -> AsyncIterator[Orders]:
        """Everything that is published under this key from now on.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        key, orders = executor_id.encode(), Orders()
        self._orders.setdefault(key, set()).add(orders)
        try:
            await self._ensure()
            yield orders
        finally:
            self._orders[key].discard(orders)
            if not self._orders[key]:
                del self._orders[key]

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
            self._running = None

    async def _ensure(self) -> None:
        async with self._starting:
            if self._running is not None and not self._running.done():
                return
            reader = self._make(None)
            await reader.start()
            self._running = asyncio.create_task(self._run(reader), name="assignments of agents")

    async def _run(self, reader: Reader) -> None:
        try:
            while True:
                for records in (await reader.poll(500)).values():
                    for record in records:
                        for orders in self._orders.get(record.key or b"", ()):
                            orders.put(record)
        finally:
            await reader.stop()


class _Wish(Struct, eq=False):
    place: TopicPartition
    after: int
    before: int
    key: bytes
    found: list[Any]
    done: "asyncio.Future[None]"


class ReadBack:
    """Reads what stands between two offsets of a partition under one key."""

    def __init__(self, make: MakeReader) -> None:
        self._make = make
        self._wishes: list[_Wish] = []
        self._running: asyncio.Task[None] | None = None

    async def between(self, place: TopicPartition, after: int, before: int, key: bytes) -> list[Any]:
        """Records behind ``after`` and ahead of ``before``, which is the offset of a record that is there.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        if after < 0 or after + 1 >= before:
            return []
        if before - after > MAX_READ_BACK:
            _log.warning("an agent was away for too many orders to look through", key=key.decode(), after=after)
            return []
        wish = _Wish(place, after, before, key, [], asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="read back assignments")
        await wish.done
        return wish.found

    async def _run(self) -> None:
        while self._wishes:
            await asyncio.sleep(GATHER_S)
            wishes, self._wishes = self._wishes, []
            try:
                async with asyncio.timeout(READ_BACK_S):
                    await self._read(wishes)
                fault: BusError | None = None
            except TimeoutError:
                fault = BusUnavailable(f"assignments were not read back within {READ_BACK_S:g} s")
            except BusError as error:
                fault = error
            for wish in wishes:
                if wish.done.done():
                    continue
                if fault is None:
                    wish.done.set_result(None)
                else:
                    wish.done.set_exception(fault)

    async def _read(self, wishes: list[_Wish]) -> None:
        starts: dict[TopicPartition, int] = {}
        ends: dict[TopicPartition, int] = {}
        by_key: dict[tuple[TopicPartition, bytes], list[_Wish]] = {}
        for wish in wishes:
            starts[wish.place] = min(starts.get(wish.place, wish.after + 1), wish.after + 1)
            ends[wish.place] = max(ends.get(wish.place, 0), wish.before)
            by_key.setdefault((wish.place, wish.key), []).append(wish)
        reader = self._make(starts)
        try:
            await reader.start()
            while any(reader.positions.get(place, 0) < end for place, end in ends.items()):
                for place, records in (await reader.poll(500)).items():
                    for record in records:
                        for wish in by_key.get((place, record.key or b""), ()):
                            if wish.after < record.offset < wish.before:
                                wish.found.append(record)
        finally:
            await reader.stop()
