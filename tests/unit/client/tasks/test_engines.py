"""The task executor and the task scheduler, which hand everything on."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from taskloom.client.tasks import (
    BadDependency,
    DependencyResolver,
    ExecutionStatus,
    Task,
    TaskAPI,
    TaskExecutor,
    TaskScheduler,
    TaskType,
)
from tests.unit.client.tasks.server import BASE, Server


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[TaskAPI]:
    async with TaskAPI("http://taskloom.test", transport=httpx.MockTransport(server)) as api:
        yield api


def executor(executor_id: str, held: int, *capabilities: str, status: str = "ready") -> dict[str, Any]:
    return {
        "executor_id": executor_id,
        "status": status,
        "kinds": ["python"],
        "queues": ["default"],
        "slots": 10,
        "held": held,
        "capabilities": list(capabilities),
    }


async def test_least_loaded_agent_is_ready_and_capable(api: TaskAPI, server: Server) -> None:
    found = [
        executor("c", 0, "testing", status="lost"),
        executor("b", 2, "testing"),
        executor("a", 2, "testing", "custom"),
        executor("d", 1, "custom"),
    ]
    server.add("GET /api/v1/executors", {"executors": found})
    scheduler = TaskScheduler(api=api)

    assert await scheduler.get_least_loaded_agent() == "d"
    assert await scheduler.get_least_loaded_agent(TaskType.TESTING) == "a"
    assert await scheduler.get_least_loaded_agent(TaskType.DEPLOYMENT) is None
    assert await scheduler.get_agent_workload() == {"b": 2, "a": 2, "d": 1}


async def test_task_with_bad_dependencies_is_not_sent(api: TaskAPI, server: Server) -> None:
    resolver = DependencyResolver()
    scheduler = TaskScheduler(resolver, api=api)

    with pytest.raises(BadDependency, match="no task"):
        await scheduler.add_task(Task(name="n", created_by="me", depends_on={uuid4()}))

    assert server.sent("POST") == []
    assert resolver.get_execution_order() == []


async def test_waiting_tasks_come_by_their_time_and_late_ones_are_found(api: TaskAPI, server: Server) -> None:
    tasks = {uuid4(): "2031-01-01T00:00:00Z", uuid4(): "2030-01-01T00:00:00Z", uuid4(): None}
    entries = []
    for task_id, at in tasks.items():
        server.task(task_id, state="scheduled", run_at=at, deadline=None if at else "2020-01-01T00:00:00Z")
        entries.append({"task_id": str(task_id), "status": "TASK_STATUS_QUEUED", "state": "scheduled"})
    rest = {"kind": "x", "queue": "q", "priority": 2, "attempt": 0, "created_at": "2026-01-01T00:00:00Z"}
    server.add(f"GET {BASE}", {"tasks": [entry | rest for entry in entries], "total_count": 3})
    scheduler = TaskScheduler(api=api)
    late, early, timeless = tasks

    assert [task.id for task in await scheduler.get_scheduled_tasks()] == [early, late]
    assert [task.id for task in await scheduler.get_overdue_tasks()] == [timeless]


async def test_task_of_a_batch_that_is_refused_has_a_failed_execution(api: TaskAPI, server: Server) -> None:
    server.add(f"POST {BASE}", {"error": "too long", "field": "name"}, 400)
    tasks = [Task(name=name, created_by="me") for name in ("a", "b")]

    executions = await TaskExecutor(max_concurrent_tasks=1, api=api).execute_tasks_batch(tasks)

    assert [(each.task_id, each.status) for each in executions] == [(task.id, ExecutionStatus.FAILED) for task in tasks]
    assert executions[0].error_details is not None
    assert "too long" in executions[0].error_details["error_message"]


def test_what_cannot_be_chosen_is_refused(api: TaskAPI) -> None:
    with pytest.raises(ValueError, match="resource_monitor_interval"):
        TaskExecutor(resource_monitor_interval=0.1, api=api)
    with pytest.raises(ValueError, match="max_concurrent_tasks"):
        TaskExecutor(max_concurrent_tasks=0, api=api)


async def test_executor_ends_only_a_connection_of_its_own(api: TaskAPI, server: Server) -> None:
    await TaskExecutor(max_concurrent_tasks=20, resource_monitor_interval=1.0, api=api).shutdown()
    await TaskScheduler(DependencyResolver(), api=api).shutdown()

    server.add("GET /api/v1/executors", {"executors": []})
    assert await api.client.executors() == []
    own = TaskExecutor()
    await own.shutdown()
    with pytest.raises(RuntimeError, match="closed"):
        await own.api.client.executors()
