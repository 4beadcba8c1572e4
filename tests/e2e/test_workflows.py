"""Workflows over real processes."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, door

pytestmark = pytest.mark.e2e


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


def shell(name: str, *needs: str) -> dict[str, Any]:
    template = {"kind": "shell", "input": {"cmd": f"echo {name}"}}
    return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template}


async def test_three_shell_steps_run_in_order_and_each_is_a_task_of_its_own(api: Api) -> None:
    run = f"run-{uuid.uuid4().hex[:8]}"
    definition = {"name": "three", "steps": [shell("a"), shell("b", "a"), shell("c", "b")]}
    await api.submit(task_id=run, kind="workflow", input={"definition": definition, "variables": {"x": 1}})
    task = await api.ended(run)
    assert (task["state"], task["response"]["variables"]) == ("completed", {"x": 1})
    assert list(task["response"]["results"]) == ["a", "b", "c"]
    steps = [await api.ended(f"{run}~{name}") for name in "abc"]
    assert {step["state"] for step in steps} == {"completed"}
    assert {step["session_id"] for step in steps} == {task["session_id"]}
    assert steps[0]["completed_at"] <= steps[1]["started_at"] <= steps[1]["completed_at"] <= steps[2]["started_at"]


async def test_a_run_waits_for_a_signal_and_a_decision_and_shows_how_far_it_is(api: Api) -> None:
    steps: list[dict[str, Any]] = [
        {"step_type": "signal", "id": "go", "signal": "go"},
        {"step_type": "approval", "id": "ok", "depends_on": ["go"]},
    ]
    run = await api.submit(kind="workflow", input={"definition": {"name": "gates", "steps": steps}})
    await api.until(run, "running")
    path = f"/api/v1/tasks/{run}"
    assert (await api.http.post(f"{path}/signal", json={"name": "go"})).status_code == 202
    assert (await api.http.patch(f"{path}/variables", json={"values": {"x": 2}})).status_code == 202
    seen = await api.get(f"/tasks/{run}/workflow")
    assert (seen["status"], seen["progress"], seen["variables"]) == ("running", 50.0, {"x": 2})
    assert {step["path"]: step["status"] for step in seen["steps"]} == {"go": "completed", "ok": "waiting"}
    assert (await api.http.post(f"{path}/approvals/ok", json={"approved": True})).status_code == 202
    assert (await api.ended(run))["state"] == "completed"
    assert (await api.http.post(f"{path}/signal", json={"name": "late"})).status_code == 409


async def test_a_faulty_definition_is_answered_with_the_path_of_its_fault(api: Api) -> None:
    answer = await api.http.post("/api/v1/tasks", json={"kind": "workflow", "input": {"definition": {"name": "x"}}})
    assert answer.status_code == 400
    assert answer.json()["field"] == "input.definition.steps"
