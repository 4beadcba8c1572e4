"""What an executor has outside itself: where its reports, output and heartbeats go, where orders and large values are.

Two there are: Kafka and PostgreSQL (``over_kafka``), and the link of an agent (``link/``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiokafka import TopicPartition

from services.executor.claims import LazyClaims, Values
from services.executor.directives import Polls
from services.executor.outbox import BATCH_BYTES, Overflow, Publishes
from services.executor.secrets import Secrets, SecretSource
from services.executor.settings import ExecutorSettings
from taskloom.bus.publish import Publisher
from taskloom.bus.tail import TailConsumer
from taskloom.lifecycle import Runtime
from taskloom.ops import Check
from taskloom.store.secrets import SecretTable
from taskloom.wire.messages import HostMetrics
from taskloom.wire.topics import Topics, partition_of


@dataclass(frozen=True)
class Transport:
    """``checks``: of /readiness, by name. ``overflow``: where output waits that memory has no room for.

    ``batch_bytes``: most output that goes at once. ``measure``: the host's metrics for each heartbeat. ``is_over``:
    nobody takes results any more, so that what runs is stopped at once. ``refuses``: why new attempts
    are declined now, empty when they are not. ``secrets``: where attempts' secrets come from.
    """

    reports: Publishes
    outputs: Publishes
    heartbeats: Publishes
    orders: Polls
    values: Values
    checks: Mapping[str, Check] = field(default_factory=dict)
    overflow: Overflow | None = None
    batch_bytes: int = BATCH_BYTES
    measure: Callable[[], HostMetrics] | None = None
    is_over: Callable[[], bool] = lambda: False
    refuses: Callable[[], str] = lambda: ""
    secrets: SecretSource = field(default_factory=Secrets)


async def over_kafka(settings: ExecutorSettings, runtime: Runtime) -> Transport:
    """Connected; the consumer stands at the end of the executor's assignments."""
    client_id, topics = f"executor-{settings.executor_id}", Topics(settings.topic_prefix)
    # Two producers, so that gigabytes of output do not stand before a report.
    reports = Publisher(settings.kafka_bootstrap, client_id)
    outputs = Publisher(settings.kafka_bootstrap, f"{client_id}-outputs")
    await runtime.start("connect the producer of reports", reports.start())
    runtime.on_drain("close the producer of reports", reports.stop)
    await runtime.start("connect the producer of output", outputs.start())
    runtime.on_drain("close the producer of output", outputs.stop)
    values = LazyClaims(settings.database_dsn)
    runtime.on_drain("close claims", values.close)
    assignments = TopicPartition(topics.assignments, partition_of(settings.executor_id, settings.partitions))
    consumer = TailConsumer(settings.kafka_bootstrap, [assignments], client_id=client_id)
    await runtime.start("find the end of the assignments", consumer.start())
    runtime.on_drain("close the consumer", consumer.stop)
    sealed = SecretTable(settings.database_dsn)
    runtime.on_drain("close secrets", sealed.close)
    checks = {"kafka": reports.ping, "assignments": consumer.ping}
    return Transport(reports, outputs, reports, consumer, values, checks, secrets=Secrets(settings.vault, sealed))
