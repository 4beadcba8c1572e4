"""Goals over real processes, with the offline model."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, door

pytestmark = pytest.mark.e2e

SHELL = {"taskloom": {"tools": ["shell"]}}


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


def shell(cmd: str, **args: Any) -> dict[str, Any]:
    call = {"type": "tool-call", "server": "taskloom", "tool": "shell"}
    return {**call, "description": cmd, "args": {"cmd": cmd, **args}}


async def test_a_goal_is_done_with_real_tools_and_each_call_is_a_task_that_can_be_looked_at(api: Api) -> None:
    goal = f"goal-{uuid.uuid4().hex[:8]}"
    think = {"type": "llm-reasoning", "description": "say how many lines there are"}
    steps = [shell("printf 'one\\ntwo\\nthree\\n'"), shell("wc -w", stdin={"$from": "step-1"}), think]
    await api.submit(task_id=goal, kind="goal", query="count the lines", input={"tools": SHELL, "steps": steps})
    task = await api.ended(goal, timeout_s=120)
    assert task["state"] == "completed", task
    done = task["response"]
    assert [step["status"] for step in done["steps"]] == ["completed"] * 3
    assert done["findings"]["1/step-2: wc -w"] == "3"
    assert done["text"]
    call = await api.task(f"{goal}~plans.1.work.2.stepping.one.do")
    assert (call["kind"], call["state"], call["session_id"]) == ("shell", "completed", task["session_id"])
    types = await api.types(goal)
    assert types.count("GOAL_STEP_ENDED") == 3
    seen = await api.get(f"/tasks/{goal}/workflow")
    assert (seen["status"], seen["progress"]) == ("completed", 100.0)


async def test_a_plan_of_the_offline_model_is_reviewed_and_edited_before_it_runs(api: Api) -> None:
    goal = await api.submit(kind="goal", query="find it", input={"tools": SHELL, "review": True})
    review = f"/api/v1/tasks/{goal}/approvals/review"

    async def asked() -> bool:
        steps = (await api.get(f"/tasks/{goal}/workflow"))["steps"]
        return any(step["path"] == "plans.1.reviewing.review" and step["status"] == "waiting" for step in steps)

    await eventually(asked, 120)
    bad = {"approved": True, "modified_action": {"steps": [{**shell("ls"), "tool": "rm"}]}}
    answer = await api.http.post(review, json=bad)
    assert (answer.status_code, answer.json()["field"]) == (400, "modified_action.steps[0].tool")
    edited = {"approved": True, "modified_action": {"steps": [shell("echo ok")]}}
    assert (await api.http.post(review, json=edited)).status_code == 202
    task = await api.ended(goal, timeout_s=120)
    assert (task["state"], task["result"]) == ("completed", "ok"), task
    assert task["response"]["plans"] == 2
