"""What the executor has to tell, in order, kept until Kafka has it. Nothing in it is ever dropped for want of Kafka."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from taskloom import telemetry
from taskloom.bus.errors import BusError, TooLarge
from taskloom.bus.publish import OutRecord

FIRST_RETRY_S: Final = 0.1
LAST_RETRY_S: Final = 5.0
BATCH_RECORDS: Final = 2_000
BATCH_BYTES: Final = 2 * 1024 * 1024

log = telemetry.get_logger(__name__)
Done = Callable[[], None]


class Publishes(Protocol):
    """The part of ``taskloom.bus.publish.Publisher`` that is used here."""

    async def publish(self, records: Sequence[OutRecord]) -> None: ...


class Overflow(Protocol):
    """Where records wait, in order, that memory has no room for; bounded."""

    def __len__(self) -> int: ...

    @property
    def is_full(self) -> bool: ...

    def push(self, record: OutRecord) -> None: ...

    def pop(self) -> OutRecord: ...


class Outbox:
    """A bounded queue with one sender: while a batch is under way the next one collects, so batches grow by load alone.

    ``put`` always takes the record, so that an end can be reported whatever happens; whoever makes records waits for
    ``room`` first, which holds it back while ``max_records`` or ``max_bytes`` wait. One batch at a time is under way,
    and a batch that failed is sent again whole: order is kept, a record may be stored twice, none is lost.

    With an ``overflow`` records go there once memory is full, and back as room comes; it is full when that is.
    """

    def __init__(
        self,
        publisher: Publishes,
        *,
        name: str,
        max_records: int,
        max_bytes: int,
        overflow: Overflow | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self.name = name
        self._publisher = publisher
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._behind: deque[Done | None] = deque()
        self._batch_bytes = batch_bytes
        self._queue: deque[tuple[OutRecord, Done | None]] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._closed = False

    def __len__(self) -> int:
        """Records that Kafka has not acknowledged yet."""
        return len(self._queue) + len(self._behind)

    def put(self, record: OutRecord, done: Done | None = None) -> None:
        """Takes a record; ``done`` is called once Kafka has it."""
        if self._overflow is not None and (self._behind or not self._fits()):
            self._overflow.push(record)
            self._behind.append(done)
            if self._overflow.is_full:
                self._has_room.clear()
        else:
            self._queue.append((record, done))
            self._bytes += len(record.value or b"")
            if self._overflow is None and not self._fits():
                self._has_room.clear()
        if not self._arrived.is_set():
            self._arrived.set()

    @property
    def is_full(self) -> bool:
        return not self._has_room.is_set()

    async def room(self) -> None:
        """Returns when there is room for more."""
        await self._has_room.wait()

    def close(self) -> None:
        """``run`` returns once everything is sent."""
        self._closed = True
        self._arrived.set()

    async def run(self) -> None:
        """Sends until ``close`` and everything is sent. Kafka may be away for as long as it likes."""
        while True:
            await self._arrived.wait()
            while self._queue:
                batch = self._next_batch()
                await self._send([record for record, _ in batch])
                self._sent(batch)
            if self._closed:
                return
            self._arrived.clear()

    def _next_batch(self) -> list[tuple[OutRecord, Done | None]]:
        """The head of the queue; it stays in it until Kafka has it, so that the bounds count it."""
        batch, size = [], 0
        for entry in self._queue:
            batch.append(entry)
            size += len(entry[0].value or b"")
            if len(batch) >= BATCH_RECORDS or size >= self._batch_bytes:
                break
        return batch

    def _sent(self, batch: Sequence[tuple[OutRecord, Done | None]]) -> None:
        for record, done in batch:
            self._queue.popleft()
            self._bytes -= len(record.value or b"")
            if done is not None:
                done()
        while self._overflow is not None and self._behind and self._fits():
            record = self._overflow.pop()
            self._queue.append((record, self._behind.popleft()))
            self._bytes += len(record.value or b"")
        if self._fits() if self._overflow is None else not self._overflow.is_full:
            self._has_room.set()

    def _fits(self) -> bool:
        return len(self._queue) < self._max_records and self._bytes < self._max_bytes

    async def _send(self, records: Sequence[OutRecord]) -> None:
        delay = FIRST_RETRY_S
        while True:
            try:
                await self._publisher.publish(records)
                return
            except TooLarge as error:
                await self._send_apart(records, error)
                return
            except BusError as error:
                log.warning(
                    "Kafka does not take records, they are kept", queue=self.name, kept=len(self), reason=str(error)
                )
            await asyncio.sleep(delay)
            delay = min(LAST_RETRY_S, delay * 2)

    async def _send_apart(self, records: Sequence[OutRecord], error: TooLarge) -> None:
        """Reports and chunks are cut to size before they come here; a broker set to less than that is said aloud."""
        if len(records) == 1:
            log.error(
                "Kafka will never take this record", queue=self.name, key=records[0].key.decode(), reason=str(error)
            )
            return
        middle = len(records) // 2
        await self._send(records[:middle])
        await self._send(records[middle:])
