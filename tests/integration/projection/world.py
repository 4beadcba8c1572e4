"""A projection without Kafka: real tables, records made by hand, a store to fill gaps from."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import psycopg
from aiokafka import ConsumerRecord, TopicPartition

from services.projection.apply import Applier, Limits, Rewound
from services.projection.batch import Poison
from services.projection.database import Database
from taskloom.domain.envelope import Recorded
from taskloom.store.batch import Batch, OffsetMove, OpenTask
from taskloom.store.shard import ShardStore
from taskloom.testing.histories import TaskLife
from taskloom.wire.topics import Topics, partition_of, shard_of

PARTITIONS = 8
SHARDS = 2
TOPICS = Topics("world")


class Graveyard:
    """Dead letters in memory."""

    def __init__(self) -> None:
        self.buried: list[Poison] = []

    async def bury(self, poison: Collection[Poison]) -> None:
        self.buried += poison


class Lives:
    """A store of histories in memory, to fill gaps from."""

    def __init__(self, lives: Iterable[TaskLife] = ()) -> None:
        self._recorded = {life.task_id: life.recorded for life in lives}

    async def events(
        self, task_id: str, after: int = 0, limit: int | None = None, up_to: int | None = None
    ) -> list[Recorded]:
        return [one for one in self._recorded.get(task_id, []) if after < one.version <= (up_to or 2**31)]


class World:
    """One applier on real tables. ``feed`` gives it records as a poll would; offsets go on by themselves."""

    def __init__(
        self, dsn: str, lives: Iterable[TaskLife] = (), offsets: dict[TopicPartition, int] | None = None
    ) -> None:
        self.dsn, self.dead = dsn, Graveyard()
        self.offsets = offsets if offsets is not None else {}
        self.database = Database(dsn)
        self.applier = Applier(self.database, Lives(lives), self.dead, TOPICS, limits=Limits(1000, 0.2))

    async def start(self) -> "World":
        await self.applier.take([TopicPartition(TOPICS.events, number) for number in range(PARTITIONS)])
        await self.applier.take([TopicPartition(topic, 0) for topic in (TOPICS.outputs, TOPICS.executors)])
        return self

    async def stop(self) -> None:
        await self.database.close()

    async def feed(self, bodies: Sequence[tuple[str, bytes]]) -> None:
        await self.applier.apply(self.records(bodies))

    async def feed_until_applied(self, bodies: Sequence[tuple[str, bytes]]) -> int:
        """As the service's loop: goes back where the applier says so. Returns how often it had to."""
        records, times = self.records(bodies), 0
        while True:
            try:
                await self.applier.apply(records)
            except Rewound:
                times += 1
            else:
                return times

    def records(self, bodies: Sequence[tuple[str, bytes]]) -> dict[TopicPartition, list[ConsumerRecord]]:
        """Event records of (task id, body), by partition."""
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        for task_id, body in bodies:
            tp = TopicPartition(TOPICS.events, partition_of(task_id, PARTITIONS))
            found.setdefault(tp, []).append(self.record(tp, task_id, body))
        return found

    def record(self, tp: TopicPartition, key: str, body: bytes | None) -> ConsumerRecord:
        offset = self.offsets.get(tp, 0)
        self.offsets[tp] = offset + 1
        return ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, key.encode(), body, None, 0, 0, [])

    async def feed_topic(self, topic: str, values: Sequence[tuple[str, bytes | None]]) -> None:
        tp = TopicPartition(topic, 0)
        await self.applier.apply({tp: [self.record(tp, key, value) for key, value in values]})


def bodies_of(lives: Iterable[TaskLife]) -> list[tuple[str, bytes]]:
    return [(life.task_id, body) for life in lives for body in life.bodies]


def store_lives(dsn: str, lives: Sequence[TaskLife]) -> None:
    """Puts whole histories into the event store, open rows with them, as the orchestrator would."""
    for shard in range(SHARDS):
        store = ShardStore(dsn, shard, partitions=PARTITIONS, shards=SHARDS)
        store.open()
        try:
            for partition in range(PARTITIONS):
                if shard_of(partition, SHARDS) == shard:
                    _store_partition(store, partition, lives)
        finally:
            store.close()


def _store_partition(store: ShardStore, partition: int, lives: Sequence[TaskLife]) -> None:
    owned = store.take_over(partition)
    mine = [life for life in lives if partition_of(life.task_id, PARTITIONS) == partition]
    is_open = [life.task_id for life in mine if life.state is not None and not life.state.ended]
    store.put(
        Batch(
            events=[recorded for life in mine for recorded in life.recorded],
            moves=[OffsetMove(partition, owned.epoch, owned.next_offset, owned.next_offset + 1, owned.published)],
            open=[OpenTask(task_id, partition, None) for task_id in is_open],
        )
    )


def execute(dsn: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []
