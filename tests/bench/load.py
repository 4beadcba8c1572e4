"""The client's side: sends tasks through each door, and waits until their completion is visible in the read tables."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import msgspec
import psycopg

from taskloom.bus.publish import OutRecord, Publisher
from taskloom.domain.task.commands import SubmitTask
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.cloudevents import Attributes
from taskloom.wire.commands import Envelope, encode_command
from taskloom.wire.topics import Topics, partition_of

PAYLOAD = {"text": "x" * 170, "number": 12345}
"""About 200 bytes of JSON, as in the comparison with other systems."""

PARTITIONS = 8
BATCH = 500


@dataclass(frozen=True)
class Rate:
    """``sent_s`` until the last task was acknowledged, ``total_s`` until the last one was seen completed."""

    tasks: int
    sent_s: float
    total_s: float

    @property
    def per_s(self) -> float:
        return self.tasks / self.total_s


async def by_kafka(system: RunningSystem, tasks: int) -> Rate:
    """Submit commands written straight to the commands topic, 500 a publish."""
    publisher = Publisher(system.bootstrap, "bench")
    await publisher.start()
    session = f"bench-{uuid.uuid4().hex[:12]}"
    started = time.perf_counter()
    try:
        for first in range(0, tasks, BATCH):
            numbers = range(first, min(first + BATCH, tasks))
            await publisher.publish([_submit_record(session, number) for number in numbers])
        sent_s = time.perf_counter() - started
        await wait_completed(system, session, tasks)
        return Rate(tasks, sent_s, time.perf_counter() - started)
    finally:
        await publisher.stop()


async def by_batches(system: RunningSystem, tasks: int) -> Rate:
    """POST /api/v1/tasks/batch with 500 entries each, two requests at a time."""
    session = f"bench-{uuid.uuid4().hex[:12]}"
    body = {"tasks": [{"kind": "echo", "input": PAYLOAD, "session_id": session}] * BATCH}
    content = msgspec.json.encode(body)
    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as client:
        room = asyncio.Semaphore(2)

        async def send() -> None:
            async with room:
                answer = await client.post("/api/v1/tasks/batch", content=content, headers=JSON)
                answer.raise_for_status()

        await asyncio.gather(*(send() for _ in range(tasks // BATCH)))
    sent_s = time.perf_counter() - started
    await wait_completed(system, session, tasks // BATCH * BATCH)
    return Rate(tasks // BATCH * BATCH, sent_s, time.perf_counter() - started)


async def by_single_posts(system: RunningSystem, tasks: int, connections: int = 50) -> Rate:
    """POST /api/v1/tasks, one task a request, from this many connections."""
    session = f"bench-{uuid.uuid4().hex[:12]}"
    content = msgspec.json.encode({"kind": "echo", "input": PAYLOAD, "session_id": session})
    numbers = iter(range(tasks))
    started = time.perf_counter()
    await asyncio.gather(*(_post_on_one_connection(system.url, content, numbers) for _ in range(connections)))
    sent_s = time.perf_counter() - started
    await wait_completed(system, session, tasks)
    return Rate(tasks, sent_s, time.perf_counter() - started)


async def idle_latency_ms(system: RunningSystem, tasks: int) -> list[float]:
    """Milliseconds from the submit request to the moment a read shows COMPLETED, one task at a time, sorted."""
    content = msgspec.json.encode({"kind": "echo", "input": PAYLOAD})
    taken: list[float] = []
    async with httpx.AsyncClient(base_url=system.url, timeout=30) as client:
        for _ in range(tasks):
            started = time.perf_counter()
            task_id = (await client.post("/api/v1/tasks", content=content, headers=JSON)).json()["task_id"]
            # Polling is what is measured here.
            while (await client.get(f"/api/v1/tasks/{task_id}")).json().get("status") != "TASK_STATUS_COMPLETED":  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            taken.append((time.perf_counter() - started) * 1000)
    return sorted(taken)


async def wait_completed(system: RunningSystem, session: str, tasks: int, timeout_s: float = 300.0) -> None:
    """Returns when the read table shows all of the session's tasks as completed."""
    async with await psycopg.AsyncConnection.connect(system.dsn, autocommit=True) as connection:

        async def completed() -> bool:
            row = await (await connection.execute(_COUNT, (session,))).fetchone()
            return row is not None and row[0] >= tasks

        await eventually(completed, timeout_s, 0.05)


JSON = {"content-type": "application/json"}
_COUNT = "SELECT count(*) FROM task_executions WHERE session_id = %s AND status = 'COMPLETED' AND tenant_id = 'default'"


async def _post_on_one_connection(url: str, content: bytes, numbers: Iterator[int]) -> None:
    """One request after the other on a kept connection. Written out, since a client library's pool of 50 connections
    takes more of the two cores than the gateway does."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = f"POST /api/v1/tasks HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
    for _ in numbers:
        writer.write(request)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
        if not answer.startswith(b"http/1.1 200"):
            raise RuntimeError(f"the gateway answered {answer[:80]!r}")
    writer.close()
    await writer.wait_closed()


def _submit_record(session: str, number: int) -> OutRecord:
    task_id = f"{session}-{number}"
    command = SubmitTask(kind="echo", input=PAYLOAD, session_id=session)
    attributes = Attributes(id=task_id, type="taskloom.task.submit.v1", source="/bench", subject=task_id)
    key, value, headers = encode_command(Envelope(task_id, command, attributes))
    return OutRecord(Topics().commands, partition_of(task_id, PARTITIONS), key, value, headers)
