"""Consuming in batches, with the offsets in our own database.

``BatchConsumer`` is a member of a consumer group: Kafka says which partitions are ours, PostgreSQL says from where
(``on_assigned``), nothing is committed to Kafka. ``TailConsumer`` (tail.py) reads given partitions without a group.

What aiokafka 0.14 does that this has to cover:

- It logs and swallows an exception of the rebalance listener, and sends no heartbeat while ``on_partitions_assigned``
  runs. So the listener only pauses the new partitions; ``poll`` asks for the offsets, seeks and resumes them.
- ``getmany`` waits without limit while a rebalance is under way. It gets a time limit here.
- An unexpected heartbeat answer (for example "coordinator is loading", just after a broker's restart) ends its
  heartbeat task for good; an unexpected exception ends its coordination or fetch task, the latter without any error for
  the caller. Each poll looks at these tasks, and a consumer with a dead one is replaced.
- Its sticky assignor balances the partitions of all topics together, so one member may get all of a topic, and keeps
  its state in the class. The range assignor gives each member the same range of every topic: what a task's events and
  its outputs need is together, and each topic is shared out evenly. A rebalance revokes everything either way.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from taskloom import telemetry
from taskloom.bus.connections import close_consumer, is_broken, ping_client, retry_until
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import MAX_RECORD_BYTES
from taskloom.bus.tail import TailConsumer

__all__ = ["BatchConsumer", "Records", "TailConsumer"]

Records = dict[TopicPartition, list[ConsumerRecord]]
OnAssigned = Callable[[frozenset[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
OnRevoked = Callable[[frozenset[TopicPartition]], Awaitable[None]]
OnLost = Callable[[TopicPartition, int, int], None]

FETCH_BYTES: Final = 16 * 1024 * 1024
"""Most that one fetch brings into memory; what is fetched and not polled yet is never more than one fetch a broker."""

HEARTBEAT_MS: Final = 1000
"""Members learn of a rebalance with the next heartbeat, so this is how long a hand-over takes."""

REBALANCE_TIMEOUT_MS: Final = 10_000

REPLACE_AFTER_S: Final = 30.0
"""Errors without a break for this long, and the consumer is replaced."""

log = telemetry.get_logger(__name__)
_rebalances = telemetry.counter("bus_rebalances", "Assignments that a consumer group gave us", ["group"])
_replaced = telemetry.counter("bus_consumers_replaced", "Consumers that could not go on and were made anew", ["group"])
_lost = telemetry.counter("bus_offsets_lost", "Partitions whose next offset was no longer in Kafka", ["topic"])


class BatchConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of a consumer group that seeks to offsets of ours and never commits.

    ``on_assigned(partitions)`` returns the offset to read next for each partition; one that it leaves out is read from
    its beginning. It runs inside ``poll``, so an exception of it comes out of ``poll``, and the next ``poll`` asks
    again. ``on_revoked(partitions)`` runs beside the caller as soon as a rebalance begins: after it returns, another
    process may own the partitions, so it waits for a write in flight (within 10 s; the fence in the
    database decides when it takes longer). aiokafka rebalances eagerly: each rebalance revokes everything and assigns
    anew.

    ``on_lost(partition, wanted, found)`` is told when ``wanted`` is not in Kafka any more (retention passed it, or the
    topic was made anew) and reading goes on from ``found``, the earliest. It is logged as an error and counted.
    """

    def __init__(
        self,
        bootstrap: str,
        topics: Iterable[str],
        group_id: str,
        *,
        on_assigned: OnAssigned,
        on_revoked: OnRevoked,
        on_lost: OnLost | None = None,
        client_id: str = "taskloom",
        max_records: int = 500,
        fetch_max_wait_ms: int = 100,
        session_timeout_s: float = 6.0,
        max_poll_interval_s: float = 300.0,
    ) -> None:
        self.group_id = group_id
        self._bootstrap, self._topics = bootstrap, sorted(topics)
        self._on_assigned, self._on_revoked, self._on_lost = on_assigned, on_revoked, on_lost
        self._max_records = max_records
        self._options: dict[str, Any] = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "group_id": group_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "fetch_max_wait_ms": fetch_max_wait_ms,
            "fetch_max_bytes": FETCH_BYTES,
            "max_partition_fetch_bytes": MAX_RECORD_BYTES,
            "request_timeout_ms": 15_000,
            "session_timeout_ms": int(session_timeout_s * 1000),
            "rebalance_timeout_ms": REBALANCE_TIMEOUT_MS,
            "heartbeat_interval_ms": HEARTBEAT_MS,
            "max_poll_interval_ms": int(max_poll_interval_s * 1000),
        }
        self._consumer: AIOKafkaConsumer | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._generation = 0
        self._settled = False
        self._changed = asyncio.Event()
        self._fault: Exception | None = None
        self._failing_since: float | None = None

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        """Partitions that are ours and positioned."""
        return self._assigned if self._settled else frozenset()

    async def start(self, timeout_s: float = 30.0) -> None:
        """Joins the group; the assignment comes with the first ``poll``.

        Raises:
            BusUnavailable: no broker answered, or the group did not settle, within ``timeout_s``.
        """
        await retry_until(timeout_s, f"could not join group {self.group_id} at {self._bootstrap}", self._connect)

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Leaves the group, so that others take over at once. Calls ``on_revoked`` for what was ours."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await self._give_up_partitions()
            await close_consumer(consumer, timeout_s)

    async def poll(self, timeout_ms: int = 200, max_records: int | None = None) -> Records:
        """Records that wait, by partition, in order; empty after ``timeout_ms`` without any, or while a rebalance or an
        outage of Kafka is under way. Never raises for Kafka being away: it logs, backs off and goes on by itself.

        Raises:
            Exception: whatever ``on_assigned`` or ``on_revoked`` raised.
        """
        timeout_s = timeout_ms / 1000
        try:
            consumer = await self._usable(timeout_s)
            if consumer is None or not await self._settle(consumer, timeout_s):
                return {}
            async with asyncio.timeout(timeout_s + 0.5):
                records: Records = await consumer.getmany(
                    timeout_ms=timeout_ms, max_records=max_records or self._max_records
                )
        except TimeoutError:
            return {}
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            await self._skip_lost(error)
            return {}
        except KafkaError as error:
            await self._stumble(error)
            return {}
        self._failing_since = None
        return records

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Stops fetching these, while the others go on."""
        if self._consumer is not None:
            self._consumer.pause(*(tp for tp in partitions if tp in self._assigned))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        if self._consumer is not None and self._settled:
            self._consumer.resume(*(tp for tp in partitions if tp in self._assigned))

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Reads on from ``offset``: for going back over a batch that could not be stored."""
        if self._consumer is not None and partition in self.assigned:
            self._consumer.seek(partition, offset)

    def behind(self) -> dict[TopicPartition, int]:
        """Records that wait in Kafka, by partition, as of its last fetch; without a request to the broker."""
        consumer, behind = self._consumer, {}
        if consumer is not None and self._settled:
            for tp in self._assigned:
                try:
                    state = consumer._subscription.subscription.assignment.state_value(tp)
                except (AttributeError, KeyError):
                    continue  # a rebalance took it just now
                if state is not None and state.highwater is not None and state.has_valid_position:
                    behind[tp] = max(0, state.highwater - state.position)
        return behind

    async def ping(self, timeout_s: float = 2.0) -> None:
        """Returns when a broker answers; for readiness checks. Raises BusUnavailable when none does in time."""
        if self._consumer is None:
            raise BusUnavailable(f"group {self.group_id} is not joined")
        await ping_client(self._consumer._client, timeout_s)

    # The rebalance listener: called by aiokafka in a task of its own.

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._give_up_partitions()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        consumer = self._consumer
        if consumer is not None:
            consumer.pause(*assigned)
        self._assigned = frozenset(assigned)
        self._generation += 1
        self._settled = False
        self._changed.set()

    async def _give_up_partitions(self) -> None:
        mine, self._assigned, settled, self._settled = self._assigned, frozenset(), self._settled, False
        self._generation += 1
        self._changed.set()
        if not mine or not settled:
            return
        try:
            await self._on_revoked(mine)
        except Exception as error:  # noqa: BLE001 - aiokafka would log and swallow it; poll raises it
            self._fault = error

    async def _usable(self, timeout_s: float) -> AIOKafkaConsumer | None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault
        consumer = self._consumer
        if consumer is not None and not is_broken(consumer):
            return consumer
        if consumer is not None:
            await self._drop(consumer, "one of its background tasks has ended")
        try:
            async with asyncio.timeout(max(timeout_s, 5.0)):
                return await self._connect()
        except OSError as error:
            await self._stumble(error)
            return None

    async def _connect(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(partition_assignment_strategy=(RangePartitionAssignor,), **self._options)
        consumer.subscribe(self._topics, listener=self)
        self._consumer = consumer
        try:
            await consumer.start()
        except BaseException:
            self._consumer = None
            await close_consumer(consumer, 1.0)
            raise
        return consumer

    async def _settle(self, consumer: AIOKafkaConsumer, timeout_s: float) -> bool:
        """True when the present assignment is positioned; asks ``on_assigned`` where a new one begins."""
        if self._settled:
            return True
        generation = self._generation
        if not consumer.assignment() or not self._assigned:
            self._changed.clear()
            if not await self._assignment_changes(timeout_s):
                return False
            generation = self._generation
        mine = self._assigned
        if not mine:
            return False
        offsets = await self._on_assigned(mine)
        if generation != self._generation:
            return False
        try:
            for tp in mine:
                if tp in offsets:
                    consumer.seek(tp, offsets[tp])
            fresh = [tp for tp in mine if tp not in offsets]
            if fresh:
                await consumer.seek_to_beginning(*fresh)
            consumer.resume(*mine)
        except IllegalStateError:
            return False  # taken away again meanwhile
        if generation != self._generation:
            return False
        self._settled = True
        _rebalances.labels(self.group_id).inc()
        log.info(
            "partitions assigned", group=self.group_id, partitions=sorted(f"{tp.topic}/{tp.partition}" for tp in mine)
        )
        return True

    async def _assignment_changes(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _skip_lost(self, error: KafkaError) -> None:
        """The wanted offset is gone: says so loudly and reads on from the earliest there is."""
        consumer = self._consumer
        if consumer is None or not isinstance(error, OffsetOutOfRangeError):
            return  # "no offset" is left over from before the seek of an assignment
        for tp, wanted in error.args[0].items():
            if tp not in self.assigned:
                continue
            await consumer.seek_to_beginning(tp)
            found = await consumer.position(tp)
            _lost.labels(tp.topic).inc()
            log.error(
                "the next offset is not in Kafka any more: records may be lost", topic=tp.topic, partition=tp.partition,
                wanted=wanted, reading_from=found,
            )  # fmt: skip
            if self._on_lost is not None:
                self._on_lost(tp, wanted, found)

    async def _stumble(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            log.warning("consuming stumbled, going on", group=self.group_id, error=repr(error))
        elif self._consumer is not None and now - self._failing_since > REPLACE_AFTER_S:
            self._failing_since = now
            await self._drop(self._consumer, repr(error))
        await asyncio.sleep(0.2)

    async def _drop(self, consumer: AIOKafkaConsumer, why: str) -> None:
        log.warning("the consumer is replaced", group=self.group_id, reason=why)
        _replaced.labels(self.group_id).inc()
        self._consumer = None
        await self._give_up_partitions()
        await close_consumer(consumer, 1.0)
