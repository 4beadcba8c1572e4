"""Workflows over real processes."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import Api, door, row_is

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
    await row_is(api, run, progress=0.5, steps={"total": 2, "ended": 1, "failed": 0, "current": "ok"})
    assert (await api.http.post(f"{path}/approvals/ok", json={"approved": True})).status_code == 202
    assert (await api.ended(run))["state"] == "completed"
    assert (await api.http.post(f"{path}/signal", json={"name": "late"})).status_code == 409


async def test_a_faulty_definition_is_answered_with_the_path_of_its_fault(api: Api) -> None:
    answer = await api.http.post("/api/v1/tasks", json={"kind": "workflow", "input": {"definition": {"name": "x"}}})
    assert answer.status_code == 400
    assert answer.json()["field"] == "input.definition.steps"


def echo(name: str, *needs: str, **given: Any) -> dict[str, Any]:
    return {
        "step_type": "task",
        "id": name,
        "depends_on": list(needs),
        "task_template": {"kind": "echo", "input": given},
    }


def sleep(name: str, seconds: float, *needs: str) -> dict[str, Any]:
    template = {"kind": "sleep", "input": {"seconds": seconds}}
    return {"step_type": "task", "id": name, "depends_on": list(needs), "task_template": template}


async def test_large_values_go_from_step_to_step(api: Api) -> None:
    steps = [
        echo("a", parts=["{{ big }}"] * 5),
        echo("b", "a", n="{{ len(steps.a.result.parts) }}", last="{{ steps.a.result.parts[4] }}"),
        echo("c", "b", n="{{ len(steps.b.result.last) }}", m="{{ steps.b.result.n }}"),
    ]
    run_input = {"definition": {"name": "large", "steps": steps}, "variables": {"big": "x" * 100_000}}
    run = await api.submit(kind="workflow", input=run_input)
    task = await api.ended(run)
    assert task["state"] == "completed", task
    assert task["response"]["results"]["c"] == {"n": 100_000, "m": 5}
    assert (await api.ended(f"{run}~b"))["input"]["last"] == "x" * 100_000


async def test_a_new_run_starts_from_the_checkpoint_of_another(api: Api) -> None:
    saved = {"step_type": "checkpoint", "id": "saved", "depends_on": ["a"]}
    definition = {
        "name": "resumable",
        "steps": [echo("a", v=7), saved, echo("b", "saved", of="{{ steps.a.result.v }}")],
    }
    first = await api.submit(kind="workflow", input={"definition": definition})
    assert (await api.ended(first))["state"] == "completed"
    [found] = (await api.get(f"/tasks/{first}/workflow/checkpoints"))["checkpoints"]
    checkpoint = await api.get(f"/tasks/{first}/workflow/checkpoint", version=found["version"])
    second = await api.submit(kind="workflow", input={"definition": definition, "checkpoint": checkpoint})
    assert (await api.ended(second))["response"]["results"]["b"] == {"of": 7}
    children = (await api.get("/tasks", workflow_id=second))["tasks"]
    assert [child["task_id"] for child in children] == [f"{second}~b"]


async def test_a_run_past_its_limit_a_cancel_of_childrens_children_and_a_pause_between_parallel_steps(api: Api) -> None:
    late = {"name": "late", "steps": [sleep("a", 600)], "timeout_seconds": 1}
    inner = {"name": "inner", "steps": [sleep("x", 600)]}
    middle = {"name": "middle", "steps": [{"step_type": "child", "id": "m", "definition": inner}]}
    outer = {"name": "outer", "steps": [{"step_type": "child", "id": "o", "definition": middle}]}
    two = {"name": "two", "steps": [sleep("p", 1.5), sleep("q", 1.5), echo("r", "p", "q")]}
    limited, nested, held = [
        await api.submit(kind="workflow", input={"definition": definition}) for definition in (late, outer, two)
    ]
    await api.until(f"{nested}~o~m~x", "running")
    await api.until(f"{held}~p", "running", "completed")
    assert (await api.control(held, "pause")).status_code in (200, 202)
    assert (await api.control(nested, "cancel", reason="enough")).status_code in (200, 202)
    for name in (nested, f"{nested}~o", f"{nested}~o~m", f"{nested}~o~m~x"):
        assert (await api.ended(name))["state"] == "cancelled"
    assert (await api.ended(limited))["state"] == "timed_out"
    assert (await api.ended(f"{limited}~a"))["state"] == "cancelled"
    for name in (f"{held}~p", f"{held}~q"):
        assert (await api.ended(name))["state"] == "completed"
    assert (await api.http.get(f"/api/v1/tasks/{held}~r")).status_code == 404
    assert (await api.task(held))["state"] == "paused"
    assert (await api.control(held, "resume")).status_code in (200, 202)
    assert (await api.ended(held))["state"] == "completed"
