"""Workflows under load: three steps one after the other, many runs at once; and one step with a thousand children."""

import asyncio
import time
import uuid
from typing import Any, Final, Literal

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
from tests.bench.load import BATCH, JSON, PARTITIONS, PAYLOAD, Rate, wait_completed

Shape = Literal["map", "parallel"]

TASKS_OF_A_RUN: Final = 4
"""A three-step run is four tasks: itself and its steps."""

_ENDED_RUNS: Final = (
    "SELECT count(*) FROM task_executions WHERE session_id = %s AND status = 'COMPLETED' AND kind = 'workflow'"
    " AND tenant_id = 'default'"
)


def three_steps() -> dict[str, Any]:
    """A definition of three ``echo`` tasks, each with about 200 bytes of input, each needing the one before it."""
    template = {"kind": "echo", "input": PAYLOAD}
    steps: list[dict[str, Any]] = [
        {"step_type": "task", "id": "extract", "task_template": template},
        {"step_type": "task", "id": "transform", "depends_on": ["extract"], "task_template": template},
        {"step_type": "task", "id": "load", "depends_on": ["transform"], "task_template": template},
    ]
    return {"name": "three-steps", "steps": steps}


def fan_out(children: int, shape: Shape) -> dict[str, Any]:
    """A definition of one step whose ``echo`` children may all run at once."""
    template = {"kind": "echo", "input": PAYLOAD}
    step: dict[str, Any] = {"step_type": shape, "id": "all"}
    if shape == "map":
        step |= {"items": list(range(children)), "task_template": template}
    else:
        inner = [{"step_type": "task", "id": f"c{number}", "task_template": template} for number in range(children)]
        step |= {"sub_steps": inner}
    return {"name": f"fan-out-{shape}", "steps": [step], "max_parallel_tasks": children}


async def runs_by_kafka(system: RunningSystem, runs: int) -> Rate:
    """Submissions of three-step runs written straight to the commands topic, 500 a publish."""
    publisher = Publisher(system.bootstrap, "bench")
    await publisher.start()
    session = f"bench-{uuid.uuid4().hex[:12]}"
    command = SubmitTask(kind="workflow", input={"definition": three_steps()}, session_id=session)
    started = time.perf_counter()
    try:
        for first in range(0, runs, BATCH):
            ids = [f"{session}-{number}" for number in range(first, min(first + BATCH, runs))]
            await publisher.publish([_record(task_id, command) for task_id in ids])
        sent_s = time.perf_counter() - started
        await wait_completed(system, session, runs * TASKS_OF_A_RUN)
        return Rate(runs, sent_s, time.perf_counter() - started)
    finally:
        await publisher.stop()


async def runs_by_batches(system: RunningSystem, runs: int) -> Rate:
    """POST /api/v1/tasks/batch with 500 three-step runs each, two requests at a time."""
    session = f"bench-{uuid.uuid4().hex[:12]}"
    entry = {"kind": "workflow", "input": {"definition": three_steps()}, "session_id": session}
    content = msgspec.json.encode({"tasks": [entry] * BATCH})
    batches = max(1, runs // BATCH)
    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as client:
        room = asyncio.Semaphore(2)

        async def send() -> None:
            async with room:
                (await client.post("/api/v1/tasks/batch", content=content, headers=JSON)).raise_for_status()

        await asyncio.gather(*(send() for _ in range(batches)))
    sent_s = time.perf_counter() - started
    await wait_completed(system, session, batches * BATCH * TASKS_OF_A_RUN)
    return Rate(batches * BATCH, sent_s, time.perf_counter() - started)


async def fan_out_s(system: RunningSystem, children: int, shape: Shape) -> float:
    """Seconds from the POST of one run with so many children until a read shows the run as COMPLETED."""
    session = f"bench-{uuid.uuid4().hex[:12]}"
    body = {"kind": "workflow", "input": {"definition": fan_out(children, shape)}, "session_id": session}
    content = msgspec.json.encode(body)
    async with (
        httpx.AsyncClient(base_url=system.url, timeout=60) as client,
        await psycopg.AsyncConnection.connect(system.dsn, autocommit=True) as connection,
    ):
        started = time.perf_counter()
        (await client.post("/api/v1/tasks", content=content, headers=JSON)).raise_for_status()

        async def completed() -> bool:
            row = await (await connection.execute(_ENDED_RUNS, (session,))).fetchone()
            return row is not None and row[0] == 1

        await eventually(completed, 120.0, 0.01)
        return time.perf_counter() - started


def _record(task_id: str, command: SubmitTask) -> OutRecord:
    attributes = Attributes(id=task_id, type="taskloom.task.submit.v1", source="/bench", subject=task_id)
    key, value, headers = encode_command(Envelope(task_id, command, attributes))
    return OutRecord(Topics().commands, partition_of(task_id, PARTITIONS), key, value, headers)
