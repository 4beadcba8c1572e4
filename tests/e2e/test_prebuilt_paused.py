"""The four prebuilt workflows, each paused in its middle and resumed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import uuid4

import pytest

from taskloom.client.tasks import Task, TaskAPI
from taskloom.client.workflows import (
    Workflow,
    WorkflowStatus,
    create_ci_cd_workflow,
    create_code_review_workflow,
    create_data_processing_workflow,
    create_monitoring_workflow,
)
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem
from tests.e2e.support import door

pytestmark = pytest.mark.e2e

FIRST: Final = ("code_generation", "code_analysis", "monitoring")
"""What the first agent can do: each workflow gets into its middle, and waits there for the second one."""

SECOND: Final = ("testing", "deployment", "code_review", "custom")


_MARKS: Final = ("action", "check_type", "test_type", "review_type", "environment")


async def work(task: Task, _context: dict[str, Any]) -> dict[str, Any]:
    """The agents' function. Each task leaves its own mark, which the workflow's variables keep."""
    about = task.metadata
    mark = next(str(about[name]) for name in _MARKS if name in about)
    of = about.get("data_source") or about.get("service") or ""
    told: dict[str, Any] = {f"{mark}{of}": task.retry_count}
    if about.get("test_type") == "unit":
        told["test_status"] = "passed"
    return {"variables": told}


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[TaskAPI]:
    settings = {
        "TASKLOOM_KAFKA_BOOTSTRAP": running_system.bootstrap,
        "TASKLOOM_DATABASE_DSN": running_system.dsn,
        "TASKLOOM_TOPIC_PREFIX": str(running_system.run["topic_prefix"]),
    }
    async with TaskAPI(running_system.url, agent_settings=settings) as api:
        yield api


def workflows() -> dict[str, Workflow]:
    monitoring = create_monitoring_workflow("monitoring", "me", ["a", "b"])
    wait = monitoring.get_step_by_id("wait_interval")
    assert wait is not None
    wait.wait_seconds = 1.0
    review = create_code_review_workflow("review", "me", "https://example.org/pull/7")
    review.variables["all_checks_passed"] = True
    return {
        "ci_cd": create_ci_cd_workflow("ci_cd", "me", "https://example.org/repository.git"),
        "data": create_data_processing_workflow("data", "me", ["x", "y"]),
        "review": review,
        "monitoring": monitoring,
    }


class Paused:
    """The four runs, and how far they are."""

    def __init__(self, api: TaskAPI, runs: dict[str, Workflow]) -> None:
        self.api, self.runs = api, runs

    async def steps(self, name: str) -> dict[str, str]:
        """Status by path."""
        run = await self.api.client.run(str(self.runs[name].id))
        return {step.path: step.status for step in run.steps}

    async def are(self, wanted: dict[str, dict[str, str]]) -> bool:
        return all([(await self.steps(name)).items() >= steps.items() for name, steps in wanted.items()])


MIDDLE: Final = {
    "ci_cd": {"step_1": "completed", "step_2": "running"},
    "data": {"step_1.extract_0": "running", "step_1.extract_1": "running"},
    "review": {"step_1.lint_check": "completed", "step_1.test_check": "running"},
    "monitoring": {"step_1.1.wait_interval": "waiting"},
}
HELD: Final = {
    "ci_cd": {"step_1": "completed", "step_2": "completed"},
    "data": {"step_1.extract_0": "completed", "step_1.extract_1": "completed"},
    "review": {"step_1.lint_check": "completed", "step_1.test_check": "completed"},
    "monitoring": {"step_1.1.wait_interval": "waiting"},
}
"""What was under way has ended in the pause, and nothing follows it."""

LATER: Final = {"ci_cd": "step_3.deploy", "data": "step_2", "review": "step_2.human_review", "monitoring": "step_1.2"}


async def test_prebuilt_workflows_are_held_in_their_middle_and_go_on_to_their_end(
    api: TaskAPI, running_system: RunningSystem
) -> None:
    runs, suffix = workflows(), uuid4().hex[:6]
    paused = Paused(api, runs)
    ends = [asyncio.create_task(api.execute_workflow(run, timeout_s=60)) for run in runs.values()]
    await api.register_agent(f"first-{suffix}", "worker", FIRST, work)

    await eventually(lambda: paused.are(MIDDLE))
    assert all([await api.pause_workflow(run.id) for run in runs.values()])
    await api.register_agent(f"second-{suffix}", "worker", SECOND, work)
    await eventually(lambda: paused.are(HELD))
    for name, run in runs.items():
        assert not [path for path in await paused.steps(name) if path.startswith(LATER[name])], name
        assert (await api.client.run(str(run.id))).status == "paused"
        assert not await api.pause_workflow(run.id)

    assert all([await api.resume_workflow(run.id) for run in runs.values()])
    await eventually(lambda: paused.are({"monitoring": {"step_1.2.parallel_health_checks": "completed"}}))
    async with door(running_system) as http:
        path = f"/api/v1/tasks/{runs['monitoring'].id}/variables"
        (await http.http.patch(path, json={"values": {"monitoring_active": False}})).raise_for_status()
    for end in ends:
        assert (await end).status is WorkflowStatus.COMPLETED

    assert runs["ci_cd"].variables == {"build": 0, "unit": 0, "test_status": "passed", "production": 0}
    assert runs["data"].variables == {"extractx": 0, "extracty": 0, "transform": 0, "load": 0}
    checks = {"lint": 0, "security": 0, "all": 0, "all_checks_passed": True}
    assert runs["review"].variables == checks | {"human": 0}
    assert runs["monitoring"].variables == {"healtha": 0, "healthb": 0, "monitoring_active": False}
