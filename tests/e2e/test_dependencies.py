"""Tasks that wait for tasks, over real processes: their keys lie on different partitions."""

import uuid
from collections.abc import AsyncIterator

import pytest

from taskloom.testing.processes import RunningSystem
from tests.e2e.support import TASKS, Api, door

pytestmark = pytest.mark.e2e
FAR = "2999-01-01T00:00:00Z"


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[Api]:
    async with door(running_system) as api:
        yield api


@pytest.fixture
def run() -> str:
    return uuid.uuid4().hex[:8]


async def test_a_diamond_runs_in_order_and_starts_nothing_early(api: Api, run: str) -> None:
    shell = {"kind": "shell", "input": {"cmd": "sleep 0.2; date +%s%N"}}
    needs: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    tasks = [
        {**shell, "task_id": f"{name}-{run}", "depends_on": [f"{need}-{run}" for need in waits]}
        for name, waits in needs.items()
    ]
    answer = await api.http.post(f"{TASKS}/batch", json={"tasks": tasks})
    assert answer.json()["accepted"] == 4
    seen = {name: await api.ended(f"{name}-{run}") for name in needs}
    assert {one["state"] for one in seen.values()} == {"completed"}
    for name, waits in needs.items():
        assert all(seen[name]["started_at"] >= seen[need]["completed_at"] for need in waits)
    plan = await api.get("/tasks/plan", ids=",".join(f"{name}-{run}" for name in "dcba"))
    assert [len(phase["parallel_groups"][0]) for phase in plan["phases"]] == [1, 2, 1]


async def test_what_waits_for_a_failed_task_fails_with_the_reason(api: Api, run: str) -> None:
    failing = f"f-{run}"
    await api.submit(task_id=failing, kind="shell", input={"cmd": "exit 3"}, retry={"max_attempts": 1})
    waiting = await api.submit(kind="echo", depends_on=[failing])
    going_on = await api.submit(kind="echo", depends_on=[failing], on_dependency_failure="continue")
    task = await api.ended(waiting)
    assert (task["state"], task["error"]) == ("failed", f"dependency {failing} failed")
    assert (await api.ended(going_on))["state"] == "completed"


async def test_why_names_what_a_task_waits_for_and_a_cancel_ends_the_wait(api: Api, run: str) -> None:
    later = await api.submit(task_id=f"l-{run}", kind="echo", run_at=FAR)
    waiting = await api.submit(task_id=f"w-{run}", kind="echo", depends_on=[later])
    why = await api.get(f"/tasks/{waiting}/why")
    assert (why["state"], why["gates"][0]["gate"], why["gates"][0]["held_by"]) == ("waiting", "dependency", [later])
    assert (await api.control(later, "cancel")).status_code == 202
    assert (await api.ended(waiting))["error"] == f"dependency {later} was cancelled"
