from collections.abc import AsyncIterator

import pytest

from taskloom.bus.admin import ensure_topics
from taskloom.bus.publish import Publisher
from taskloom.wire.topics import Topics

PARTITIONS = 4


@pytest.fixture
async def topics(kafka_bootstrap: str, topic_prefix: str) -> Topics:
    """Fresh topics with four partitions each."""
    await ensure_topics(kafka_bootstrap, topic_prefix, PARTITIONS)
    return Topics(topic_prefix)


@pytest.fixture
async def publisher(kafka_bootstrap: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(kafka_bootstrap, "test")
    await publisher.start()
    yield publisher
    await publisher.stop()
