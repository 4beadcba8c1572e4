"""500 tasks of several kinds, sent through both doors while things die, and what must be true of them afterwards."""

import asyncio
import os
import sys
import uuid
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psycopg

from taskloom.bus.errors import BusError
from taskloom.bus.publish import OutRecord, Publisher
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.task.events import AttemptAssigned
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, encode_command
from taskloom.wire.recorded import chain_fault, unseal
from taskloom.wire.topics import Topics, partition_of

PARTITIONS = 8
AT_ONCE = 4
RETRY = {"max_attempts": 10, "initial_s": 0.1, "max_s": 1.0}
ATTEMPT_ENDS = frozenset(
    {
        "taskloom.attempt.declined.v1",
        "taskloom.attempt.failed.v1",
        "taskloom.attempt.timed-out.v1",
        "taskloom.attempt.lost.v1",
        "taskloom.task.completed.v1",
        "taskloom.task.cancelled.v1",
    }
)
TASK_ENDS = frozenset(f"taskloom.task.{end}.v1" for end in ("completed", "failed", "timed-out", "cancelled"))


@dataclass
class Workload:
    """Sends tasks and keeps what was acknowledged, by id, with the state that each has to end in."""

    system: RunningSystem
    scratch: Path
    acknowledged: dict[str, str] = field(default_factory=dict)
    by_run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    async def send(self, tasks: int) -> None:
        """Half by single POSTs, half by Kafka, paced so that a kill falls into the middle. Refused connections are
        repeated with the same id, as a careful client does."""
        await asyncio.gather(self._by_http(tasks // 2), self._by_kafka(tasks - tasks // 2))

    def has_sent(self, tasks: int) -> bool:
        return len(self.acknowledged) >= tasks

    def body(self, number: int) -> tuple[dict[str, Any], str]:
        """A submission, and the state it has to end in."""
        marker = self.scratch / f"{self.by_run}-{number}"
        match number % 5:
            case 0:
                return {"kind": "echo", "input": {"n": number}, "retry": RETRY}, "completed"
            case 1:
                return {"kind": "echo", "input": {"fail_times": 1}, "retry": RETRY}, "completed"
            case 2:
                # The marker counts runs: more than one is legal only when an attempt was lost with its executor.
                shell = f"echo {number} >> {marker}; sleep 0.1; seq 1 200"
                return {"kind": "shell", "input": {"cmd": shell}, "retry": RETRY}, "completed"
            case 3:
                return {"kind": "sleep", "input": {"seconds": 0.2}, "retry": RETRY}, "completed"
            case _:
                return {"kind": "shell", "input": {"cmd": "exit 3"}, "retry": {"max_attempts": 1}}, "failed"

    async def _by_http(self, tasks: int) -> None:
        async with httpx.AsyncClient(base_url=self.system.url, timeout=10) as client:
            room = asyncio.Semaphore(AT_ONCE)

            async def send(number: int) -> None:
                body, end = self.body(number)
                task_id = f"h-{self.by_run}-{number}"
                async with room:
                    await eventually(partial(self._posted, client, {**body, "task_id": task_id}), 90, 0.2)
                self.acknowledged[task_id] = end

            await asyncio.gather(*(send(number) for number in range(tasks)))

    async def _posted(self, client: httpx.AsyncClient, body: dict[str, Any]) -> bool:
        try:
            answer = await client.post("/api/v1/tasks", json=body)
        except httpx.TransportError:
            return False
        assert answer.status_code in (200, 429, 503), answer.text
        return answer.status_code == 200

    async def _by_kafka(self, tasks: int) -> None:
        publisher = Publisher(self.system.bootstrap, "chaos")
        await publisher.start()
        try:
            for number in range(tasks):
                body, end = self.body(number)
                task_id = f"k-{self.by_run}-{number}"
                await eventually(partial(self._published, publisher, task_id, body), 90, 0.2)
                self.acknowledged[task_id] = end
        finally:
            await publisher.stop()

    async def _published(self, publisher: Publisher, task_id: str, body: dict[str, Any]) -> bool:
        command = msgspec.convert(body, SubmitTask)
        attributes = Attributes(id=task_id, type="taskloom.task.submit.v1", source="/chaos", subject=task_id)
        key, value, headers = encode_command(Envelope(task_id, command, attributes))
        record = OutRecord(Topics().commands, partition_of(task_id, PARTITIONS), key, value, headers)
        try:
            await publisher.publish([record])
        except BusError:
            return False
        return True

    def check(self) -> None:
        """Every acknowledged task reached its right end exactly once, and every attempt ended exactly once."""
        histories = stored_histories(self.system.dsn, f"%{self.by_run}%")
        missing = self.acknowledged.keys() - histories.keys()
        assert not missing, f"acknowledged but not stored: {sorted(missing)[:5]} of {len(missing)}"
        for task_id, end in self.acknowledged.items():
            check_history(task_id, histories[task_id], end)
        self._check_effects(histories)

    def _check_effects(self, histories: dict[str, list[bytes]]) -> None:
        runs: Counter[str] = Counter()
        for marker in self.scratch.glob(f"{self.by_run}-*"):
            runs[marker.name] = len(marker.read_text().splitlines())
        for number in range(2, len(self.acknowledged) // 2, 5):
            attempts = sum(
                len(_assigned(histories[f"{door}-{self.by_run}-{number}"]))
                for door in "hk"
                if f"{door}-{self.by_run}-{number}" in histories
            )
            assert runs[f"{self.by_run}-{number}"] <= attempts, f"task {number} ran without an attempt"


def stored_histories(dsn: str, like: str) -> dict[str, list[bytes]]:
    """Stored event bytes of the tasks whose id matches, in order, over all shards."""
    found: dict[str, list[bytes]] = {}
    with psycopg.connect(dsn) as connection:
        for shard in (0, 1):
            rows = connection.execute(
                f"SELECT originator_id, state FROM events_{shard} WHERE originator_id LIKE %s"
                " ORDER BY originator_id, originator_version",
                (like,),
            )
            for task_id, state in rows:
                found.setdefault(task_id, []).append(bytes(state))
    return found


def check_history(task_id: str, bodies: list[bytes], end: str) -> None:
    """One history: unbroken, each attempt ended once, the task ended once and as it should."""
    assert chain_fault(bodies) is None, f"{task_id}: {chain_fault(bodies)}"
    types = [unseal(body).type for body in bodies]
    ends = [name for name in types if name in TASK_ENDS]
    assert ends == [f"taskloom.task.{end}.v1"], f"{task_id} ended as {ends}, not as {end}: {types}"
    live = 0
    for name in types:
        if name == "taskloom.attempt.assigned.v1":
            assert live == 0, f"{task_id}: two attempts at once: {types}"
            live = 1
        elif name in ATTEMPT_ENDS and live:
            live = 0
    assert live == 0, f"{task_id}: an attempt never ended: {types}"


async def verify(system: RunningSystem) -> str:
    """What ``taskloom verify`` prints; fails unless it finds everything in order."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "taskloom",
        "verify",
        "--timeout",
        "60",
        env={**os.environ, "TASKLOOM_DATABASE_DSN": system.dsn},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    return text


async def all_ended(workload: Workload, timeout_s: float = 120.0) -> None:
    """Returns when the read table shows every acknowledged task as ended."""
    wanted = list(workload.acknowledged)

    async def open_tasks() -> bool:
        try:
            async with await psycopg.AsyncConnection.connect(workload.system.dsn) as connection:
                row = await (
                    await connection.execute(
                        "SELECT count(*) FROM task_executions WHERE task_id = ANY(%s)"
                        " AND state IN ('completed', 'failed', 'cancelled', 'timed_out')",
                        (wanted,),
                    )
                ).fetchone()
        except psycopg.OperationalError:
            return False
        return row is not None and row[0] == len(wanted)

    await eventually(open_tasks, timeout_s, 0.2)


def _assigned(bodies: list[bytes]) -> list[AttemptAssigned]:
    return [event for body in bodies if isinstance(event := unseal(body).event, AttemptAssigned)]
