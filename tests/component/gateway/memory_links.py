"""Kafka and PostgreSQL as links of agents see them, in memory; and an agent that says what the test wants."""

import asyncio
import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
from aiokafka import TopicPartition
from websockets.asyncio.client import ClientConnection, connect

from services.gateway.links.hub import LinkParts
from taskloom.bus.errors import BusUnavailable
from taskloom.bus.publish import OutRecord
from taskloom.domain.task.directives import Directive
from taskloom.wire import link as wire
from taskloom.wire.messages import ExecutorHeartbeat, LiveAttempt
from taskloom.wire.topics import Topics, partition_of

PARTITIONS = 8
TOPICS = Topics("taskloom")
HOUR = timedelta(hours=1)


class LinkKafka:
    """``away``: nothing is taken. ``records``: all that was published, by topic."""

    def __init__(self) -> None:
        self.away = False
        self.records: dict[str, list[OutRecord]] = {}
        self.assignments: dict[TopicPartition, list[Any]] = {}
        self.stored: set[tuple[str, str]] = set()
        self.forgets = 0
        self.parts = LinkParts(self, self, self.reader, self)

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise BusUnavailable("Kafka is away")
        for record in records:
            self.records.setdefault(record.topic, []).append(record)
            if record.topic == TOPICS.assignments:
                self._assign(record.partition, record.key, record.value or b"")

    def order(self, executor_id: str, directive: Directive) -> None:
        """What the orchestrator sends to an executor."""
        self._assign(partition_of(executor_id, PARTITIONS), executor_id.encode(), msgspec.json.encode(directive))

    def _assign(self, partition: int, key: bytes, value: bytes) -> None:
        log = self.assignments.setdefault(TopicPartition(TOPICS.assignments, partition), [])
        log.append(SimpleNamespace(offset=len(log), key=key, value=value))

    def reader(self, offsets: Mapping[TopicPartition, int] | None) -> "LinkReader":
        return LinkReader(self, offsets)

    async def put(self, tenant_id: str, value: bytes) -> str:
        digest = hashlib.sha256(value).hexdigest()
        self.stored.add((tenant_id, digest))
        return digest

    async def owned(self, tenant_id: str, digests: Collection[str]) -> set[str]:
        return {digest for digest in digests if (tenant_id, digest) in self.stored}

    async def forget_old(self) -> None:
        self.forgets += 1

    def heartbeats(self) -> list[ExecutorHeartbeat]:
        return [
            msgspec.json.decode(record.value or b"", type=ExecutorHeartbeat)
            for record in self.records.get(TOPICS.executors, [])
        ]


class LinkReader:
    """``assignments.Reader``."""

    def __init__(self, kafka: LinkKafka, offsets: Mapping[TopicPartition, int] | None) -> None:
        self._kafka = kafka
        self._from = offsets
        self.positions: dict[TopicPartition, int] = {}

    async def start(self, timeout_s: float = 30.0) -> None:
        if self._kafka.away:
            raise BusUnavailable("Kafka is away")
        every = [TopicPartition(TOPICS.assignments, number) for number in range(PARTITIONS)]
        ends = {place: len(self._kafka.assignments.get(place, [])) for place in every}
        self.positions = dict(ends if self._from is None else self._from)

    async def poll(self, timeout_ms: int = 200) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0.005)
        found = {place: self._kafka.assignments.get(place, [])[at:] for place, at in self.positions.items()}
        for place, records in found.items():
            self.positions[place] += len(records)
        return {place: records for place, records in found.items() if records}

    async def stop(self) -> None:
        """Nothing to close."""


class Machine:
    """An agent's side of a link, word by word. ``skew``: how far its clock is ahead."""

    def __init__(self, port: int, agent_id: str, token: str, *, incarnation: str = "i-1") -> None:
        self._url = f"ws://127.0.0.1:{port}{wire.PATH}"
        self._headers = {wire.AGENT_HEADER: agent_id, "authorization": f"Bearer {token}"}
        self.agent_id, self.incarnation = agent_id, incarnation
        self.skew = timedelta()
        self.socket: ClientConnection
        self.executor_id = ""
        self.epoch = -1
        self.draining = False

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew

    async def open(self, *, after: int = -1, beat: bool = True) -> "Machine":
        self.socket = await connect(self._url, additional_headers=self._headers, proxy=None, max_size=None)
        await self.say(wire.Hello(wire.PROTOCOL, self.incarnation, self.now(), after))
        welcome = await self.hear()
        assert isinstance(welcome, wire.Welcome)
        self.executor_id, self.epoch, self.draining = welcome.executor_id, welcome.epoch, welcome.draining
        if beat:
            await self.beat()
        return self

    async def say(self, message: Any) -> None:
        await self.socket.send(wire.encode(message).decode())

    async def hear(self, timeout_s: float = 5.0) -> wire.Down:
        async with asyncio.timeout(timeout_s):
            message: wire.Down = wire.decode_down(await self.socket.recv())
            return message

    async def beat(self, *live: LiveAttempt, **fields: Any) -> None:
        usual = {"executor_id": "whoever", "incarnation": "made-up", "status": "ready", "kinds": ("shell",)}
        beat = ExecutorHeartbeat(at=self.now(), started_at=self.now(), live=live, **{**usual, **fields})
        await self.say(wire.Beat(self.now(), beat))

    async def push(self, seq: int, lane: wire.Lane, *items: tuple[str, str, Any]) -> None:
        """``items``: task id, id and content of each."""
        made = [wire.Item(task, name, "", "", msgspec.Raw(msgspec.json.encode(value))) for task, name, value in items]
        await self.say(wire.Push(seq, lane, made))
