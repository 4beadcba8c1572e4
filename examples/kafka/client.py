"""A client that uses Kafka alone: commands out, correlated replies in, a task's events until its end. Needs: aiokafka.

TASKLOOM_KAFKA_BOOTSTRAP=127.0.0.1:9092 python client.py
"""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

BOOTSTRAP = os.environ.get("TASKLOOM_KAFKA_BOOTSTRAP", "127.0.0.1:9092")
PREFIX = os.environ.get("TASKLOOM_TOPIC_PREFIX", "taskloom")
COMMANDS, EVENTS, REPLIES = f"{PREFIX}.commands", f"{PREFIX}.events", f"{PREFIX}.replies"
ENDS = ("completed", "failed", "timed-out", "cancelled")


class Client:
    """Sends commands and hears what becomes of them. Make it with ``connected``."""

    def __init__(self, producer: AIOKafkaProducer, partitions: int) -> None:
        self._producer = producer
        self._partitions = partitions
        self.name = f"example-{uuid.uuid4()}"
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[str, asyncio.Queue[dict[str, Any]]] = {}

    async def send(self, command: str, task_id: str, **data: Any) -> dict[str, Any]:
        """The orchestrator's reply; it has a ``refusal`` when the command was not carried out."""
        command_id = str(uuid.uuid4())
        self._events.setdefault(task_id, asyncio.Queue())
        reply = self._replies[command_id] = asyncio.get_running_loop().create_future()
        attributes = {
            "ce_specversion": "1.0",
            "ce_type": f"taskloom.task.{command}.v1",
            "ce_id": command_id,  # a command that comes again under its id changes nothing and gets the first answer
            "ce_source": "/examples/aiokafka",
            "ce_subject": task_id,
            "ce_replyto": self.name,
        }
        await self._producer.send_and_wait(
            COMMANDS,
            json.dumps(data).encode(),
            key=task_id.encode(),
            # aiokafka would hash the key in another way than Taskloom. That would do too: a command on another
            # partition is sent on to the right one.
            partition=crc32(task_id.encode()) % self._partitions,
            headers=[(name, value.encode()) for name, value in attributes.items()],
        )
        return await asyncio.wait_for(reply, timeout=30.0)

    async def events(self, task_id: str) -> AsyncIterator[dict[str, Any]]:
        """Events of a task that this client sent a command for, until the one that ends it; each once."""
        version = 0
        while True:
            event = await asyncio.wait_for(self._events[task_id].get(), timeout=60.0)
            if event["version"] <= version:
                continue  # a record may come twice; the task's version tells
            version = event["version"]
            yield event
            if event["type"].split(".")[-2] in ENDS and not event["type"].startswith("taskloom.attempt."):
                return

    async def hear(self, consumer: AIOKafkaConsumer) -> None:
        """Hands replies and events to whoever waits for them; what is for others is passed over."""
        async for record in consumer:
            if record.topic == REPLIES and record.key == self.name.encode():
                reply = json.loads(record.value)
                if (waiting := self._replies.pop(reply["command_id"], None)) and not waiting.done():
                    waiting.set_result(reply)
            elif record.topic == EVENTS and (queue := self._events.get(record.key.decode())):
                queue.put_nowait(json.loads(record.value))


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """A client that hears every reply and event from now on."""
    async with (
        AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, acks="all", enable_idempotence=True) as producer,
        AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False) as consumer,
    ):
        partitions = len(await producer.partitions_for(COMMANDS))
        places = [TopicPartition(topic, n) for topic in (EVENTS, REPLIES) for n in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)  # from here on nothing is missed
        client = Client(producer, partitions)
        hearing = asyncio.create_task(client.hear(consumer))
        try:
            yield client
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


async def main() -> None:
    async with connected() as client:
        first, second = f"kafka-{uuid.uuid4()}", f"kafka-{uuid.uuid4()}"

        reply = await client.send("submit", first, kind="echo", input={"hello": "Kafka"}, name="one step")
        print(f"submitted {reply['task_id']}: {reply['state']} at version {reply['version']}")
        async for event in client.events(first):
            print(f"  {event['version']} {event['type']}")
        print(f"  result: {event['result']}")

        await client.send("submit", second, kind="sleep", input={"seconds": 600})
        reply = await client.send("cancel", second, reason="the example is over")
        print(f"asked to cancel {second}: {reply['state']}")
        async for event in client.events(second):
            print(f"  {event['version']} {event['type']}")

        reply = await client.send("pause", second)
        print(f"pausing it now is refused: {reply['refusal']['code']}: {reply['refusal']['message']}")


if __name__ == "__main__":
    asyncio.run(main())
