"""Publishing records in batches: acknowledged by Kafka, in order within a partition, bounded in memory and time.

One lane a partition holds what waits; while a batch of a lane is in flight the next one collects, so batches grow by
load alone and nothing lingers. Records are packed with aiokafka's batch builder, since its ``send`` costs a future, a
metadata look-up and a partitioner call a record.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from msgspec import Struct

from taskloom import telemetry
from taskloom.bus.connections import RETRY_S, abort_producer, ping_client, retry_until
from taskloom.bus.errors import BusError, BusUnavailable, TooLarge

MAX_RECORD_BYTES: Final = 2 * 1024 * 1024
"""Largest record with key and headers; topics are made to take it (admin.py)."""

MAX_BATCH_BYTES: Final = 512 * 1024
"""A batch is sent when it holds this much. A larger record makes a batch of its own."""

MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
"""What waits or is in flight; above it ``publish`` waits for room, within its time limit."""

DELIVERY_TIMEOUT_S: Final = 15.0
RECORD_OVERHEAD_BYTES: Final = 100

log = telemetry.get_logger(__name__)
_published = telemetry.counter("bus_published_records", "Records acknowledged by Kafka", ["topic"])
_batches = telemetry.counter("bus_published_batches", "Batches acknowledged by Kafka", ["topic"])
_failed = telemetry.counter("bus_publish_failures", "Publish calls that ended with an error")


class OutRecord(Struct, frozen=True, gc=False):
    """A record to send. ``partition`` is always explicit: ``partition_of(key, partitions)``."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]] = []


class _Call:
    """One call of ``publish``: done when each of its lanes has sent its part."""

    __slots__ = ("future", "left")

    def __init__(self, lanes: int, loop: asyncio.AbstractEventLoop) -> None:
        self.left = lanes
        self.future: asyncio.Future[None] = loop.create_future()

    def part_done(self) -> None:
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Part:
    """A call's records for one lane; ``sent`` of them are acknowledged, up to ``packed`` are in the batch in flight."""

    __slots__ = ("call", "packed", "records", "sent")

    def __init__(self, call: _Call, records: list[OutRecord]) -> None:
        self.call, self.records, self.sent, self.packed = call, records, 0, 0


class _Lane:
    __slots__ = ("partition", "queue", "task", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic, self.partition = topic, partition
        self.queue: deque[_Part] = deque()
        self.task: asyncio.Task[None] | None = None


class Publisher:
    """An idempotent producer with acks=all. Safe to share between tasks of one loop."""

    def __init__(
        self,
        bootstrap: str,
        client_id: str,
        *,
        delivery_timeout_s: float = DELIVERY_TIMEOUT_S,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._bootstrap, self._client_id = bootstrap, client_id
        self._delivery_timeout_s = delivery_timeout_s
        self._max_queued_bytes, self._max_record_bytes = max_queued_bytes, max_record_bytes
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._queued_bytes = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._closed = True

    async def start(self, timeout_s: float = 30.0) -> None:
        """Connects.

        Raises:
            BusUnavailable: no broker answered within ``timeout_s``.
        """
        self._closed = False
        await retry_until(timeout_s, f"Kafka at {self._bootstrap} did not answer", self._connected)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Sends what waits, within ``timeout_s``, and closes. What is left then fails with ``BusUnavailable``."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        self._closed = True
        await self._abandon(BusUnavailable(f"{self._client_id}: the publisher was stopped"))

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Returns when a broker answers; for readiness checks.

        Raises:
            BusUnavailable: none answered in time.
        """
        producer = self._producer
        if producer is None:
            raise BusUnavailable(f"not connected to Kafka at {self._bootstrap}")
        await ping_client(producer.client, timeout_s)

    async def publish(self, records: Sequence[OutRecord], *, max_record_bytes: int | None = None) -> None:
        """Returns when every record is acknowledged by all in-sync replicas.

        Records of one partition are stored in the order given, and calls in the order made. Nothing is sent when one
        record is too large; ``max_record_bytes`` is for a topic that takes more than the others.

        Raises:
            TooLarge: a record is over the limit; names it.
            BusUnavailable: not acknowledged within ``delivery_timeout_s``; nothing of this call is still under way in
                this process, but a part may be stored. Sending it again is right: readers drop doubles.
            BusError: the topic or partition does not exist, or Kafka refused the records for good.
        """
        if not records:
            return
        if self._closed:
            raise BusUnavailable(f"{self._client_id}: the publisher is not started")
        size = _size_of(records, (max_record_bytes or self._max_record_bytes) - RECORD_OVERHEAD_BYTES)
        try:
            async with asyncio.timeout(self._delivery_timeout_s):
                await self._reserve(size)
                try:
                    await self._enqueue(records).future
                finally:
                    self._queued_bytes -= size
                    self._room.set()
        except TimeoutError:
            _failed.inc()
            error = BusUnavailable(
                f"Kafka at {self._bootstrap} did not acknowledge {len(records)} records "
                f"within {self._delivery_timeout_s:g} s"
            )
            await self._abandon(error)
            raise error from None
        except BusError:
            _failed.inc()
            raise

    async def _reserve(self, size: int) -> None:
        """Waits for room, first come first served. A call above the limit goes when nothing else is queued."""
        if not self._turn.locked() and self._queued_bytes + size <= self._max_queued_bytes:
            self._queued_bytes += size
            return
        async with self._turn:
            while self._queued_bytes and self._queued_bytes + size > self._max_queued_bytes:
                self._room.clear()
                await self._room.wait()
            self._queued_bytes += size

    def _enqueue(self, records: Sequence[OutRecord]) -> _Call:
        parts: dict[tuple[str, int], list[OutRecord]] = {}
        for record in records:
            parts.setdefault((record.topic, record.partition), []).append(record)
        loop = asyncio.get_running_loop()
        call = _Call(len(parts), loop)
        for place, part in parts.items():
            lane = self._lanes.get(place) or self._lanes.setdefault(place, _Lane(*place))
            lane.queue.append(_Part(call, part))
            if lane.task is None:
                lane.task = loop.create_task(self._send_lane(lane))
        return call

    async def _send_lane(self, lane: _Lane) -> None:
        """Sends what waits in a lane, a batch at a time. A failed batch is packed anew: one in flight keeps order."""
        try:
            while lane.queue:
                try:
                    await self._send_batch(await self._connected(), lane)
                except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
                    raise TooLarge(
                        f"{lane.topic} takes no record of {self._max_record_bytes} bytes: {error}"
                    ) from error
                except (KafkaError, OSError) as error:
                    await self._replace(error)
        except Exception as error:  # noqa: BLE001 - whoever waits for this lane gets it
            self._fail_lane(lane, error)
        finally:
            lane.task = None
            if lane.queue:
                lane.task = asyncio.get_running_loop().create_task(self._send_lane(lane))

    async def _send_batch(self, producer: AIOKafkaProducer, lane: _Lane) -> None:
        try:
            known = await producer.partitions_for(lane.topic)
        except UnknownTopicOrPartitionError as error:
            raise BusError(f"topic {lane.topic} does not exist; `taskloom topics` makes what is missing") from error
        if lane.partition not in known:
            raise BusError(f"topic {lane.topic} has {len(known)} partitions, so none numbered {lane.partition}")
        batch = producer.create_batch()
        count = self._pack(batch, lane)
        acknowledged = await producer.send_batch(batch, lane.topic, partition=lane.partition)
        await acknowledged
        _published.labels(lane.topic).inc(count)
        _batches.labels(lane.topic).inc()
        while lane.queue:
            part = lane.queue[0]
            part.sent = part.packed
            if part.sent < len(part.records):
                break
            lane.queue.popleft()
            part.call.part_done()

    def _pack(self, batch: Any, lane: _Lane) -> int:
        """Fills a batch from the lane's head, and returns how many records it holds."""
        now_ms, append, count = int(time.time() * 1000), batch.append, 0
        for part in lane.queue:
            part.packed = part.sent
        for part in lane.queue:
            for index in range(part.sent, len(part.records)):
                record = part.records[index]
                if append(timestamp=now_ms, key=record.key, value=record.value, headers=record.headers) is None:
                    return count
                part.packed = index + 1
                count += 1
        return count

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is not None:
            return self._producer
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap, client_id=self._client_id, enable_idempotence=True, acks="all",
                    linger_ms=0, max_batch_size=MAX_BATCH_BYTES, max_request_size=self._max_record_bytes,
                    request_timeout_ms=10_000, retry_backoff_ms=50,
                )  # fmt: skip
                try:
                    await producer.start()
                except BaseException:
                    await abort_producer(producer, BusUnavailable())
                    raise
                self._producer = producer
            return self._producer

    async def _replace(self, error: Exception) -> None:
        """Drops a producer whose error is final for it (lost producer id, sequence gap); lanes go on with a new one.

        A broker that is away is no such error: aiokafka repeats by itself, until ``publish`` has waited long enough.
        """
        producer, self._producer = self._producer, None
        if producer is not None:
            log.warning("the producer failed and is replaced", client=self._client_id, error=repr(error))
            await abort_producer(producer, error)
        await asyncio.sleep(RETRY_S)

    async def _abandon(self, error: BusUnavailable) -> None:
        """Fails all that waits and drops the producer, so that nothing is sent behind the back of who saw the error."""
        for lane in self._lanes.values():
            self._fail_lane(lane, error)
            if lane.task is not None and lane.task is not asyncio.current_task():
                lane.task.cancel()
        producer, self._producer = self._producer, None
        if producer is not None:
            await abort_producer(producer, error)

    def _fail_lane(self, lane: _Lane, error: Exception) -> None:
        parts, lane.queue = lane.queue, deque()
        for part in parts:
            part.call.fail(error)


def _size_of(records: Sequence[OutRecord], limit: int) -> int:
    """Bytes of all records, about: headers are counted where they could matter, since a look at each costs time."""
    total = 0
    for record in records:
        size = len(record.key) + len(record.value or b"")
        if size > limit // 2:
            size += sum(len(name) + len(content) + 10 for name, content in record.headers)
            if size > limit:
                raise TooLarge(
                    f"the record {record.key[:128]!r} for {record.topic} has {size} bytes; at most {limit} "
                    "are taken: send large values as a claim"
                )
        total += size + RECORD_OVERHEAD_BYTES
    return total
