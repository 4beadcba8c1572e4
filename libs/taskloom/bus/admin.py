"""Making the topics, once, with what each needs."""

import asyncio
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from taskloom import telemetry
from taskloom.bus.connections import retry_until
from taskloom.bus.errors import BusError, TopicMismatch
from taskloom.bus.publish import MAX_RECORD_BYTES
from taskloom.wire.topics import Topics

MAX_LETTER_BYTES: Final = 2 * MAX_RECORD_BYTES
"""A dead letter holds a whole record in base64, which is a third more, and why it is dead."""

DAY_MS: Final = 24 * 3600 * 1000

ALL_TOPICS: Final[dict[str, str]] = {
    # A batch may be a little larger than its one record.
    "max.message.bytes": str(MAX_RECORD_BYTES + 64 * 1024),
    # The broker unpacks what foreign producers compress: our consumers need no codec, and none can block a partition.
    "compression.type": "uncompressed",
}

TOPICS: Final[dict[str, dict[str, str]]] = {
    "commands": {"retention.ms": str(7 * DAY_MS)},
    "events": {"retention.ms": str(30 * DAY_MS)},
    "outputs": {"retention.ms": str(7 * DAY_MS)},
    # Read live by those they are for; a restarted executor begins at the end, and leases bring the rest back.
    "assignments": {"retention.ms": str(DAY_MS)},
    "replies": {"retention.ms": str(DAY_MS // 24)},
    # Small segments, so that compaction keeps up with heartbeats: a starting orchestrator reads this topic whole. The
    # active segment is never compacted, so it is rolled each minute. Executors gone for a day are forgotten.
    "executors": {
        "cleanup.policy": "compact,delete",
        "retention.ms": str(DAY_MS),
        "segment.ms": "60000",
        "segment.bytes": str(4 * 1024 * 1024),
        "min.cleanable.dirty.ratio": "0.2",
        "delete.retention.ms": "60000",
    },
    "audit": {"retention.ms": str(30 * DAY_MS)},
    "dead_letters": {"retention.ms": str(30 * DAY_MS), "max.message.bytes": str(MAX_LETTER_BYTES + 64 * 1024)},
}

log = telemetry.get_logger(__name__)


async def ensure_topics(
    bootstrap: str,
    prefix: str = "taskloom",
    partitions: int = 8,
    *,
    replication: int = 1,
    overrides: dict[str, str] | None = None,
    timeout_s: float = 30.0,
) -> list[str]:
    """Names of the topics that were made; those that exist are kept as they are. Safe when several start at once.

    ``overrides`` are further topic configs for all of them, for example ``min.insync.replicas``.

    Raises:
        BusUnavailable: Kafka did not answer within ``timeout_s``.
        TopicMismatch: a topic exists with another number of partitions; names each.
        BusError: Kafka refused to make a topic; says why.
    """
    topics = Topics(prefix)
    wanted = [
        NewTopic(
            getattr(topics, kind), partitions, replication, topic_configs={**ALL_TOPICS, **config, **(overrides or {})}
        )
        for kind, config in TOPICS.items()
    ]

    async def attempt() -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="taskloom-admin", request_timeout_ms=10_000)
        try:
            await admin.start()
            made = await _create(admin, wanted)
            await _check_partitions(admin, [topic.name for topic in wanted], partitions)
            return made
        finally:
            await admin.close()

    return await retry_until(timeout_s, f"could not make the topics {prefix}.* at {bootstrap}", attempt)


async def _create(admin: AIOKafkaAdminClient, wanted: list[NewTopic]) -> list[str]:
    there = set(await admin.list_topics())
    missing = [topic for topic in wanted if topic.name not in there]
    if not missing:
        return []
    made: list[str] = []
    response: Any = await admin.create_topics(missing)
    for name, code, *message in response.topic_errors:
        if code == 0:
            made.append(name)
        elif code != TopicAlreadyExistsError.errno:
            error: type[KafkaError] = for_code(code)
            if error.retriable:
                raise error(name)
            raise BusError(
                f"Kafka refused to make topic {name}: {error.__name__} {message[0] if message else ''}".strip()
            )
    log.info("topics made", topics=made)
    return made


async def _check_partitions(admin: AIOKafkaAdminClient, names: list[str], partitions: int) -> None:
    """Waits until each topic is known with its partitions (a topic just made appears a little later)."""
    while True:
        found = {
            topic["topic"]: len(topic["partitions"])
            for topic in await admin.describe_topics(names)
            if not topic["error_code"]
        }
        wrong = {name: count for name, count in found.items() if count not in (0, partitions)}
        if wrong:
            list_ = ", ".join(f"{name} has {count}" for name, count in sorted(wrong.items()))
            raise TopicMismatch(
                f"TASKLOOM_PARTITIONS={partitions}, but {list_} partitions: set it to that number, or take another "
                "TASKLOOM_TOPIC_PREFIX (the partitions of a topic in use cannot be changed: each task has its place)"
            )
        if all(found.get(name) == partitions for name in names):
            return
        await asyncio.sleep(0.05)
