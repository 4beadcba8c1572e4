"""Kafka as an equal door: plain producers submit, control, are answered; what cannot be applied is put aside (I8)."""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.messages import DeadLetter
from taskloom.wire.topics import partition_of
from tests.e2e.support import Api, Json, door, further_executor

pytestmark = pytest.mark.e2e

PARTITIONS = 8
COMMANDS, REPLIES, DEAD = "taskloom.commands", "taskloom.replies", "taskloom.dead-letters"


class Outsider:
    """A program that knows Kafka and the contract, and nothing of our code: producer, replies, dead letters."""

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self.producer = producer
        self._consumer = consumer
        self.name = f"outsider-{uuid.uuid4().hex[:8]}"
        self.replies: list[tuple[Json, dict[str, str]]] = []
        self.letters: list[DeadLetter] = []

    async def send(
        self,
        data: Any = None,
        command: str = "submit",
        *,
        key: str | None = None,
        partition: int | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> str:
        """Sends in binary mode and returns the command's id; the key is hashed as Kafka's own clients do (murmur2).
        ``headers`` are added; None takes one away."""
        command_id = uuid.uuid4().hex
        known: dict[str, str | None] = {
            "ce_specversion": "1.0",
            "ce_type": f"taskloom.task.{command}.v1",
            "ce_id": command_id,
            "ce_source": "/outsider",
            "ce_replyto": self.name,
            "content-type": "application/json",
        }
        sent = {name: value for name, value in (known | dict(headers or {})).items() if value is not None}
        value = data if isinstance(data, bytes | None) else json.dumps(data).encode()
        await self.producer.send_and_wait(
            COMMANDS,
            value,
            key=None if key is None else key.encode(),
            partition=partition,
            headers=[(name, text.encode()) for name, text in sent.items()],
        )
        return sent.get("ce_id", "")

    async def send_structured(self, data: Any, command: str = "submit", **attributes: str) -> str:
        event = {
            "specversion": "1.0",
            "type": f"taskloom.task.{command}.v1",
            "id": uuid.uuid4().hex,
            "source": "/outsider",
            "replyto": self.name,
            "datacontenttype": "application/json",
            "data": data,
        } | attributes
        headers = [("content-type", b"application/cloudevents+json; charset=utf-8")]
        await self.producer.send_and_wait(COMMANDS, json.dumps(event).encode(), headers=headers)
        return str(event["id"])

    async def reply(self, command_id: str) -> Json:
        """The reply to a command, with its headers under ``headers``."""

        async def heard() -> Json | None:
            await self._hear()
            return next((r | {"headers": h} for r, h in self.replies if r["command_id"] == command_id), None)

        return await eventually(heard, 60.0, 0.01) or {}

    async def letter(self, part_of_value: str) -> DeadLetter:
        """The first dead letter whose record holds this text in its value, key or headers."""

        async def heard() -> DeadLetter | None:
            await self._hear()
            return next((letter for letter in self.letters if part_of_value in _all_text(letter)), None)

        found = await eventually(heard, 60.0, 0.01)
        assert found is not None
        return found

    async def _hear(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=50)).values():
            for record in records:
                if record.topic == DEAD:
                    self.letters.append(msgspec.json.decode(record.value, type=DeadLetter))
                elif record.key == self.name.encode():
                    headers = {name: content.decode() for name, content in record.headers}
                    self.replies.append((json.loads(record.value), headers))


def _all_text(letter: DeadLetter) -> str:
    return " ".join([letter.key, letter.value.decode("utf-8", "replace"), *(str(header) for header in letter.headers)])


@pytest.fixture
async def outsider(running_system: RunningSystem) -> AsyncIterator[Outsider]:
    producer = AIOKafkaProducer(bootstrap_servers=running_system.bootstrap, max_request_size=4_000_000)
    consumer = AIOKafkaConsumer(bootstrap_servers=running_system.bootstrap, enable_auto_commit=False)
    await producer.start()
    await consumer.start()
    places = [TopicPartition(topic, number) for topic in (REPLIES, DEAD) for number in range(PARTITIONS)]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for place in places:
        await consumer.position(place)  # from here on nothing is missed
    try:
        yield Outsider(producer, consumer)
    finally:
        await consumer.stop()
        await producer.stop()


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


def misplaced_id(producer: AIOKafkaProducer) -> str:
    """A task id that a murmur2 producer puts onto another partition than Taskloom's."""
    while True:
        task_id = f"misplaced-{uuid.uuid4().hex[:12]}"
        there = producer._partitioner(task_id.encode(), list(range(PARTITIONS)), list(range(PARTITIONS)))
        if there != partition_of(task_id, PARTITIONS):
            return task_id


def id_on(partition: int) -> str:
    """A fresh task id that belongs to the partition."""
    names = iter(lambda: f"id-{uuid.uuid4()}", "")
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


async def test_a_task_submitted_by_kafka_ends_and_its_reply_is_correlated(outsider: Outsider, api: Api) -> None:
    task_id = f"k-{uuid.uuid4()}"
    command_id = await outsider.send({"kind": "echo", "input": {"n": 1}}, key=task_id)
    reply = await outsider.reply(command_id)
    task = await api.ended(task_id)

    assert (reply["task_id"], reply["state"] in ("ready", "assigned", "running", "completed")) == (task_id, True)
    assert reply["type"] == "taskloom.reply.v1"
    assert reply["headers"]["ce_correlationid"] == command_id
    assert "refusal" not in reply
    assert (task["state"], task["response"]) == ("completed", {"n": 1})


async def test_a_key_hashed_by_murmur2_reaches_its_task_all_the_same(outsider: Outsider, api: Api) -> None:
    task_id = misplaced_id(outsider.producer)
    await outsider.reply(await outsider.send({"query": "wait", "context": {"sleep_seconds": 60}}, key=task_id))
    await api.until(task_id, "running")
    paused = await outsider.reply(await outsider.send({"reason": "lunch"}, "pause", key=task_id))
    await api.until(task_id, "paused")
    await outsider.reply(await outsider.send({}, "resume", key=task_id))
    cancelled = await outsider.reply(await outsider.send({"grace_s": 0}, "cancel", key=task_id))
    task = await api.ended(task_id)

    assert (paused["state"], cancelled["state"], task["state"]) == ("pausing", "cancelling", "cancelled")
    types = await api.types(task_id)
    assert [kind for kind in types if kind in ("WORKFLOW_PAUSING", "WORKFLOW_RESUMED", "WORKFLOW_CANCELLING")] == [
        "WORKFLOW_PAUSING", "WORKFLOW_RESUMED", "WORKFLOW_CANCELLING",
    ]  # fmt: skip


async def test_structured_cloudevents_are_taken(outsider: Outsider, api: Api) -> None:
    task_id = f"s-{uuid.uuid4()}"
    late = {"kind": "echo", "run_at": "2099-01-01T00:00:00Z"}
    submitted = await outsider.reply(await outsider.send_structured(late, subject=task_id))
    cancelled = await outsider.reply(await outsider.send_structured({"reason": "no"}, "cancel", subject=task_id))

    assert (submitted["state"], cancelled["state"]) == ("scheduled", "cancelled")
    assert (await api.ended(task_id))["state"] == "cancelled"


async def test_a_submission_without_any_id_gets_one_that_its_reply_names(outsider: Outsider, api: Api) -> None:
    reply = await outsider.reply(await outsider.send({"kind": "echo", "input": {"n": 2}}))

    assert (await api.ended(reply["task_id"]))["response"] == {"n": 2}


async def test_a_command_that_comes_again_under_its_id_changes_nothing_and_gets_the_first_answer(
    outsider: Outsider, api: Api
) -> None:
    task_id = f"again-{uuid.uuid4()}"
    same: Json = {"data": {"query": "wait", "context": {"sleep_seconds": 60}}, "key": task_id}
    for _ in range(3):
        await outsider.send(**same, headers={"ce_id": f"{task_id}/1"})
    await api.until(task_id, "running")
    for _ in range(3):
        await outsider.send({}, "pause", key=task_id, headers={"ce_id": f"{task_id}/2"})
    await api.until(task_id, "paused")
    await outsider.send({}, "resume", key=task_id, headers={"ce_id": f"{task_id}/3"})
    await outsider.send({}, "pause", key=task_id, headers={"ce_id": f"{task_id}/2"})
    marker = await outsider.reply(await outsider.send({}, "explain", key=task_id))
    await outsider.reply(await outsider.send({"grace_s": 0}, "cancel", key=task_id))
    await api.ended(task_id)

    assert marker["state"] == "running", "a repeated pause was applied again"
    types = await api.types(task_id)
    assert (types.count("WORKFLOW_STARTED"), types.count("WORKFLOW_PAUSING")) == (1, 1)
    repeated = [reply for reply, _ in outsider.replies if reply["command_id"] == f"{task_id}/2"]
    assert len(repeated) == 4
    assert not [reply for reply in repeated if reply.get("refusal")]


BAD: dict[str, tuple[Any, dict[str, str | None], str, str]] = {
    "poison": (b"\xff\xfe not json", {}, "$", "not JSON"),
    "unknown type": ({"x": 1}, {"ce_type": "taskloom.task.explode.v1"}, "ce_type", "not a command"),
    "no type": ({"kind": "echo"}, {"ce_type": None}, "ce_type", "missing"),
    "unknown field": ({"kind": "echo", "prioritty": 3}, {}, "prioritty", "unknown field"),
    "wrong type": ({"kind": "echo", "retry": {"factor": "two"}}, {}, "retry.factor", "Expected `float`"),
    "unknown kind": ({"kind": "nonsense"}, {}, "kind", "no executor runs the kind"),
    "unknown queue": ({"kind": "echo", "queue": "nobody"}, {}, "queue", "no executor serves the queue"),
    "wrong input": ({"kind": "shell", "input": {"cmdd": "x"}}, {}, "input.cmdd", "unknown field"),
    "wrong priority": ({"kind": "echo", "priority": 17}, {}, "priority", "not a priority"),
    "bad id": ({"kind": "echo", "task_id": "a b"}, {}, "task_id", "regex"),
    "bad tenant": ({"kind": "echo"}, {"ce_tenantid": "a b"}, "ce_tenantid", "not a tenant id"),
    "empty query": ({"query": "  "}, {}, "query", "empty"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_record_that_cannot_be_applied_is_a_dead_letter_with_reason_and_field_and_blocks_nothing(
    outsider: Outsider, api: Api, case: str
) -> None:
    data, headers, field, reason = BAD[case]
    behind = f"behind-{uuid.uuid4()}"
    partition = partition_of(behind, PARTITIONS)
    mark = id_on(partition)
    command_id = await outsider.send(data, key=mark, partition=partition, headers={"mark": mark, **headers})
    after = await outsider.send({"kind": "echo"}, key=behind, partition=partition)
    letter = await outsider.letter(mark)

    assert (letter.topic, letter.partition, letter.key) == (COMMANDS, partition, mark)
    assert letter.field == field
    assert reason in letter.reason
    assert letter.value == (data if isinstance(data, bytes) else json.dumps(data).encode())
    assert (await outsider.reply(after))["task_id"] == behind
    assert (await api.ended(behind))["state"] == "completed"
    refusal = (await outsider.reply(command_id))["refusal"]
    assert (refusal["code"], refusal["field"]) == ("invalid", field)


async def test_a_value_over_the_topics_limit_is_refused_to_its_producer(outsider: Outsider, api: Api) -> None:
    huge = {"kind": "echo", "input": {"text": "x" * 3_000_000}}
    with pytest.raises(MessageSizeTooLargeError):
        await outsider.send(huge, key=f"huge-{uuid.uuid4()}")
    after = await outsider.reply(await outsider.send({"kind": "echo"}))

    assert (await api.ended(after["task_id"]))["state"] == "completed"


async def test_a_refused_command_is_answered_and_set_aside(outsider: Outsider) -> None:
    nobody = f"nobody-{uuid.uuid4()}"
    reply = await outsider.reply(await outsider.send({"reason": "x"}, "cancel", key=nobody))
    letter = await outsider.letter(nobody)

    assert reply["refusal"]["code"] == "not_found"
    assert "does not exist" in letter.reason


async def test_the_same_id_with_another_body_is_a_conflict(outsider: Outsider, api: Api) -> None:
    task_id = f"twice-{uuid.uuid4()}"
    await outsider.reply(await outsider.send({"kind": "echo", "input": {"n": 1}}, key=task_id))
    other = await outsider.reply(await outsider.send({"kind": "echo", "input": {"n": 2}}, key=task_id))

    assert (other["refusal"]["code"], other["refusal"]["field"]) == ("conflict", "task_id")
    assert (await api.ended(task_id))["response"] == {"n": 1}


async def test_a_large_value_by_kafka_comes_back_whole(outsider: Outsider, api: Api) -> None:
    task_id, text = f"large-{uuid.uuid4()}", "x" * 700_000
    await outsider.reply(await outsider.send({"kind": "echo", "input": {"text": text}}, key=task_id))
    task = await api.ended(task_id)

    assert task["response"] == task["input"] == {"text": text}


async def test_another_tenants_task_is_unknown_at_the_kafka_door_too(outsider: Outsider, api: Api) -> None:
    task_id = await api.submit(kind="echo", run_at="2099-01-01T00:00:00Z")
    foreign = {"ce_tenantid": "somebody-else"}
    for command in ("cancel", "pause", "resume", "explain"):
        reply = await outsider.reply(await outsider.send({}, command, key=task_id, headers=foreign))
        assert (reply["refusal"]["code"], reply.get("state", "")) == ("not_found", "")
    assert (await api.task(task_id))["state"] == "scheduled"
    await api.control(task_id, "cancel")


async def test_dead_letters_are_listed_shown_and_sent_again(
    outsider: Outsider, running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    """A submission for a queue that nobody served yet: refused, and taken when it is sent again after one came."""
    task_id, queue = f"early-{uuid.uuid4().hex[:8]}", f"later-{uuid.uuid4().hex[:8]}"
    await outsider.send({"kind": "echo", "queue": queue}, key=task_id)
    await outsider.letter(task_id)

    async def listed(*options: str) -> list[str]:
        letters = await taskloom(running_system, "dead-letters", "list", "--since", "2m", "--json", *options)
        return [letter["place"] for letter in json.loads(letters) if letter["key"] == task_id]

    [place] = await listed()
    shown = await taskloom(running_system, "dead-letters", "show", place)
    async with further_executor(running_system, tmp_path, queue, queues=queue):
        again = await taskloom(running_system, "dead-letters", "redrive", place)
        task = await api.ended(task_id)

    assert "(field queue)" in shown
    assert queue in shown
    assert "1 records sent again" in again
    assert (task["state"], task["executor_id"]) == ("completed", queue)
    assert await listed() == []
    assert await listed("--all") == [place]


async def taskloom(system: RunningSystem, *arguments: str) -> str:
    """What the command line prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "taskloom", *arguments,
        env={**os.environ, "TASKLOOM_KAFKA_BOOTSTRAP": system.bootstrap, "COLUMNS": "400"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.chaos
async def test_a_new_orchestrator_hears_of_all_queues_before_it_refuses_one(
    outsider: Outsider, running_system: RunningSystem, api: Api, tmp_path: Path
) -> None:
    queue = f"known-{uuid.uuid4().hex[:8]}"
    async with further_executor(running_system, tmp_path, queue, queues=queue):
        killed = running_system.kill_process("orchestrator-1")
        ids = [f"meanwhile-{uuid.uuid4()}" for _ in range(PARTITIONS * 2)]
        for task_id in ids:
            await outsider.send({"kind": "echo", "queue": queue}, key=task_id)
        await running_system.wait_replaced("orchestrator-1", killed)
        ended = [await api.ended(task_id, 40) for task_id in ids]

    assert {(task["state"], task["executor_id"]) for task in ended} == {("completed", queue)}
