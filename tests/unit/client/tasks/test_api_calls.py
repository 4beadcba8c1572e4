"""What the task API asks of a server, and what it makes of the answers."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from taskloom.client import Conflict, Invalid
from taskloom.client.tasks import (
    BadDependency,
    NotOffered,
    Task,
    TaskAPI,
    TaskMetrics,
    TaskPriority,
    TaskStatus,
    UpdateTaskRequest,
)
from taskloom.client.workflows import BadWorkflow, Workflow, WorkflowBuilder, WorkflowStatus
from tests.unit.client.tasks.server import BASE, Server


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[TaskAPI]:
    async with TaskAPI("http://taskloom.test", transport=httpx.MockTransport(server)) as api:
        yield api


async def test_server_without_a_route_is_named_with_it(api: TaskAPI) -> None:
    task_id = uuid4()
    wishes = {
        "PATCH /api/v1/tasks/{id}": api.update_task(task_id, UpdateTaskRequest(name="x")),
        "DELETE /api/v1/tasks/{id}": api.delete_task(task_id),
        "POST /api/v1/tasks/{id}/retry": api.retry_task(task_id),
        "PUT /api/v1/tasks/{id}/dependencies/{dependency}": api.add_dependency(task_id, uuid4()),
        "DELETE /api/v1/tasks/{id}/dependencies/{dependency}": api.remove_dependency(task_id, uuid4()),
        "GET /api/v1/tasks/graph": api.get_dependency_graph(),
        "GET /api/v1/tasks/plan": api.get_execution_plan(),
    }
    for route, wish in wishes.items():
        with pytest.raises(NotOffered) as caught:
            await wish
        assert caught.value.route == route
        assert isinstance(caught.value, NotImplementedError)
        assert route in str(caught.value)


async def test_route_that_came_after_the_first_look_is_used(api: TaskAPI, server: Server) -> None:
    task_id = uuid4()
    with pytest.raises(NotOffered):
        await api.delete_task(task_id)
    server.add(f"DELETE {BASE}/{task_id}", {}, 202)

    assert await api.delete_task(task_id)
    assert not await api.delete_task(uuid4())


async def test_only_changed_fields_are_sent(api: TaskAPI, server: Server) -> None:
    task_id = uuid4()
    server.task(task_id)
    server.add(f"PATCH {BASE}/{task_id}", {})
    change = UpdateTaskRequest(priority=TaskPriority.URGENT, metadata={"k": 1})

    updated = await api.update_task(task_id, change)

    assert updated is not None
    assert updated.id == task_id
    assert server.sent("PATCH") == [(f"{BASE}/{task_id}", {"priority": 4, "metadata": {"k": 1}})]
    assert await api.update_task(uuid4(), change) is None


async def test_created_task_comes_back_as_the_server_has_it(api: TaskAPI, server: Server) -> None:
    task = Task(name="n", created_by="me", metadata={"cmd": "ls"})
    server.add(f"POST {BASE}", {"task_id": str(task.id), "status": "OK", "created_at": "2026-01-01T00:00:00Z"})
    server.task(task.id, state="running", status="TASK_STATUS_RUNNING")

    created = await api.create_task(task)

    assert (created.id, created.status) == (task.id, TaskStatus.RUNNING)
    [(_, body)] = server.sent("POST")
    assert (body["task_id"], body["kind"], body["input"]) == (str(task.id), "shell", {"cmd": "ls"})


@pytest.mark.parametrize(
    ("status", "body", "raised", "told"),
    [
        (400, {"error": "Object contains unknown field `depends_on`", "field": "depends_on"}, NotOffered, "depends_on"),
        (400, {"error": "task 7 does not exist", "field": "depends_on[0]"}, BadDependency, "does not exist"),
        (409, {"error": "a circle", "field": "depends_on"}, BadDependency, "a circle"),
        (400, {"error": "too long", "field": "name"}, Invalid, "too long"),
        (409, {"error": "exists with another body", "field": "task_id"}, Conflict, "another body"),
    ],
)
async def test_refused_task_says_which_kind_of_fault_it_is(
    api: TaskAPI, server: Server, status: int, body: Any, raised: type[Exception], told: str
) -> None:
    server.add(f"POST {BASE}", body, status)

    with pytest.raises(raised, match=told) as caught:
        await api.create_task(Task(name="n", created_by="me", depends_on={uuid4()}))

    assert isinstance(caught.value, ValueError) == (raised is BadDependency)


async def test_dependencies_are_read_where_the_server_tells_them(api: TaskAPI, server: Server) -> None:
    task_id, needed, waiting = uuid4(), uuid4(), uuid4()
    server.task(task_id)
    dependencies = {"depends_on": [{"task_id": str(needed), "waiting": True}], "blocks": [str(waiting), "task-other"]}
    server.add(f"GET {BASE}/{task_id}/dependencies", dependencies)

    task = await api.get_task(task_id)

    assert task is not None
    assert (task.depends_on, task.blocks) == ({needed}, {waiting})


async def test_dependency_that_closes_a_circle_is_a_bad_one(api: TaskAPI, server: Server) -> None:
    task_id, other = uuid4(), uuid4()
    server.task(task_id)
    server.add(f"PUT {BASE}/{task_id}/dependencies/{other}", {"error": "a circle", "field": "dependency"}, 409)

    with pytest.raises(BadDependency, match="a circle"):
        await api.add_dependency(task_id, other)
    assert not await api.add_dependency(uuid4(), other)


async def test_list_looks_at_states_and_leaves_out_other_doors(api: TaskAPI, server: Server) -> None:
    states = {uuid4(): "ready", uuid4(): "scheduled", "task-017": "ready"}
    for task_id, state in states.items():
        if isinstance(task_id, UUID):
            server.task(task_id, state=state)
    entries = [
        {
            "task_id": str(task_id),
            "status": "TASK_STATUS_QUEUED",
            "state": state,
            "kind": "shell",
            "queue": "default",
            "priority": 2,
            "attempt": 0,
            "created_at": "2026-01-01T00:00:00Z",
        }
        for task_id, state in states.items()
    ]
    server.add(f"GET {BASE}", {"tasks": entries, "total_count": 3})

    assert [task.status for task in await api.list_tasks()] == [TaskStatus.READY, TaskStatus.PENDING]
    assert [task.status for task in await api.list_tasks(status=TaskStatus.PENDING)] == [TaskStatus.PENDING]
    asked = [request.url.params.get("status") for request in server.requests if request.url.path == BASE]
    assert asked == [None, "QUEUED"]


async def test_list_lets_the_server_narrow_by_priority_and_agent(api: TaskAPI, server: Server) -> None:
    server.add(f"GET {BASE}", {"tasks": [], "total_count": 0})
    assert await api.list_tasks(assigned_to="ex-1", priority=TaskPriority.HIGH) == []
    [params] = [request.url.params for request in server.requests if request.url.path == BASE]
    assert (params["assigned_to"], params["priority"]) == ("ex-1", "3")


async def test_task_cannot_move_to_another_agent(api: TaskAPI, server: Server) -> None:
    task_id = uuid4()
    server.task(task_id, metadata={"task.assigned_to": "a"})

    with pytest.raises(NotOffered, match="PATCH"):
        await api.execute_task(task_id, "b")
    with pytest.raises(ValueError, match="no task"):
        await api.execute_task(uuid4())


async def test_graph_without_ids_is_of_the_tasks_there_are(api: TaskAPI, server: Server) -> None:
    server.add(f"GET {BASE}", {"tasks": [], "total_count": 0})
    server.add(f"GET {BASE}/graph", {"nodes": [1], "edges": []})
    task_id = uuid4()

    assert await api.get_dependency_graph() == {"nodes": [], "edges": []}
    assert await api.get_dependency_graph([task_id]) == {"nodes": [1], "edges": []}
    assert server.requests[-1].url.params["ids"] == str(task_id)


def a_workflow() -> Workflow:
    return WorkflowBuilder("w", "me").add_task_step("a", {"metadata": {"cmd": "true"}}).build()


async def test_server_that_runs_no_workflows_is_named(api: TaskAPI, server: Server) -> None:
    server.add(f"POST {BASE}", {"error": "no executor runs the kind 'workflow'", "field": "kind"}, 400)

    with pytest.raises(NotOffered, match="workflow"):
        await api.execute_workflow(a_workflow())


async def test_bad_workflow_is_not_sent(api: TaskAPI, server: Server) -> None:
    workflow = a_workflow()
    workflow.steps[0].depends_on = {"nobody"}

    with pytest.raises(BadWorkflow, match=r"definition\.steps\[0\]\.depends_on\[0\]"):
        await api.execute_workflow(workflow)
    assert server.sent("POST") == []


async def test_workflow_takes_the_end_of_its_run(api: TaskAPI, server: Server) -> None:
    workflow = a_workflow()
    server.add(f"POST {BASE}", {"task_id": str(workflow.id), "status": "OK", "created_at": "2026-01-01T00:00:00Z"})
    ended = httpx.Response(200, text="event: done\ndata: [DONE]\n\n", headers={"content-type": "text/event-stream"})
    server.routes["GET /api/v1/stream/sse"] = lambda _request: httpx.Response(
        200, content=ended.content, headers=ended.headers
    )
    response = {"variables": {"x": 1}, "results": {"step_1": {"code": 0}}}
    server.task(workflow.id, kind="workflow", status="TASK_STATUS_COMPLETED", state="completed", response=response)

    result = await api.execute_workflow(workflow)

    assert result is workflow
    assert (result.status, result.variables, result.result) == (WorkflowStatus.COMPLETED, {"x": 1}, response)
    assert result.get_progress_percentage() == 100.0
    [(_, body)] = server.sent("POST")
    assert (body["kind"], body["task_id"]) == ("workflow", str(workflow.id))
    assert body["input"]["definition"]["steps"][0]["task_template"]["kind"] == "shell"


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
async def test_run_of_a_workflow_is_controlled_as_a_task(api: TaskAPI, server: Server, verb: str) -> None:
    good, ended = uuid4(), uuid4()
    server.add(f"POST {BASE}/{good}/{verb}", {"success": True, "message": "", "task_id": str(good)}, 202)
    server.add(f"POST {BASE}/{ended}/{verb}", {"error": "has ended"}, 409)
    control = getattr(api, f"{verb}_workflow")

    assert await control(good)
    assert not await control(ended)
    assert not await control(uuid4())


SYSTEM = {
    "timestamp": "2026-01-01T12:00:00Z",
    "concurrent_tasks": 1,
    "peak_concurrent_tasks": 3,
    "total_tasks_processed": 9,
    "tasks_per_minute": 2,
    "average_duration_seconds": 1.5,
    "failure_rate_percent": 25.0,
    "active_agents": 2,
    "sla_violations_last_hour": 1,
}


async def test_health_names_components_and_holds_the_metrics(api: TaskAPI, server: Server) -> None:
    since = {"since": "2026-01-01T11:00:00Z", "detail": ""}
    components = {"task_scheduler": {"status": "unhealthy", **since}, "kafka": {"status": "healthy", **since}}
    told = {"status": "unhealthy", "timestamp": "2026-01-01T12:00:00Z", "components": components}
    server.add("GET /api/v1/health/components", told)
    server.add("GET /api/v1/metrics/system", {"error": "PostgreSQL does not answer"}, 503)

    health = await api.health_check()

    assert health == {
        "status": "unhealthy",
        "timestamp": "2026-01-01T12:00:00+00:00",
        "components": {"task_scheduler": "unhealthy", "kafka": "healthy"},
        "metrics": {},
    }
    server.add("GET /api/v1/metrics/system", SYSTEM)
    assert (await api.health_check())["metrics"] == SYSTEM


async def test_figures_have_the_documents_names_and_no_others(server: Server) -> None:
    agent = {
        "total_tasks": 4,
        "successful_tasks": 3,
        "failed_tasks": 1,
        "success_rate_percent": 75.0,
        "average_duration_seconds": 1.5,
    }
    report = {
        "report_timestamp": "2026-01-01T12:00:00Z",
        "current_metrics": SYSTEM,
        "agent_metrics": {"a": agent},
        "resource_metrics": {
            "average_cpu_percent": 1.0,
            "peak_cpu_percent": 2.0,
            "average_memory_mb": 3.0,
            "peak_memory_mb": 4.0,
            "sample_count": 5,
        },
        "workflow_metrics": {
            "total_workflows": 1,
            "average_duration_seconds": 2.0,
            "average_step_count": 3.0,
            "longest_workflow_seconds": 2.0,
            "shortest_workflow_seconds": 2.0,
        },
        "sla_metrics": {"last_hour": 0, "last_24h": 1, "compliance_rate_24h": 98.0},
        "performance_trends": {
            "hourly_trends": [
                {
                    "timestamp": "2026-01-01T12:00:00Z",
                    "completed_tasks": 3,
                    "failed_tasks": 1,
                    "average_duration_seconds": 1.5,
                    "success_rate_percent": 75.0,
                }
            ]
        },
    }
    queue = {
        "total_tasks": 9,
        "pending_tasks": 1,
        "running_tasks": 1,
        "completed_tasks": 6,
        "failed_tasks": 1,
        "queue_length": 1,
        "priority_distribution": {"LOW": 0, "NORMAL": 1, "HIGH": 0, "URGENT": 0, "CRITICAL": 0},
        "agent_workloads": {"a": 1},
        "overdue_tasks": 0,
    }
    statistics = {
        "type": "claude",
        "active": True,
        "running_tasks": 1,
        "total_executions": 4,
        "successful_executions": 3,
        "success_rate": 75.0,
        "capabilities": ["x"],
        "registered_at": "2026-01-01T11:00:00+00:00",
    }
    further = {"agent_metrics": {"a": {**agent, "average_wait_seconds": 0.1}}, "hours": 2, "newer": 1}
    server.add("GET /api/v1/metrics/system", SYSTEM)
    server.add("GET /api/v1/metrics/report", {**report, **further})
    server.add("GET /api/v1/queue/stats", {**queue, "cancelled_tasks": 1})
    held = {"executor_id": "a", "average_duration_seconds": 1.5, "failed_executions": 1, **statistics}
    server.add("GET /api/v1/executors/stats", {"executors": [held], "total_count": 1})
    transport = httpx.MockTransport(server)
    async with TaskAPI("http://taskloom.test", metrics=TaskMetrics(1.5), transport=transport) as api:
        assert await api.get_system_metrics() == SYSTEM
        assert await api.get_performance_report() == report
        assert await api.get_queue_statistics() == queue
        assert await api.get_agent_statistics() == {"a": statistics}
    [asked] = [request for request in server.requests if request.url.path.endswith("/report")]
    assert asked.url.params["hours"] == "2"


async def test_status_of_a_run_is_the_servers(api: TaskAPI, server: Server) -> None:
    run_id = uuid4()
    told = {"id": str(run_id), "name": "w", "status": "running", "progress_percentage": 50.0, "running_steps": 1}
    assert await api.get_workflow_status(run_id) is None
    server.add(f"GET /api/v1/workflows/{run_id}/status", told)
    assert await api.get_workflow_status(run_id) == told
