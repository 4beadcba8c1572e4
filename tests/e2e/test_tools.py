"""Tools through the front door: registered, asked for, called, not called twice; and Taskloom as an MCP server."""

import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, Json, all_processes_gone, door, further_executor

pytestmark = [pytest.mark.e2e]
SERVERS = "/api/v1/tool-servers"
SERVER = str(Path(__file__).parents[1] / "tool_server.py")
STDIO = {"transport": "stdio", "command": [sys.executable, SERVER]}
LONG_S = 90.0


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system, tenant="tools") as api:
        yield api


async def called(api: Api, server: str, tool: str, args: Json, **more: Any) -> Json:
    given = {"server": server, "tool": tool, "args": args}
    return await api.ended(await api.submit(kind="tool", input=given, **more), LONG_S)


async def test_servers_are_registered_asked_and_called(api: Api) -> None:
    """A command over stdio, with secrets that nobody sees."""
    word = "a-word-for-the-server"
    await api.http.put("/api/v1/secrets/server-word", json={"value": word})
    env = {"TOKEN": {"secret": "server-word"}}
    put = await api.http.put(f"{SERVERS}/tests", json={**STDIO, "env": env, "tools": ["add", "fail", "environment"]})
    assert put.status_code == 200, put.text
    told = (await api.http.get(f"{SERVERS}/tests/tools", timeout=LONG_S)).json()
    assert told["healthy"], told
    assert [each["name"] for each in told["tools"]] == ["add", "fail", "environment"]
    done = await called(api, "tests", "add", {"a": 1, "b": 2})
    assert (done["response"]["result"], done["response"]["status"]) == ({"total": 3}, "success"), done
    once = {"max_attempts": 1}
    for tool, args, error in (
        ("fail", {}, "tool_failed"),
        ("say", {"value": 1}, "tool_denied"),
        ("add", {"a": "one", "b": 2}, "invalid_arguments"),
        ("environment", {"name": {"secret": "server-word"}}, "invalid_arguments"),
    ):
        failed = await called(api, "tests", tool, args, retry=once)
        assert (failed["state"], failed["error_type"]) == ("failed", error), failed
        assert word not in json.dumps(failed)
    masked = await called(api, "tests", "environment", {"name": "TOKEN"})
    assert masked["response"]["result"] == "***", masked
    # What is not among the operator's patterns is not started, whoever registers it.
    await api.http.put(f"{SERVERS}/evil", json={"transport": "stdio", "command": ["bash", "-c", "id"]})
    ill = (await api.http.get(f"{SERVERS}/evil/tools", timeout=LONG_S)).json()
    assert (ill["healthy"], "TASKLOOM_MCP_COMMANDS" in ill["error"]) == (False, True), ill


async def test_a_call_that_may_have_taken_place_is_not_repeated_after_its_executor_was_killed(
    api: Api, running_system: RunningSystem, tmp_path: Path
) -> None:
    queue = f"tools-{uuid.uuid4().hex[:8]}"
    put = await api.http.put(f"{SERVERS}/{queue}", json={**STDIO, "env": {"MARK": queue}})
    assert put.status_code == 200, put.text
    given = {"server": queue, "tool": "count"}
    say_so = {"allowed": {queue: {"idempotent": ["count"]}}}
    commands = f"{sys.executable} *tool_server.py"
    async with further_executor(running_system, tmp_path, queue, queues=queue, mcp_commands=commands) as executor:
        notes = {name: tmp_path / name for name in ("careful", "again")}
        tasks = {
            name: await api.submit(
                kind="tool", queue=queue, input={**given, **more, "args": {"notes": str(notes[name]), "wait": True}}
            )
            for name, more in (("careful", {}), ("again", say_so))
        }
        await eventually(lambda: _calls(notes["careful"]) + _calls(notes["again"]) >= 1, LONG_S)
        await api.until(tasks["careful"], "running", timeout_s=LONG_S)
        await api.until(tasks["again"], "running", timeout_s=LONG_S)
        executor.kill()
        await all_processes_gone(queue, LONG_S)
        before = _calls(notes["careful"]), _calls(notes["again"])
        await executor.start()
        careful = await api.ended(tasks["careful"], LONG_S)
        assert careful["state"] == "failed", careful
        await eventually(lambda: _calls(notes["again"]) > before[1], LONG_S)
        assert _calls(notes["careful"]) == before[0]
        await api.control(tasks["again"], "cancel")
        assert (await api.until(tasks["again"], "cancelled", timeout_s=LONG_S))["state"] == "cancelled"


def _calls(notes: Path) -> int:
    return len(notes.read_text().splitlines()) if notes.exists() else 0


async def test_a_model_s_client_submits_looks_and_cancels_over_stdio(running_system: RunningSystem) -> None:
    from mcp import Client, StdioServerParameters

    words = ["-m", "taskloom", "mcp", "--url", running_system.url]
    ours = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    started = StdioServerParameters(command=sys.executable, args=words, env=ours)
    async with Client(started) as client:

        async def ask(tool: str, **args: Any) -> Json:
            answer = await client.call_tool(tool, args)
            assert not answer.is_error, answer
            told: Json = answer.structured_content
            return told

        tools = {each.name for each in (await client.list_tools()).tools}
        assert tools == {"submit", "status", "list", "timeline", "cancel", "why"}
        done = await ask("submit", kind="echo", input={"a": 1}, session_id="from-a-model", wait_s=60)
        assert (done["status"], done["response"]) == ("COMPLETED", {"a": 1}), done
        assert (await ask("status", task_id=done["task_id"])) == done
        events = (await ask("timeline", task_id=done["task_id"]))["events"]
        assert len(events) >= 3
        open_task = (await ask("submit", kind="sleep", input={"seconds": 3600}, session_id="from-a-model"))["task_id"]

        async def both_listed() -> bool:
            listed = await ask("list", session_id="from-a-model")
            return {each["task_id"] for each in listed["tasks"]} >= {done["task_id"], open_task}

        await eventually(both_listed, LONG_S)
        assert "state" in await ask("why", task_id=open_task)
        assert (await ask("cancel", task_id=open_task, reason="enough"))["success"]
        unknown = await client.call_tool("status", {"task_id": "nobody"})
        assert unknown.is_error
        assert "not found" in str(unknown.content[0]).lower()
