"""Tasks and output that retention took out of the read tables: what tells of them, and what says that they went."""

import asyncio
from datetime import UTC, datetime

from httpx import AsyncClient as Client

from taskloom.domain.task import events as e
from taskloom.domain.values import OutputSummary
from tests.component.gateway.memory import MemorySystem

TASKS = "/api/v1/tasks"
AT = datetime(2026, 11, 21, tzinfo=UTC)
ENDED: list[e.TaskEvent] = [
    e.AttemptAssigned(1, "executor-1", "i"),
    e.AttemptStarted(1, "executor-1"),
    e.TaskCompleted(1, result="done", output=OutputSummary(3, 3, 6)),
]


async def ended(client: Client, system: MemorySystem, task_id: str) -> None:
    assert (await client.post(TASKS, json={"kind": "echo", "task_id": task_id})).status_code == 200
    system.record(task_id, ENDED)


async def test_a_retired_task_is_410_for_its_tenant_and_is_told_by_its_events(
    client: Client, system: MemorySystem
) -> None:
    await ended(client, system, "old")
    del system.rows["old"]
    system.retired_at["old"] = AT
    for path in ("", "/output"):
        answer = await client.get(f"{TASKS}/old{path}")
        assert answer.status_code == 410
        told = answer.json()
        assert (told["task_id"], told["retired_at"]) == ("old", "2026-11-21T00:00:00Z")
        assert "taskloom retention restore old" in told["error"]
        foreign = await client.get(f"{TASKS}/old{path}", headers={"X-Tenant-Id": "red"})
        assert (foreign.status_code, foreign.json()) == (404, {"error": "Task not found", "task_id": "old"})
    version = told["version"]
    then = await client.get(f"{TASKS}/old", params={"as_of": version})
    assert (then.status_code, then.json()["result"]) == (200, "done")
    for path in ("/events", "/timeline"):
        assert (await client.get(f"{TASKS}/old{path}")).status_code == 200
    again = await client.post(TASKS, json={"kind": "http", "input": {"url": "http://x"}, "task_id": "old"})
    assert again.status_code == 409, "the id stays taken"


async def test_output_that_is_gone_is_410_and_no_stream_waits_for_it(client: Client, system: MemorySystem) -> None:
    await ended(client, system, "quiet")
    system.retired_output_of["quiet"] = 3
    answer = await client.get(f"{TASKS}/quiet/output")
    assert (answer.status_code, answer.json()["error"].startswith("the output was retired at ")) == (410, True)
    assert (await client.get(f"{TASKS}/quiet")).json()["result"] == "done"
    # An end whose output is missing is held back for 30 s; one whose output was retired is not.
    async with asyncio.timeout(20):
        told = (await client.get("/api/v1/stream/sse", params={"workflow_id": "quiet"})).text
    assert "event: done" in told
