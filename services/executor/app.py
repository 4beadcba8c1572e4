"""Builds and runs an executor: settings in, wired parts out."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from aiokafka import TopicPartition

from services.executor.attempt import Tools
from services.executor.attempts import END_S, Attempts
from services.executor.claims import LazyClaims
from services.executor.directives import Directives
from services.executor.kinds import handlers as load_handlers
from services.executor.outbox import Outbox
from services.executor.prefetch import Reserve
from services.executor.processes import Guardian
from services.executor.register import Announcer
from services.executor.reports import Reporter
from services.executor.sampling import Sampler
from services.executor.settings import ExecutorSettings
from taskloom import telemetry
from taskloom.bus.publish import Publisher
from taskloom.bus.tail import TailConsumer
from taskloom.errors import TaskloomError
from taskloom.kinds import Handler
from taskloom.lifecycle import Runtime
from taskloom.ops import OpsServer
from taskloom.wire.topics import Topics, partition_of

LAST_WORDS_S = 4.0
"""Of the drain's time this much, but at most half, is kept for stopping what still runs and for the last reports."""

MIB = 1024 * 1024
_attempts_ended = telemetry.counter("executor_attempts", "Attempts that ended, by kind and how", ["kind", "how"])


class NotReady(TaskloomError):
    """The executor takes no work."""


async def run(settings: ExecutorSettings) -> None:
    """Runs an executor until SIGTERM, then drains: no new work, what runs gets the drain's time, all is reported."""
    incarnation = uuid4().hex
    client_id = f"executor-{settings.executor_id}"
    topics = Topics(settings.topic_prefix)
    async with Runtime("executor", settings) as runtime:
        # Two producers, so that gigabytes of output do not stand before a report.
        report_publisher = Publisher(settings.kafka_bootstrap, client_id)
        output_publisher = Publisher(settings.kafka_bootstrap, f"{client_id}-outputs")
        await runtime.start("connect the producer of reports", report_publisher.start())
        runtime.on_drain("close the producer of reports", report_publisher.stop)
        await runtime.start("connect the producer of output", output_publisher.start())
        runtime.on_drain("close the producer of output", output_publisher.stop)

        reports = Outbox(report_publisher, name="reports", max_records=settings.max_pending_reports, max_bytes=64 * MIB)
        outputs = Outbox(
            output_publisher, name="outputs", max_records=50_000, max_bytes=settings.max_pending_output_mb * MIB
        )
        handlers = await runtime.start("load handlers", _open_handlers(settings))
        values = LazyClaims(settings.database_dsn)
        guardian = Guardian()
        reporter = Reporter(
            reports, topic=topics.commands, partitions=settings.partitions, executor_id=settings.executor_id
        )
        tools = Tools(reporter, outputs, topics.outputs, settings.partitions, guardian, settings.stop_grace_s)
        reserve = Reserve(settings.prefetch)

        def ended(kind: str, how: str) -> None:
            _attempts_ended.labels(kind, how).inc()
            reserve.count_end()

        attempts = Attempts(
            tools,
            handlers,
            values,
            slots=settings.slots,
            prefetch=settings.prefetch,
            pid=os.getpid(),
            on_end=ended,
        )
        announcer = Announcer(
            report_publisher,
            settings,
            incarnation=incarnation,
            kinds=tuple(sorted(handlers)),
            schemas={kind: handler.schema for kind, handler in handlers.items() if handler.schema is not None},
            live=attempts.live,
            reserve=reserve,
        )
        assignments = TopicPartition(topics.assignments, partition_of(settings.executor_id, settings.partitions))
        consumer = TailConsumer(settings.kafka_bootstrap, [assignments], client_id=client_id)

        async def ready() -> None:
            if announcer.status != "ready":
                raise NotReady(f"the executor is {announcer.status}")

        ops = OpsServer(
            settings.ops_host,
            settings.ops_port,
            service="executor",
            checks={"kafka": report_publisher.ping, "assignments": consumer.ping, "takes work": ready},
        )
        # What follows is undone from the last line up: attempts end, then what they need, then who hears of it.
        runtime.on_drain("say good-bye", lambda: announcer.announce("stopped"))
        await runtime.start("serve /health", ops.start())
        runtime.on_drain("close /health", ops.stop)
        for outbox in (reports, outputs):
            runtime.background(f"send {outbox.name}", outbox.run())
            runtime.on_drain(f"flush {outbox.name}", _closer(outbox))
        runtime.on_drain("close claims", values.close)
        runtime.on_drain("end the guardian", guardian.close)
        runtime.on_drain("close handlers", lambda: _close_handlers(handlers))
        await runtime.start("find the end of the assignments", consumer.start())
        runtime.on_drain("close the consumer", consumer.stop)
        directives = Directives(
            consumer, attempts, reports, executor_id=settings.executor_id, incarnation=incarnation, topics=topics
        )
        runtime.background("take directives", directives.run(), drains=False)
        await runtime.start("register", announcer.announce("ready"))
        runtime.background("send heartbeats", announcer.run(), drains=False)
        runtime.background("sample resources", Sampler().run(lambda: list(attempts.running.values())), drains=False)

        async def drain() -> None:
            # Beside each other: with Kafka away the word may not get out, and attempts must not wait for that.
            announcing = asyncio.create_task(announcer.announce("draining"))
            last_words_s = min(LAST_WORDS_S, settings.drain_timeout_s / 2)
            await attempts.drain(settings.drain_timeout_s - last_words_s, min(END_S, last_words_s * 0.7))
            await asyncio.wait({announcing}, timeout=1.0)
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)

        runtime.on_drain("drain attempts", drain)
        await runtime.run_until_stopped()


def _closer(outbox: Outbox) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        outbox.close()

    return close


async def _open_handlers(settings: ExecutorSettings) -> dict[str, Handler]:
    handlers = load_handlers(settings)
    for handler in handlers.values():
        await handler.open()
    return handlers


async def _close_handlers(handlers: Mapping[str, Handler]) -> None:
    for handler in handlers.values():
        await handler.close()
