"""Builds and runs the orchestrator: settings in, wired parts out; no logic."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from aiokafka import TopicPartition

from services.orchestrator import metrics
from services.orchestrator.announced import Announced
from services.orchestrator.budgets import Budgets
from services.orchestrator.commands import CommandLoop
from services.orchestrator.decisions import Decisions
from services.orchestrator.entities import Entities
from services.orchestrator.executors import Listener
from services.orchestrator.forks import Forks
from services.orchestrator.gathering import GATHER_FROM, Gathering
from services.orchestrator.ingest import Ingest
from services.orchestrator.leases import Leases
from services.orchestrator.limits import LimitsWatch
from services.orchestrator.lookups import Lookups
from services.orchestrator.memory import Memory
from services.orchestrator.outbox import Outbox, Records
from services.orchestrator.ownership import Owner
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.stored_webhooks import StoredWebhooks
from services.orchestrator.stored_workflows import StoredWorkflows
from services.orchestrator.timers import Timers
from taskloom.bus.admin import MAX_LETTER_BYTES
from taskloom.bus.batches import BatchConsumer
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.bus.tail import TailConsumer
from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.health import Health
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.scheduling.survey import survey
from taskloom.errors import TaskloomError
from taskloom.lifecycle import Runtime
from taskloom.ops import OpsServer
from taskloom.rules import TenantRules
from taskloom.store.shard import ShardStore
from taskloom.tenant_limits import LimitsBook
from taskloom.wire.messages import OrchestratorHeartbeat
from taskloom.wire.topics import Topics, partition_of

IDLE_POLL_S = 1.0
MARK_EVERY_S = 5.0

_log = structlog.get_logger(__name__)


class Orchestrator:
    """The wired parts, and the loops that drive them."""

    def __init__(self, settings: OrchestratorSettings) -> None:
        self.settings = settings
        self.topics = Topics(settings.topic_prefix)
        self.publisher = Publisher(settings.kafka_bootstrap, settings.instance, max_record_bytes=MAX_LETTER_BYTES)
        self.stores = [
            ShardStore(settings.database_dsn, shard, partitions=settings.partitions, shards=settings.shards)
            for shard in range(settings.shards)
        ]
        self.consumer = BatchConsumer(
            settings.kafka_bootstrap,
            [self.topics.commands],
            f"{settings.topic_prefix}.orchestrator.commands",
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=lambda place, _wanted, found: self.gathering.lose(place, found),
            client_id=settings.instance,
            max_records=settings.batch_max,
            session_timeout_s=settings.session_timeout_s,
        )
        self.gathering = Gathering(
            lambda most: self.consumer.poll(int(IDLE_POLL_S * 1000), most),
            settings.batch_max,
            on_lost=lambda place, found: self.owner.rewind(place.partition, found),
        )
        self.executors = TailConsumer(
            settings.kafka_bootstrap,
            [TopicPartition(self.topics.executors, number) for number in range(settings.partitions)],
            start="beginning",
            client_id=f"{settings.instance}-executors",
        )
        self.memory = Memory(settings.partitions, settings.ended_kept)
        policy = settings.policy
        silence = max(1, round(settings.lost_after_s / settings.beat_s))
        pool = ExecutorPool(settings.partitions, silence, Health(policy))
        self.scheduler = Scheduler(pool, policy)
        announced = Announced()
        timers = Timers()
        records = Records(self.topics, settings.partitions)
        entities = Entities(settings.partitions)
        self.leases = Leases(self.scheduler, self.stores[0], settings.instance, settings.partitions)
        self.outbox = Outbox(self.publisher, self._published)
        self.owner = Owner(
            self.stores,
            self.memory,
            self.scheduler,
            timers,
            self.outbox,
            records,
            settings.partitions,
            self._seek,
            entities,
            self.leases,
        )
        ingest = Ingest(settings.partitions, announced, TenantRules(settings.rules))
        self.loop = CommandLoop(
            self.owner,
            self.memory,
            self.scheduler,
            timers,
            Decisions(self.memory, settings.snapshot_every),
            ingest,
            self.outbox,
            records,
            entities,
            Lookups(
                StoredWorkflows(self.stores, settings.partitions),
                Forks(self.stores, settings.partitions, ingest.check_fork),
            ),
            StoredWebhooks(self.stores, settings.partitions),
            self.leases,
            partitions=settings.partitions,
            shards=settings.shards,
            batch_max=settings.batch_max,
            rebalance_max=settings.rebalance_max,
        )
        self.budgets = Budgets(self.scheduler, self.stores[0], self.loop.wake.set)
        book = LimitsBook(settings.quota_of_tenants)
        self.limits = LimitsWatch(book, self.scheduler, self.memory, self.owner, self.stores[0], self.loop.wake.set)
        self.listener = Listener(
            settings.instance, pool, announced, self.memory, self.loop.tell, self.loop.direct, self._caught_up
        )
        self.heard_all = asyncio.Event()

    async def open_stores(self) -> None:
        for store in self.stores:
            await asyncio.to_thread(store.open)

    async def close_stores(self) -> None:
        for store in self.stores:
            await asyncio.to_thread(store.close)

    async def command_rounds(self, stopping: asyncio.Event) -> None:
        """Decides what was polled until stopped. While a round runs more is polled, so batches grow by load alone."""
        polling = asyncio.create_task(self.gathering.run())
        try:
            while not stopping.is_set():
                await self._wait(polling, stopping)
                if polling.done():
                    polling.result()
                polled = self.gathering.take()
                self.loop.wake.clear()
                started = time.perf_counter()
                await self.loop.round(polled)
                metrics.round_seconds.observe(time.perf_counter() - started)
                self.gathering.taken()
                if sum(map(len, polled.values())) >= GATHER_FROM and not self.loop.wake.is_set():
                    await self.gathering.more(self.settings.gather_ms / 1000)
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)

    async def _wait(self, polling: asyncio.Task[Any], stopping: asyncio.Event) -> None:
        """Until records came, a timer is due, or the loop was woken."""
        if polling.done() or self.loop.wake.is_set() or self.gathering.ready.is_set():
            return
        events = (self.gathering.ready, self.loop.wake, stopping)
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            timeout_s = self.loop.idle_s(IDLE_POLL_S)
            await asyncio.wait({polling, *waits}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def listen(self, stopping: asyncio.Event) -> None:
        """Follows the executors topic: offers, heartbeats, our own beats."""
        while not stopping.is_set():
            history = not self.executors.caught_up
            if not history:
                self.heard_all.set()
            polled = await self.executors.poll(1000)
            for records in polled.values():
                for record in records:
                    self.listener.apply(record, history=history)
            if polled:
                self.loop.wake.set()

    async def beat(self, stopping: asyncio.Event) -> None:
        """Publishes our presence, keeps gauges fresh and notes how far was published."""
        instance = self.settings.instance
        partition = partition_of(instance, self.settings.partitions)
        marked = 0.0
        while not stopping.is_set():
            now = datetime.now(UTC)
            message = OrchestratorHeartbeat(instance, tuple(sorted(self.owner.partitions)), now, self.settings.beat_s)
            value = msgspec.json.encode(message)
            headers = [("ce_specversion", b"1.0"), ("ce_id", f"{instance}/{now.timestamp()}".encode())]
            headers.append(("ce_type", str(message.__struct_config__.tag).encode()))
            try:
                await self.publisher.publish(
                    [OutRecord(self.topics.executors, partition, instance.encode(), value, headers)]
                )
            except TaskloomError as error:
                _log.warning("the presence beat did not go out", error=str(error))
            self._gauge()
            if time.monotonic() - marked > MARK_EVERY_S:
                marked = time.monotonic()
                await self._mark()
            try:
                async with asyncio.timeout(self.settings.beat_s):
                    await stopping.wait()
            except TimeoutError:
                continue

    async def drain(self) -> None:
        """Leaves the group, so that others take over, after what was stored is published and noted."""
        await self.consumer.stop()

    async def check_owner(self) -> None:
        """Readiness: partitions are ours or wait with another orchestrator, and Kafka answers."""
        await self.consumer.ping()

    async def check_store(self) -> None:
        await asyncio.to_thread(self.stores[0].max_position)

    async def _assigned(self, partitions: frozenset[TopicPartition]) -> dict[TopicPartition, int]:
        async with self.owner.lock:
            await self.owner.give_up(self.owner.partitions)
            offsets = {tp: await self.owner.take_over(tp.partition) for tp in sorted(partitions)}
        self.loop.wake.set()
        return offsets

    async def _revoked(self, _partitions: frozenset[TopicPartition]) -> None:
        async with self.owner.lock:
            await self.owner.give_up(self.owner.partitions)

    async def _mark(self) -> None:
        async with self.owner.lock:
            try:
                await self.owner.mark_published()
            except TaskloomError as error:
                _log.warning("how far was published is not noted yet", error=str(error))

    def _published(self, positions: dict[int, int]) -> None:
        self.owner.note_published(positions)

    def _seek(self, partition: int, offset: int) -> None:
        self.consumer.seek(TopicPartition(self.topics.commands, partition), offset)

    def _caught_up(self, task_id: str) -> bool:
        place = TopicPartition(self.topics.commands, partition_of(task_id, self.settings.partitions))
        return self.consumer.behind().get(place) == 0

    def _gauge(self) -> None:
        metrics.open_tasks.set(len(self.memory.open_states()))
        metrics.ready_tasks.set(len(self.scheduler.ready))
        metrics.owned_partitions.set(len(self.owner.partitions))
        metrics.show(survey(self.scheduler, datetime.now(UTC)))
        metrics.commands_behind.set(sum(self.consumer.behind().values()))


async def run(settings: OrchestratorSettings) -> None:
    """Runs until SIGTERM, then drains."""
    async with Runtime("orchestrator", settings) as runtime:
        parts = Orchestrator(settings)
        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            service="orchestrator",
            checks={"kafka": parts.check_owner, "database": parts.check_store},
        )
        await runtime.start("open the event store", parts.open_stores())
        runtime.on_drain("close the event store", parts.close_stores)
        await runtime.start("read the limits of tenants", parts.limits.refresh())
        await runtime.start("connect the producer to Kafka", parts.publisher.start(settings.startup_timeout_s))
        runtime.on_drain("close the producer", parts.publisher.stop)
        await runtime.start("read the executors topic", parts.executors.start(settings.startup_timeout_s))
        runtime.on_drain("stop reading the executors topic", parts.executors.stop)
        runtime.background("publish", parts.outbox.run(), drains=False)
        # Before the first command: what no executor announced is refused.
        runtime.background("follow executors", parts.listen(runtime.stopping))
        await runtime.start("hear of all executors", parts.heard_all.wait())
        await runtime.start("join the consumer group", parts.consumer.start(settings.startup_timeout_s))
        runtime.on_drain("hand the partitions over", parts.drain)
        runtime.background("decide commands", parts.command_rounds(runtime.stopping))
        runtime.background("look up usage", parts.budgets.run(runtime.stopping))
        runtime.background("look at leases", parts.leases.run(runtime.stopping, parts.loop.wake.set))
        runtime.background("follow the limits of tenants", parts.limits.run(runtime.stopping))
        runtime.background("show presence", parts.beat(runtime.stopping))
        await runtime.start("open the ops port", ops.start())
        runtime.on_drain("close the ops port", ops.stop)
        await runtime.run_until_stopped()
