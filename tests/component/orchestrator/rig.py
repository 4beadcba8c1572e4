"""Orchestrators without Kafka: their command loops, a clock that stands still, topics in memory, any event store."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import msgspec
from aiokafka import TopicPartition

from services.orchestrator.announced import Announced
from services.orchestrator.commands import CommandLoop
from services.orchestrator.decisions import Decisions
from services.orchestrator.entities import Entities
from services.orchestrator.executors import Listener
from services.orchestrator.forks import Forks
from services.orchestrator.ingest import Ingest
from services.orchestrator.leases import Leases
from services.orchestrator.lookups import Lookups
from services.orchestrator.memory import Memory
from services.orchestrator.outbox import Outbox, Records
from services.orchestrator.ownership import Owner
from services.orchestrator.ports import Store
from services.orchestrator.stored_webhooks import StoredWebhooks
from services.orchestrator.stored_workflows import StoredWorkflows
from services.orchestrator.timers import Timers
from services.orchestrator.values import RunValues
from taskloom.domain.entities.commands import EntityCommand
from taskloom.domain.envelope import Recorded
from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.leases import Limit, Occupied, Taken, Wish
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import Directive
from taskloom.store.batch import Batch, History, OpenTask, Ownership
from taskloom.store.errors import StoreUnavailable
from taskloom.testing.clock import ManualClock
from taskloom.testing.memory import InMemoryBus, InMemoryRecord
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, command_type, encode_command
from taskloom.wire.messages import DeadLetter, ExecutorHeartbeat, LiveAttempt, OrchestratorHeartbeat, Reply
from taskloom.wire.recorded import unseal
from taskloom.wire.topics import Topics, partition_of

PARTITIONS = 4
SHARDS = 2


def task_on(partition: int, name: str = "task") -> str:
    """A task id that belongs to the partition."""
    return next(i for n in range(10_000) if partition_of(i := f"{name}-{n}", PARTITIONS) == partition)


class WatchedStore:
    """A store that can be made to fail. ``before_put`` is called with each batch and may raise."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = 0
        self.before_put: Callable[[Batch], None] = lambda _batch: None

    def put(self, batch: Batch) -> list[int]:
        self.before_put(batch)
        if self.away:
            self.away -= 1
            raise StoreUnavailable("the database is away")
        return self._store.put(batch)

    def take_over(self, partition: int) -> Ownership:
        return self._store.take_over(partition)

    def load(self, task_ids: Sequence[str]) -> dict[str, History]:
        return self._store.load(task_ids)

    def body(self, task_id: str, version: int) -> bytes:
        return self._store.body(task_id, version)

    def events(self, task_id: str, up_to: int, limit: int) -> list[Recorded]:
        return self._store.events(task_id, up_to, limit)

    def open_tasks(self, partition: int) -> list[OpenTask]:
        return self._store.open_tasks(partition)

    def log(self, after: int, limit: int = 1000) -> list[tuple[int, bytes]]:
        return self._store.log(after, limit)

    def claims(self, digests: Sequence[str]) -> dict[str, bytes]:
        return self._store.claims(digests)

    def take_leases(self, instance: str, epochs: Mapping[int, int], wishes: Sequence[Wish]) -> Taken:
        return self._store.take_leases(instance, epochs, wishes)

    def look_at_leases(
        self, instance: str, limits: Sequence[Limit], gone: Sequence[Limit] = (), *, waits: bool = False
    ) -> dict[Limit, Occupied]:
        return self._store.look_at_leases(instance, limits, gone, waits=waits)

    def settle_leases(self, partition: int, epoch: int, held: Sequence[Wish]) -> bool:
        return self._store.settle_leases(partition, epoch, held)

    def mark_published(self, marks: Sequence[tuple[int, int, int]]) -> None:
        self._store.mark_published(marks)


class Node:
    """One orchestrator process: its parts, wired as ``services.orchestrator.app`` wires them."""

    def __init__(self, rig: "Rig", instance: str, ended_kept: int) -> None:
        self._rig = rig
        self._instance = instance
        self.stores = [WatchedStore(rig.open_store(shard)) for shard in range(SHARDS)]
        self.memory = Memory(PARTITIONS, ended_kept)
        self.pool = ExecutorPool(PARTITIONS, lost_after_beats=4)
        self.scheduler = Scheduler(self.pool)
        announced = Announced(rig.clock)
        self.timers = Timers()
        self.offsets: dict[int, int] = {}
        records = Records(rig.topics, PARTITIONS)
        self.outbox = Outbox(rig.bus, lambda positions: self.owner.note_published(positions))
        entities = Entities(PARTITIONS)
        self.leases = Leases(self.scheduler, self.stores[0], instance, PARTITIONS)
        self.owner = Owner(
            self.stores,
            self.memory,
            self.scheduler,
            self.timers,
            self.outbox,
            records,
            PARTITIONS,
            self.offsets.__setitem__,
            entities,
            self.leases,
        )
        ingest = Ingest(PARTITIONS, announced)
        self.loop = CommandLoop(
            self.owner,
            self.memory,
            self.scheduler,
            self.timers,
            Decisions(self.memory, 10, RunValues(self.stores)),
            ingest,
            self.outbox,
            records,
            entities,
            Lookups(StoredWorkflows(self.stores, PARTITIONS), Forks(self.stores, PARTITIONS, ingest.check_fork)),
            StoredWebhooks(self.stores, PARTITIONS),
            self.leases,
            partitions=PARTITIONS,
            shards=SHARDS,
            batch_max=500,
            rebalance_max=2,
            clock=rig.clock,
        )
        self.listener = Listener(
            instance,
            self.pool,
            announced,
            self.memory,
            self.loop.tell,
            self.loop.direct,
            caught_up=lambda _task_id: True,
        )

    async def own(self, *partitions: int) -> None:
        async with self.owner.lock:
            for partition in partitions or range(PARTITIONS):
                self.offsets[partition] = await self.owner.take_over(partition)

    async def round(self, *, publish: bool = True) -> None:
        """One round over all that waits in the owned partitions; ``publish``: until Kafka has what left."""
        polled = {}
        for partition in list(self.owner.partitions):
            records = self._rig.bus.read(self._rig.topics.commands, partition, self.offsets[partition])
            self.offsets[partition] += len(records)
            if records:
                polled[TopicPartition(self._rig.topics.commands, partition)] = records
        await self.loop.round(polled)
        if publish:
            await self.outbox.flush()

    async def rounds(self, count: int = 3) -> None:
        for _ in range(count):
            await self.round()

    def hear(self, executor_id: str = "ex-1", incarnation: str = "a", **fields: Any) -> None:
        beat = ExecutorHeartbeat(
            **{
                "executor_id": executor_id,
                "incarnation": incarnation,
                "status": "ready",
                "at": self._rig.clock.now,
                "kinds": ("echo", "shell"),
                "slots": 4,
                **fields,
            }
        )
        self.listener.apply(InMemoryRecord("executors", 0, 0, None, msgspec.json.encode(beat)))

    def beat(self) -> None:
        beat = OrchestratorHeartbeat(self._instance, (), self._rig.clock.now)
        self.listener.apply(InMemoryRecord("executors", 0, 0, None, msgspec.json.encode(beat)))


class Rig:
    """What outlives an orchestrator: topics, the clock and the database."""

    def __init__(self, open_store: Callable[[int], Store]) -> None:
        self.open_store = open_store
        self.bus = InMemoryBus(PARTITIONS)
        self.topics = Topics("t")
        self.clock = ManualClock()
        self._sent = 0

    @asynccontextmanager
    async def node(
        self, instance: str = "o-1", *, publishes: bool = True, ended_kept: int = 100
    ) -> AsyncIterator[Node]:
        """An orchestrator until the end of the block, which is its sudden death: nothing is handed over."""
        node = Node(self, instance, ended_kept)
        publishing = asyncio.create_task(node.outbox.run()) if publishes else None
        try:
            yield node
        finally:
            if publishing is not None:
                publishing.cancel()
                with suppress(asyncio.CancelledError):
                    await publishing

    def send(self, task_id: str, command: c.TaskCommand | EntityCommand, **attributes: Any) -> InMemoryRecord:
        """A command on its topic, with a reply asked for."""
        self._sent += 1
        given = {"id": f"c-{self._sent}", "type": command_type(command), "reply_to": "asker", **attributes}
        key, value, headers = encode_command(Envelope(task_id, command, Attributes(**given)))
        return self.bus.append(self.topics.commands, partition_of(task_id, PARTITIONS), key, value, headers)

    def submit(self, task_id: str, *, kind: str = "echo", tenant_id: str = "default", **fields: Any) -> None:
        command = msgspec.convert({"kind": kind, **fields}, c.SubmitTask)
        self.send(task_id, command, tenant_id=tenant_id)

    def events(self, task_id: str) -> list[Recorded]:
        """The task's events on the topic, in order, doubles included."""
        records = self.bus.read(self.topics.events, partition_of(task_id, PARTITIONS), limit=100_000)
        return [unseal(record.value or b"") for record in records if record.key == task_id.encode()]

    def published(self, task_id: str) -> list[str]:
        return [type(recorded.event).__name__ for recorded in self.events(task_id)]

    def versions(self, task_id: str) -> list[int]:
        return [recorded.version for recorded in self.events(task_id)]

    def stored(self, task_id: str) -> list[Recorded]:
        """The task's events in the store, in order."""
        log = self.open_store(partition_of(task_id, PARTITIONS) % SHARDS).log(0, 100_000)
        return [recorded for _, body in log if (recorded := unseal(body)).task_id == task_id]

    def replies(self) -> list[Reply]:
        return [msgspec.json.decode(r.value or b"", type=Reply) for r in self.bus.all(self.topics.replies)]

    def dead_letters(self) -> list[DeadLetter]:
        return [msgspec.json.decode(r.value or b"", type=DeadLetter) for r in self.bus.all(self.topics.dead_letters)]

    def directives(self) -> list[Any]:
        found = self.bus.all(self.topics.assignments)
        return [msgspec.json.decode(record.value or b"", type=Directive) for record in found]

    @property
    def now(self) -> datetime:
        return self.clock.now


def live(*attempts: tuple[str, int]) -> tuple[LiveAttempt, ...]:
    return tuple(LiveAttempt(*attempt) for attempt in attempts)


TASK = task_on(0)


async def run(rig: Rig, node: Node, task_id: str = TASK, **fields: Any) -> None:
    """Submits a task and brings it to running on ex-1."""
    node.hear()
    rig.submit(task_id, **fields)
    await node.round()
    rig.send(task_id, c.ReportStarted(1, "ex-1"))
    await node.round()
    assert node.memory.get(task_id).word == "running"  # type: ignore[union-attr]
