import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from taskloom.bus.admin import TOPICS, ensure_topics
from taskloom.bus.errors import BusUnavailable, TopicMismatch
from taskloom.wire.topics import Topics

pytestmark = pytest.mark.integration

DAY_MS = 24 * 3600 * 1000


async def configs(bootstrap: str, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    ((_, _, _, _, entries),) = answer.resources
    return {entry[0]: entry[1] for entry in entries}


async def test_several_that_start_together_make_each_topic_once(kafka_bootstrap: str, topic_prefix: str) -> None:
    made = await asyncio.gather(*(ensure_topics(kafka_bootstrap, topic_prefix, 4) for _ in range(4)))
    assert len([name for names in made for name in names]) == len(TOPICS)
    assert await ensure_topics(kafka_bootstrap, topic_prefix, 4) == []


async def test_topics_are_kept_as_their_use_asks(kafka_bootstrap: str, topic_prefix: str) -> None:
    await ensure_topics(kafka_bootstrap, topic_prefix, 2, overrides={"min.insync.replicas": "1"})
    topics = Topics(topic_prefix)
    commands, executors = (
        await configs(kafka_bootstrap, topics.commands),
        await configs(kafka_bootstrap, topics.executors),
    )
    assert int(commands["retention.ms"]) >= 7 * DAY_MS
    assert "compact" in executors["cleanup.policy"]
    assert commands["compression.type"] == executors["compression.type"] == "uncompressed"


async def test_another_number_of_partitions_is_refused_and_said(kafka_bootstrap: str, topic_prefix: str) -> None:
    await ensure_topics(kafka_bootstrap, topic_prefix, 2)
    with pytest.raises(TopicMismatch, match=rf"TASKLOOM_PARTITIONS=4, but .*{topic_prefix}.commands has 2"):
        await ensure_topics(kafka_bootstrap, topic_prefix, 4)


async def test_no_broker_is_said_within_the_time_limit(topic_prefix: str) -> None:
    with pytest.raises(BusUnavailable, match=r"127.0.0.1:1 within 0.5 s"):
        await ensure_topics("127.0.0.1:1", topic_prefix, 4, timeout_s=0.5)
