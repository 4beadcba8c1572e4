"""Tasks sent by a plain Kafka producer: CloudEvents on the commands topic, the replies followed on theirs."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from taskloom.cli.demo.waiting import DemoFailed
from taskloom.wire.topics import Topics, partition_of

REPLY_WITHIN_S: Final = 30.0


async def send(bootstrap: str, topics: Topics, tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Sends a submission for each task id and returns the orchestrator's reply to each.

    Raises:
        DemoFailed: not all replies came within 30 s.
    """
    name = f"demo-{uuid.uuid4()}"
    async with (
        AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer,
        AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer,
    ):
        await _listen(consumer, topics.replies, len(await producer.partitions_for(topics.replies)))
        partitions = len(await producer.partitions_for(topics.commands))
        for task_id, body in tasks.items():
            await producer.send_and_wait(
                topics.commands,
                json.dumps(body).encode(),
                key=task_id.encode(),
                partition=partition_of(task_id, partitions),
                headers=_cloud_event(task_id, reply_to=name),
            )
        try:
            async with asyncio.timeout(REPLY_WITHIN_S):
                return await _replies(consumer, name, set(tasks))
        except TimeoutError:
            raise DemoFailed(f"no reply to all tasks sent over Kafka within {REPLY_WITHIN_S:g} s") from None


def _cloud_event(task_id: str, *, reply_to: str) -> list[tuple[str, bytes]]:
    attributes = {
        "ce_specversion": "1.0",
        "ce_type": "taskloom.task.submit.v1",
        "ce_id": str(uuid.uuid4()),
        "ce_source": "/demo/producer",
        "ce_subject": task_id,
        "ce_replyto": reply_to,
    }
    return [(name, value.encode()) for name, value in attributes.items()]


async def _listen(consumer: AIOKafkaConsumer, topic: str, partitions: int) -> None:
    places = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for place in places:
        await consumer.position(place)  # from here on no reply is missed


async def _replies(consumer: AIOKafkaConsumer, name: str, task_ids: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    async for record in consumer:
        if record.key == name.encode():
            reply = json.loads(record.value)
            found[reply["task_id"]] = reply
        if task_ids <= found.keys():
            break
    return found
