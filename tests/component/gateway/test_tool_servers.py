"""Tool servers over REST: registered, listed, removed, and asked by a task for what they have."""

import asyncio

import httpx
import pytest

from services.gateway import tool_servers
from taskloom.domain.task import events as e
from taskloom.domain.task.commands import SubmitTask
from taskloom.domain.values import ErrorInfo
from taskloom.testing.eventually import eventually
from tests.component.gateway.memory import MemorySystem
from tests.component.gateway.test_agents import executor

SERVERS = "/api/v1/tool-servers"
STDIO = {"transport": "stdio", "command": ["mcp-server-time"], "env": {"TOKEN": {"secret": "token"}}}


async def test_servers_are_registered_changed_listed_and_removed(client: httpx.AsyncClient) -> None:
    put = await client.put(f"{SERVERS}/time", json={**STDIO, "expected_version": 0})
    assert put.status_code == 200, put.text
    told = put.json()
    assert (told["name"], told["version"], told["tools"], told["timeout_s"]) == ("time", 1, None, 60.0)
    assert told["env"] == {"TOKEN": {"secret": "token"}}
    assert (await client.put(f"{SERVERS}/time", json={**STDIO, "expected_version": 0})).status_code == 409
    changed = await client.put(f"{SERVERS}/time", json={"transport": "http", "url": "http://127.0.0.1:1/mcp"})
    assert (changed.json()["version"], changed.json()["command"]) == (2, [])
    for name in ("b", "a"):
        await client.put(f"{SERVERS}/{name}", json=STDIO)
    first = (await client.get(SERVERS, params={"limit": 2})).json()
    assert ([each["name"] for each in first["tool_servers"]], first["total_count"]) == (["a", "b"], 3)
    last = (await client.get(SERVERS, params={"cursor": first["next_cursor"]})).json()
    assert ([each["name"] for each in last["tool_servers"]], last["next_cursor"]) == (["time"], None)
    assert (await client.get(f"{SERVERS}/time")).json() == changed.json()
    assert (await client.delete(f"{SERVERS}/time")).json() == {"success": True}
    for method, path in (("GET", "time"), ("DELETE", "time"), ("GET", "time/tools")):
        assert (await client.request(method, f"{SERVERS}/{path}")).status_code == 404
    for body, field in (
        ({"transport": "stdio"}, "command"),
        ({"transport": "http", "url": "ftp://a/"}, "url"),
        ({**STDIO, "env": {"LD_PRELOAD": "x"}}, "env.LD_PRELOAD"),
        ({**STDIO, "timeout_s": 0}, "timeout_s"),
        ({**STDIO, "more": 1}, "more"),
    ):
        refused = await client.put(f"{SERVERS}/time", json=body)
        assert (refused.status_code, refused.json()["field"]) == (400, field)
    assert (await client.put(f"{SERVERS}/taskloom", json=STDIO)).json()["field"] == "name"


async def test_tools_are_asked_for_by_a_task(
    client: httpx.AsyncClient, system: MemorySystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.put(f"{SERVERS}/time", json=STDIO)
    nobody = (await client.get(f"{SERVERS}/time/tools")).json()
    assert (nobody["healthy"], nobody["task_id"]) == (False, "")
    assert "no executor is there" in nobody["error"]
    system.executors_now = [executor("gone", "tool", status="lost"), executor("other", "echo")]
    assert (await client.get(f"{SERVERS}/time/tools")).json() == nobody
    system.executors_now.append(executor("ex-1", "tool"))
    tool = {"server": "time", "name": "now", "description": "Tells the time", "schema": {"type": "object"}}
    told = {"server": "time", "tools": [tool], "duration_ms": 41}

    async def asked(*ends: e.TaskEvent) -> httpx.Response:
        before = len(system.sent)
        asking = asyncio.create_task(client.get(f"{SERVERS}/time/tools"))
        await eventually(lambda: len(system.sent) > before)
        envelope = system.sent[-1]
        assert isinstance(envelope.command, SubmitTask)
        assert (envelope.command.kind, envelope.command.input) == ("tool", {"server": "time"})
        started: list[e.TaskEvent] = [e.AttemptAssigned(1, "ex-1", "a"), e.AttemptStarted(1, "ex-1")]
        system.record(envelope.task_id, [*started, *ends])
        return await asking

    well = await asked(e.TaskCompleted(1, "now", told))
    assert well.status_code == 200
    seen = well.json()
    assert (seen["healthy"], seen["latency_ms"], [each["name"] for each in seen["tools"]]) == (True, 41, ["now"])
    error = ErrorInfo("tool_server_unavailable", "there is no licence", retryable=True)
    ill = (await asked(e.AttemptFailed(1, error), e.TaskFailed(error, 1))).json()
    assert not ill["healthy"]
    assert "there is no licence" in ill["error"]
    monkeypatch.setattr(tool_servers, "WITHIN_S", 0.2)
    late = (await client.get(f"{SERVERS}/time/tools")).json()
    assert (late["healthy"], late["task_id"]) == (False, system.sent[-1].task_id)
    assert "within 0.2 s" in late["error"]
