"""Live records from Kafka for open streams: one reader for all of them, at work only while a stream needs it.

It looks at the key of each record and hands the bytes to that task's subscriptions; nothing is decoded here. A
subscription is bounded: when its reader is too slow it is emptied and marked, and the reader goes back to the store.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Literal, Protocol

from taskloom import telemetry
from taskloom.bus.errors import BusError
from taskloom.bus.tail import Records
from taskloom.domain.envelope import Recorded
from taskloom.wire.recorded import unseal

Source = Literal["event", "output"]

IDLE_S: Final = 10.0
"""The reader goes on this long after the last stream closed, since browsers come back at once."""

BUFFER_BYTES: Final = 4 * 1024 * 1024
"""A subscription's buffer is full at this size too, whatever number of records it may hold."""

_log = telemetry.get_logger(__name__)
_overflows = telemetry.counter(
    "gateway_stream_overflows", "Streams whose reader was too slow and went back to the store"
)


class Tail(Protocol):
    """Reads events and outputs from the end on (taskloom.bus.tail.TailConsumer)."""

    async def start(self, timeout_s: float = 30.0) -> None: ...

    async def poll(self, timeout_ms: int = 200) -> Records: ...

    async def stop(self) -> None: ...


class Live:
    """A live record, handed to all its subscriptions; an event is decoded once for all of them."""

    __slots__ = ("_recorded", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self._recorded: Recorded | None = None

    def recorded(self) -> Recorded:
        """Raises WireError."""
        if self._recorded is None:
            self._recorded = unseal(self.value)
        return self._recorded


class Subscription:
    """What came for one task since ``subscribe``. ``lost`` is set when records were dropped: read the store again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._records: deque[tuple[Source, Live]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self.lost = False

    def put(self, source: Source, record: Live) -> None:
        if len(self._records) >= self._capacity or self._bytes >= BUFFER_BYTES:
            self._records.clear()
            self._bytes = 0
            self.lost = True
            _overflows.inc()
        self._records.append((source, record))
        self._bytes += len(record.value)
        self._arrived.set()

    def wake(self) -> None:
        """Lets the reader look around, for example since the live reader failed."""
        self._arrived.set()

    def take(self) -> list[tuple[Source, Live]]:
        """All that waits."""
        taken = list(self._records)
        self._records.clear()
        self._bytes = 0
        self._arrived.clear()
        return taken

    async def arrived(self, within_s: float) -> bool:
        """True as soon as something waits, False when the time is over."""
        try:
            async with asyncio.timeout(within_s):
                await self._arrived.wait()
        except TimeoutError:
            return False
        return True


class LiveHub:
    """Hands live records to subscriptions. ``events_topic`` tells the two kinds of records apart."""

    def __init__(self, tail: Tail, events_topic: str, *, capacity: int, idle_s: float = IDLE_S) -> None:
        self._tail = tail
        self._events_topic = events_topic
        self._capacity = capacity
        self._idle_s = idle_s
        self._subscriptions: dict[bytes, set[Subscription]] = {}
        self._running: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @asynccontextmanager
    async def subscribe(self, task_id: str) -> AsyncIterator[Subscription]:
        """Everything published about the task from now on; what came before is for the store to tell.

        Raises:
            BusUnavailable: Kafka does not answer.
        """
        key = task_id.encode()
        subscription = Subscription(self._capacity)
        self._subscriptions.setdefault(key, set()).add(subscription)
        try:
            await self.ensure_running()
            yield subscription
        finally:
            mine = self._subscriptions.get(key, set())
            mine.discard(subscription)
            if not mine:
                self._subscriptions.pop(key, None)

    async def close(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            # Cancelled before its first step, the reader has not cleaned up after itself.
            await self._tail.stop()
            self._lose()

    async def ensure_running(self) -> None:
        """Returns once live records are being handed out. Raises BusUnavailable when Kafka does not answer."""
        async with self._starting:
            if self._running is None or self._running.done():
                await self._tail.start(timeout_s=5.0)
                self._running = asyncio.create_task(self._read(), name="live streams")

    async def _read(self) -> None:
        idle_since: float | None = None
        clock = asyncio.get_running_loop().time
        try:
            while True:
                records = await self._tail.poll(timeout_ms=500)
                if self._subscriptions:
                    idle_since = None
                    self._hand_out(records)
                elif idle_since is None:
                    idle_since = clock()
                elif clock() - idle_since > self._idle_s and not self._starting.locked():
                    self._running = None  # before the first await: a new subscriber starts a new reader
                    return
        except BusError as error:
            _log.warning("live reading ended; streams go on from the store", error=str(error))
        finally:
            await self._tail.stop()
            self._lose()

    def _hand_out(self, records: Records) -> None:
        subscriptions = self._subscriptions
        for partition, batch in records.items():
            source: Source = "event" if partition.topic == self._events_topic else "output"
            for record in batch:
                mine: Any = subscriptions.get(record.key)
                if mine:
                    live = Live(record.value)
                    for subscription in mine:
                        subscription.put(source, live)

    def _lose(self) -> None:
        for mine in self._subscriptions.values():
            for subscription in mine:
                subscription.lost = True
                subscription.wake()
