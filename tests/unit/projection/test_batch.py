"""What is read from the topics, and what is passed over."""

from datetime import UTC, datetime

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from services.projection.batch import Batch, read_batch
from taskloom.wire.messages import OrchestratorHeartbeat
from taskloom.wire.topics import Topics


def test_presence_of_an_orchestrator_on_the_executors_topic_is_passed_over() -> None:
    topics = Topics("t")
    beat = msgspec.json.encode(OrchestratorHeartbeat("orchestrator-1", (0, 1), datetime(2026, 1, 1, tzinfo=UTC)))
    record = ConsumerRecord(topics.executors, 0, 0, 0, 0, b"orchestrator-1", beat, None, 0, 0, [])

    assert read_batch({TopicPartition(topics.executors, 0): [record]}, topics) == Batch()
