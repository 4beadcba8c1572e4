"""The whole projection over a real broker and a real database, alone and two at once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.projection.app import serve
from services.projection.settings import ProjectionSettings
from taskloom.bus.admin import ensure_topics
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.lifecycle import Runtime
from taskloom.local.kafka import EmbeddedKafka
from taskloom.local.postgres import EmbeddedPostgres
from taskloom.testing.eventually import eventually
from taskloom.testing.histories import START, TaskLife, one_step_task
from taskloom.views.positions import read_lag
from taskloom.views.reading import Pool, read_pool
from taskloom.views.sessions import query as sessions
from taskloom.views.task_executions import query as tasks
from taskloom.wire.messages import DeadLetter
from taskloom.wire.topics import Topics, partition_of

pytestmark = pytest.mark.integration


class Bench:
    """Topics, a publisher and a reader of one test."""

    def __init__(self, settings: ProjectionSettings, publisher: Publisher, pool: Pool) -> None:
        self.settings, self.publisher, self.pool = settings, publisher, pool
        self.topics = Topics(settings.topic_prefix)

    async def publish(self, lives: Sequence[TaskLife]) -> None:
        await self.publisher.publish(
            [
                OutRecord(self.topics.events, partition_of(life.task_id, 8), life.task_id.encode(), body)
                for life in lives
                for body in life.bodies
            ]
        )

    @asynccontextmanager
    async def projection(self) -> AsyncIterator[Runtime]:
        runtime = Runtime("projection", self.settings, signals=False)
        running = asyncio.create_task(serve(runtime, self.settings))
        try:
            await eventually(lambda: runtime.up.is_set() or running.done(), timeout_s=60)
            yield runtime
        finally:
            runtime.stop()
            await running

    async def completed(self, count: int) -> bool:
        return (await tasks.count_by_status(self.pool, "default")).get("COMPLETED") == count


@pytest.fixture
async def bench(kafka_bootstrap: str, database_dsn: str, topic_prefix: str) -> AsyncIterator[Bench]:
    settings = ProjectionSettings(
        kafka_bootstrap=kafka_bootstrap,
        database_dsn=database_dsn,
        topic_prefix=topic_prefix,
        projection_batch_records=100,
    )
    await ensure_topics(kafka_bootstrap, topic_prefix, 8)
    publisher, pool = Publisher(kafka_bootstrap, "test", delivery_timeout_s=60), read_pool(database_dsn)
    await publisher.start()
    await pool.open(wait=True)
    yield Bench(settings, publisher, pool)
    await pool.close()
    await publisher.stop()


def many(first: int, count: int) -> list[TaskLife]:
    return [one_step_task(f"task-{number}", START, session_id="s") for number in range(first, first + count)]


async def counted(bench: Bench) -> tuple[int, int]:
    session = await sessions.get(bench.pool, "default", "s")
    assert session is not None
    return session.task_count, session.successful_tasks


async def test_published_events_become_rows_and_the_lag_goes_to_zero(bench: Bench) -> None:
    async with bench.projection():
        await bench.publish(many(0, 200))
        await eventually(lambda: bench.completed(200))

        async def caught_up() -> bool:
            lag = await read_lag(bench.pool, bench.topics.events)
            return (lag.ms, lag.records) == (0.0, 0)

        await eventually(caught_up)
    assert await counted(bench) == (200, 200)


async def test_poison_on_the_topic_lands_in_the_dead_letters(bench: Bench) -> None:
    partition = partition_of("task-0", 8)
    async with bench.projection():
        await bench.publisher.publish([OutRecord(bench.topics.events, partition, b"task-0", b"poison")])
        await bench.publish(many(0, 5))
        await eventually(lambda: bench.completed(5))
    place = TopicPartition(bench.topics.dead_letters, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=bench.settings.kafka_bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([place])
        record = await consumer.getone(place)
    finally:
        await consumer.stop()
    letter = msgspec.json.decode(record.value, type=DeadLetter)
    assert (letter.topic, letter.partition, letter.value) == (bench.topics.events, partition, b"poison")
    assert letter.reason.startswith("projection: not an event")


async def test_two_projections_hand_over_without_losing_or_repeating(bench: Bench) -> None:
    async with bench.projection():
        await bench.publish(many(0, 300))
        await eventually(lambda: bench.completed(300))
        async with bench.projection():
            await bench.publish(many(300, 600))
            await eventually(lambda: bench.completed(900), timeout_s=60)
        await bench.publish(many(900, 300))
        await eventually(lambda: bench.completed(1200), timeout_s=60)
    assert await counted(bench) == (1200, 1200)


@pytest.mark.chaos
async def test_broker_and_database_may_be_killed(
    bench: Bench, embedded_kafka: EmbeddedKafka, embedded_postgres: EmbeddedPostgres
) -> None:
    async with bench.projection() as runtime:
        await bench.publish(many(0, 100))
        await eventually(lambda: bench.completed(100))
        embedded_postgres.kill()
        await bench.publish(many(100, 300))
        await embedded_postgres.start()
        await eventually(lambda: answered(bench, 400), timeout_s=60)
        embedded_kafka.kill()
        await embedded_kafka.start()
        await bench.publish(many(400, 100))
        await eventually(lambda: answered(bench, 500), timeout_s=60)
        assert not runtime.stopping.is_set()
    assert await counted(bench) == (500, 500)


async def answered(bench: Bench, count: int) -> bool:
    import psycopg
    import psycopg_pool

    try:
        return await bench.completed(count)
    except (psycopg.OperationalError, psycopg_pool.PoolTimeout):
        return False
