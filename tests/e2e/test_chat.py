"""The chat orchestrator's calls on a whole system, with the offline model."""

import uuid
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any

import httpx
import pytest
from rich.console import Console
from shannon import AsyncShannonClient, TaskStatusEnum

from taskloom.cli.goal import follow_goal
from taskloom.client import AsyncClient
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.test_storm import verify

pytestmark = pytest.mark.e2e

ORCHESTRATE = "/api/chat/orchestrate"
WORK = (
    "Collect all entries of the log, then group them by hour, then count each group, then sort the groups, then pick "
    "the five largest, then explain each one, and finally write a report"
)


@pytest.fixture
async def http(running_system: RunningSystem) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running_system.url, timeout=180, trust_env=False) as http:
        yield http


def said(thread: str, text: str) -> dict[str, Any]:
    return {"id": thread, "message": {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}}


async def ended(http: httpx.AsyncClient, goal_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = (await http.get(ORCHESTRATE, params={"taskId": goal_id})).raise_for_status().json()
        return dict(found) if found["completedAt"] else None

    return await eventually(look, 180.0) or {}


async def drawn(url: str, goal_id: str) -> None:
    """As the client and ``taskloom goal show`` have it."""
    out = Console(file=StringIO(), width=120)
    async with AsyncClient(url) as client:
        goal = await client.goal(goal_id)
        assert (await follow_goal(client, goal_id, out)).state == "completed"
    assert goal.achieved
    lines = out.file.getvalue()  # type: ignore[attr-defined]
    assert lines.count("✓ ") == goal.total_steps, lines


async def asked_in_shannons_words(url: str) -> None:
    """With Shannon's SDK: its modes, their streams and what their tasks show."""
    async with AsyncShannonClient(base_url=url, api_key="unused") as shannon:
        for mode in ("complex", "standard"):
            handle, stream_url = await shannon.submit_and_stream(WORK, mode=mode, context={"note": "x"})
            assert handle.task_id in stream_url
            seen = [event.type async for event in shannon.stream(handle.task_id, total_timeout=180)]
            assert (seen[0], seen[-2:]) == ("WORKFLOW_STARTED", ["WORKFLOW_COMPLETED", "done"])
            status = await shannon.wait(handle.task_id, timeout=180, poll_interval=0.1)
            assert (status.status, status.mode) == (TaskStatusEnum.COMPLETED, mode)
            assert (bool(status.result), status.context["note"], status.progress) == (True, "x", 1.0)
            assert (status.model_used, status.usage["total_tokens"] > 0) == ("taskloom-offline", True)


async def test_a_chat_answers_begins_goals_follows_and_cancels_them(
    http: httpx.AsyncClient, running_system: RunningSystem
) -> None:
    thread = f"thread-{uuid.uuid4().hex[:12]}"
    simple = await http.post("/api/chat", json=said(thread, "Who are you?"))
    assert (simple.status_code, simple.headers["x-vercel-ai-ui-message-stream"]) == (200, "v1"), simple.text
    assert '"type":"text-delta"' in simple.text
    assert simple.text.endswith('data: {"type":"finish"}\n\ndata: [DONE]\n\n')
    whole = await http.post("/api/chat", json=said(thread, "And what is 2?"), headers={"Accept": "application/json"})
    assert (whole.status_code, whole.json()["role"], bool(whole.json()["content"])) == (200, "assistant", True)

    created = (await http.post("/api/chat", json=said(thread, WORK))).raise_for_status().json()
    assert created["orchestrated"] is True, created
    done = await ended(http, created["taskId"])
    assert (done["status"], done["progress"], done["lastError"]) == ("completed", 100, None)
    assert done["currentStep"] == done["totalSteps"] == len(done["steps"]) > 1
    assert {trace["type"] for trace in done["latestTraces"]} <= {
        "llm-request",
        "llm-response",
        "decision",
        "checkpoint",
    }
    native = (await http.get(f"/api/v1/tasks/{created['taskId']}/goal")).raise_for_status().json()
    assert (native["achieved"], native["usage"]["input_tokens"] > 0) == (True, True)
    await drawn(str(http.base_url), created["taskId"])
    await asked_in_shannons_words(running_system.url)
    session = (await http.get(f"/api/v1/sessions/{thread}")).raise_for_status().json()
    assert session["context"]["title"] == "Who are you?"

    slow = {"steps": [{"id": "step-1", "type": "tool-call", "server": "taskloom", "tool": "shell",
                       "args": {"cmd": "sleep 1000"}, "description": "wait"}],
            "tools": {"taskloom": {"tools": ["shell"]}}, "goal": "wait"}  # fmt: skip
    submission = {"kind": "goal", "input": slow, "session_id": thread}
    goal_id = (await http.post("/api/v1/tasks", json=submission)).raise_for_status().json()["task_id"]

    async def waits() -> bool:
        found = (await http.get(ORCHESTRATE, params={"taskId": goal_id})).raise_for_status().json()
        return [step["status"] for step in found["steps"]] == ["running"]

    await eventually(waits, 120.0)
    job = (await http.get(f"/api/v1/queue/jobs/{goal_id}-step-0")).raise_for_status().json()
    assert job["state"] == "active"
    cancelled = await http.delete(ORCHESTRATE, params={"taskId": goal_id})
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    gone = await ended(http, goal_id)
    assert (gone["status"], gone["lastError"]) == ("failed", "Task cancelled by user")
    stranger = {"X-User-Id": "somebody-else"}
    assert (await http.get(ORCHESTRATE, params={"taskId": goal_id}, headers=stranger)).status_code == 403
    assert (await http.post("/api/chat", json=said(thread, "hi"), headers=stranger)).status_code == 403
    await verify(running_system.dsn)
