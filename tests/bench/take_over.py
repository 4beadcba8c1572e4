"""How long the orchestrator's death holds up a run that has thousands of children under way."""

import asyncio
import time
import uuid
from dataclasses import dataclass

import httpx
import psycopg

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from taskloom.wire.topics import partition_of, shard_of
from tests.bench.load import PARTITIONS
from tests.bench.workflows import fan_out

ORCHESTRATOR = "orchestrator-1"
SHARDS = 2
SETTLED_S = 0.5
"""A transaction that was under way at the kill has ended by then, one way or the other."""


@dataclass(frozen=True)
class TakenOver:
    """``done`` children had completed at the kill. Seconds from there until the run's next event is stored, and until
    all of it has ended."""

    run_id: str
    done: int
    until_next_event_s: float
    until_ended_s: float


async def kill_half_way(system: RunningSystem, children: int) -> TakenOver:
    """Starts one run with so many children, kills the orchestrator when half of them have completed, and waits.

    Raises:
        RuntimeError: the run was over before the kill.
    """
    run = f"half-{uuid.uuid4().hex[:12]}"
    body = {"task_id": run, "kind": "workflow", "input": {"definition": fan_out(children, "map")}}
    body["session_id"] = run
    shard = shard_of(partition_of(run, PARTITIONS), SHARDS)
    stored = f"SELECT count(*) FROM events_{shard} WHERE originator_id LIKE %s"
    completed = f"{stored} AND position('\"taskloom.task.completed.v1\"' in convert_from(state, 'UTF8')) > 0"
    async with await psycopg.AsyncConnection.connect(system.dsn, autocommit=True) as connection:

        async def count(query: str) -> int:
            row = await (await connection.execute(query, (f"{run}%",))).fetchone()
            return 0 if row is None else int(row[0])

        async def half() -> bool:
            return await count(completed) >= children // 2

        async with httpx.AsyncClient(base_url=system.url, timeout=60) as client:
            (await client.post("/api/v1/tasks", json=body)).raise_for_status()
        await eventually(half, 120, 0.01)
        killed_at = time.perf_counter()
        system.kill_process(ORCHESTRATOR)
        await asyncio.sleep(SETTLED_S)
        reached, done = await count(stored), await count(completed)
        if done > children:
            raise RuntimeError(f"all {children} children had completed before the orchestrator was killed")

        async def goes_on() -> bool:
            return await count(stored) > reached

        async def ended() -> bool:
            return await count(completed) == children + 1

        await eventually(goes_on, 90, 0.02)
        until_next_event_s = time.perf_counter() - killed_at
        await eventually(ended, 180, 0.05)
        return TakenOver(run, done, until_next_event_s, time.perf_counter() - killed_at)
