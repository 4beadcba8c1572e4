"""Agents: kinds of work and executors that can be executed by one call."""

from datetime import UTC, datetime

import httpx
import pytest
from shannon import AsyncShannonClient

from taskloom.views.executors.query import Executor
from taskloom.wire.messages import ExecutorHeartbeat
from tests.component.gateway.conftest import BASE_URL
from tests.component.gateway.memory import MemorySystem

AGENTS = "/api/v1/agents"


def executor(name: str, *kinds: str, status: str = "ready") -> Executor:
    beat = ExecutorHeartbeat(
        executor_id=name,
        incarnation="i",
        status="ready",
        at=datetime.now(UTC),
        kinds=kinds,
        host="h",
        schemas={"resize": {"type": "object", "required": ["width"]}} if "resize" in kinds else {},
    )
    return Executor(beat, status, 0.0)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def executors(system: MemorySystem) -> None:
    system.executors_now = [
        executor("b", "echo", "resize", "query", "workflow"),
        executor("a", "echo", "shell"),
        executor("gone", "old", status="lost"),
    ]
    system.known_now = type(system.known_now)(kinds=frozenset({"echo", "resize", "shell", "query"}))


async def test_agents_are_the_kinds_and_then_the_executors_that_are_ready(client: httpx.AsyncClient) -> None:
    found = (await client.get(AGENTS)).json()
    assert [agent["id"] for agent in found["agents"]] == ["echo", "resize", "shell", "a", "b"]
    by_id = {agent["id"]: agent for agent in found["agents"]}
    assert by_id["resize"]["input_schema"] == {"type": "object", "required": ["width"]}
    assert by_id["a"]["input_schema"]["properties"]["kind"] == {"enum": ["echo", "shell"]}
    assert (await client.get(f"{AGENTS}/echo")).json() == by_id["echo"]
    assert (await client.get(f"{AGENTS}/gone")).status_code == 404


async def test_executing_a_kind_submits_a_task_of_it(client: httpx.AsyncClient, system: MemorySystem) -> None:
    body = {"input": {"a": 1}, "stream": True, "session_id": "s"}
    answer = await client.post(f"{AGENTS}/echo", json=body, headers={"Idempotency-Key": "k"})
    told = answer.json()
    assert (answer.status_code, answer.headers["x-workflow-id"]) == (202, told["task_id"])
    assert told["stream_url"].endswith(told["task_id"])
    row = system.rows[told["task_id"]]
    assert (row.kind, row.input, row.session_id) == ("echo", {"a": 1}, "s")
    again = await client.post(f"{AGENTS}/echo", json=body, headers={"Idempotency-Key": "k"})
    assert again.json()["task_id"] == told["task_id"]


async def test_executing_an_executor_places_the_task_there(client: httpx.AsyncClient, system: MemorySystem) -> None:
    answer = await client.post(f"{AGENTS}/a", json={"input": {"kind": "echo", "input": {"a": 1}}})
    row = system.rows[answer.json()["task_id"]]
    assert (row.kind, row.assigned_to) == ("echo", "a")
    refused = await client.post(f"{AGENTS}/a", json={"input": {"command": "ls"}})
    assert (refused.status_code, refused.json()["field"]) == (400, "input.command")


async def test_shannon_lists_gets_and_executes(client: httpx.AsyncClient, system: MemorySystem) -> None:
    shannon = AsyncShannonClient(base_url=BASE_URL, api_key="unused")
    shannon._http_client = client  # the real SDK over the application, without a network
    assert [agent.id for agent in await shannon.list_agents()][:2] == ["echo", "resize"]
    assert "fail_times" in str((await shannon.get_agent("echo")).input_schema)
    done = await shannon.execute_agent("echo", {"a": 1}, session_id="s")
    assert (done.agent_id, done.workflow_id, done.session_id) == ("echo", done.task_id, "s")
    assert system.rows[done.task_id].input == {"a": 1}
