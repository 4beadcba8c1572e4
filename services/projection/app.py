"""Builds and runs the projection: events, outputs and heartbeats in, rows of the views out."""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import TopicPartition

from services.projection.apply import Applier, Limits, Rewound, Stopped
from services.projection.batch import Records
from services.projection.database import Database
from services.projection.dead_letters import KafkaDeadLetters
from services.projection.retention import Retention
from services.projection.settings import ProjectionSettings
from taskloom.bus.batches import BatchConsumer
from taskloom.bus.publish import Publisher
from taskloom.lifecycle import Runtime
from taskloom.ops import OpsServer
from taskloom.store.history import HistoryReader
from taskloom.wire.topics import Topics

REPORT_EVERY_S: Final = 1.0
GATHER_FROM: Final = 50
"""Records of a batch from which on the next one is waited for a little longer."""
FORGET_EVERY_S: Final = 60.0


async def run(settings: ProjectionSettings) -> None:
    """Runs until SIGTERM; returns when the batch in flight is committed and everything is closed."""
    await serve(Runtime("projection", settings), settings)


async def serve(runtime: Runtime, settings: ProjectionSettings) -> None:
    """As ``run``, in a runtime of the caller's, which can also stop it."""
    topics = Topics(settings.topic_prefix)
    async with runtime:
        database = Database(settings.database_dsn)
        runtime.on_drain("close the database", database.close)
        history = HistoryReader(
            settings.database_dsn, partitions=settings.partitions, shards=settings.shards, max_connections=1
        )
        runtime.on_drain("close the event store", history.close)
        await runtime.start("connect to the event store", history.open())
        publisher = Publisher(settings.kafka_bootstrap, f"{settings.instance}-dead-letters")
        await runtime.start("connect to Kafka", publisher.start())
        runtime.on_drain("close the producer", publisher.stop)

        def behind() -> Mapping[TopicPartition, int]:
            return consumer.behind()

        applier = Applier(
            database,
            history,
            KafkaDeadLetters(publisher, topics, settings.partitions),
            topics,
            limits=Limits(settings.projection_cached_rows, settings.projection_retry_max_s, settings.audit_days),
            stopping=runtime.stopping,
            behind=behind,
        )
        consumer = BatchConsumer(
            settings.kafka_bootstrap,
            (topics.events, topics.outputs, topics.executors, topics.audit),
            f"{settings.topic_prefix}.projection.views",
            on_assigned=applier.take,
            on_revoked=applier.release,
            client_id=settings.instance,
            max_records=settings.projection_batch_records,
        )
        await runtime.start("join the consumer group", consumer.start())
        runtime.on_drain("leave the consumer group", consumer.stop)

        async def database_answers() -> None:
            await database.transaction(lambda cursor: cursor.execute("SELECT 1"))

        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            service="projection",
            checks={"database": database_answers, "kafka": consumer.ping},
        )
        await runtime.start("open the ops port", ops.start())
        runtime.on_drain("close the ops port", ops.stop)
        runtime.background("report positions", _report(applier, runtime.stopping))
        runtime.background("forget old seconds", _forget(applier, runtime.stopping))
        retention = Retention(settings, history, applier.returned, runtime.stopping)
        runtime.background("bring back what was retired", retention.bring_back())
        if settings.retires:
            runtime.background("retire what is old", retention.sweep())
        runtime.background("apply", _apply(consumer, applier, settings, runtime.stopping))
        await runtime.run_until_stopped()


async def _apply(
    consumer: BatchConsumer, applier: Applier, settings: ProjectionSettings, stopping: asyncio.Event
) -> None:
    """The loop that is this service: poll, apply, and go back where the table says so."""
    while not stopping.is_set():
        try:
            records = await consumer.poll(settings.projection_poll_ms)
            if records:
                await applier.apply(records)
                await _gather(records, settings)
        except Rewound as rewound:
            for partition, offset in rewound.offsets.items():
                consumer.seek(partition, offset)
        except Stopped:
            return


async def _gather(records: Records, settings: ProjectionSettings) -> None:
    """Under load a task's events come in close succession: those that are read together cost one write. Behind a small
    batch nothing is held back, and behind one of all that was allowed more waits already."""
    if GATHER_FROM <= sum(map(len, records.values())) < settings.projection_batch_records:
        await asyncio.sleep(settings.projection_gather_ms / 1000)


async def _report(applier: Applier, stopping: asyncio.Event) -> None:
    while await _not_stopped(stopping, REPORT_EVERY_S):
        await applier.report_idle()


async def _forget(applier: Applier, stopping: asyncio.Event) -> None:
    while await _not_stopped(stopping, FORGET_EVERY_S):
        await applier.forget()


async def _not_stopped(stopping: asyncio.Event, within_s: float) -> bool:
    """False at once when it stops, True when it did not for that long."""
    try:
        async with asyncio.timeout(within_s):
            await stopping.wait()
    except TimeoutError:
        return True
    return False
