"""Reading given partitions without a consumer group: from the end, from the beginning, or from a moment on."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from taskloom import telemetry
from taskloom.bus.connections import close_consumer, is_broken, ping_client, retry_until
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import MAX_RECORD_BYTES

Start = Literal["end", "beginning"] | datetime | Mapping[TopicPartition, int]
Records = dict[TopicPartition, list[ConsumerRecord]]

FETCH_BYTES: Final = 8 * 1024 * 1024
REPLACE_AFTER_S: Final = 15.0

log = telemetry.get_logger(__name__)
_lost = telemetry.counter("bus_offsets_lost", "Partitions whose next offset was no longer in Kafka", ["topic"])


class TailConsumer:
    """Reads ``partitions`` from ``start`` on, and goes on by itself, without a gap, after an outage of Kafka.

    ``start``: "end" reads what is published after ``start()`` returned; "beginning" reads all that is there; a datetime
    (aware) reads from the first record that is not older; offsets by partition read from these on. After ``stop()``,
    ``start()`` begins anew at ``start``.
    """

    def __init__(
        self,
        bootstrap: str,
        partitions: Iterable[TopicPartition],
        *,
        start: Start = "end",
        client_id: str = "taskloom",
        max_records: int = 1000,
        fetch_max_wait_ms: int = 200,
    ) -> None:
        self._bootstrap, self._partitions, self._from = bootstrap, tuple(partitions), start
        self._max_records = max_records
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "fetch_max_wait_ms": fetch_max_wait_ms,
            "fetch_max_bytes": FETCH_BYTES,
            "max_partition_fetch_bytes": MAX_RECORD_BYTES,
            "request_timeout_ms": 15_000,
        }
        self._consumer: AIOKafkaConsumer | None = None
        self._started = False
        self._ends: dict[TopicPartition, int] = {}
        self._failing_since: float | None = None
        self.positions: dict[TopicPartition, int] = {}
        """Offset that is read next, by partition."""

    async def start(self, timeout_s: float = 30.0) -> None:
        """Connects and fixes the positions: from here on no record is missed.

        Raises:
            BusUnavailable: Kafka did not answer, or a topic does not exist, within ``timeout_s``.
        """
        self.positions.clear()
        await retry_until(timeout_s, f"could not read {self._names()} at {self._bootstrap}", self._connect)
        self._started = True

    async def stop(self, timeout_s: float = 2.0) -> None:
        self._started = False
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer, timeout_s)

    @property
    def caught_up(self) -> bool:
        """True when all that was there at ``start()`` has been polled."""
        return self._started and all(self.positions.get(tp, 0) >= end for tp, end in self._ends.items())

    async def poll(self, timeout_ms: int = 200, max_records: int | None = None) -> Records:
        """Records that wait, by partition, in order; empty after ``timeout_ms`` without any, or while Kafka is away."""
        if not self._started:
            raise BusUnavailable(f"the reader of {self._names()} is not started")
        try:
            consumer = await self._usable()
            async with asyncio.timeout(timeout_ms / 1000 + 0.5):
                records: Records = await consumer.getmany(
                    timeout_ms=timeout_ms, max_records=max_records or self._max_records
                )
        except OffsetOutOfRangeError as error:
            await self._skip_lost(error)
            return {}
        except (TimeoutError, KafkaError, OSError) as error:
            if not isinstance(error, TimeoutError):
                await self._stumble(error)
            return {}
        self._failing_since = None
        for tp, batch in records.items():
            self.positions[tp] = batch[-1].offset + 1
        if not self.caught_up:
            await self._note_positions(consumer)
        return records

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Returns when a broker answers; for readiness checks. Raises BusUnavailable when none does in time."""
        if self._consumer is None:
            raise BusUnavailable(f"the reader of {self._names()} is not connected")
        await ping_client(self._consumer._client, timeout_s)

    async def _note_positions(self, consumer: AIOKafkaConsumer) -> None:
        """Compaction leaves holes, so the end may lie behind the last record: aiokafka knows how far it read."""
        for tp in self._ends:
            self.positions[tp] = max(self.positions[tp], await consumer.position(tp))

    async def _usable(self) -> AIOKafkaConsumer:
        consumer = self._consumer
        if consumer is not None and not is_broken(consumer):
            return consumer
        if consumer is not None:
            await self._drop(consumer, "its fetch task has ended")
        return await self._connect()

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(**self._options)
        try:
            await consumer.start()
            if not self.positions:
                self._ends = dict(await consumer.end_offsets(self._partitions))
                self.positions = await self._first_positions(consumer)
            consumer.assign(self._partitions)
            for tp, offset in self.positions.items():
                consumer.seek(tp, offset)
        except BaseException:
            await close_consumer(consumer, 1.0)
            raise
        self._consumer = consumer
        return consumer

    async def _first_positions(self, consumer: AIOKafkaConsumer) -> dict[TopicPartition, int]:
        if self._from == "end":
            return dict(self._ends)
        if self._from == "beginning":
            return dict(await consumer.beginning_offsets(self._partitions))
        if isinstance(self._from, Mapping):
            return {tp: self._from[tp] for tp in self._partitions}
        assert isinstance(self._from, datetime)
        wanted = int(self._from.timestamp() * 1000)
        found = await consumer.offsets_for_times(dict.fromkeys(self._partitions, wanted))
        return {tp: self._ends[tp] if found.get(tp) is None else found[tp].offset for tp in self._partitions}

    async def _skip_lost(self, error: OffsetOutOfRangeError) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        earliest = await consumer.beginning_offsets(list(error.args[0]))
        for tp, wanted in error.args[0].items():
            self.positions[tp] = earliest[tp]
            consumer.seek(tp, earliest[tp])
            _lost.labels(tp.topic).inc()
            log.error(
                "the next offset is not in Kafka any more: records may be lost", topic=tp.topic, partition=tp.partition,
                wanted=wanted, reading_from=earliest[tp],
            )  # fmt: skip

    async def _stumble(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            log.warning("reading stumbled, going on", topics=self._names(), error=repr(error))
        elif self._consumer is not None and now - self._failing_since > REPLACE_AFTER_S:
            self._failing_since = now
            await self._drop(self._consumer, repr(error))
        await asyncio.sleep(0.2)

    async def _drop(self, consumer: AIOKafkaConsumer, why: str) -> None:
        log.warning("the reader is replaced", topics=self._names(), reason=why)
        self._consumer = None
        await close_consumer(consumer, 1.0)

    def _names(self) -> str:
        return ", ".join(sorted({tp.topic for tp in self._partitions}))
