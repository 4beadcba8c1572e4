"""The task API's own snippets, run against a live system: tasks, agents, dependencies, figures."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from taskloom import task as decorated
from taskloom.client import NotEnded
from taskloom.client.tasks import (
    AgentError,
    CreateTaskRequest,
    ExecutionStatus,
    NotOffered,
    Task,
    TaskAPI,
    TaskExecution,
    TaskFactory,
    TaskPriority,
    TaskStatus,
    TaskType,
)
from taskloom.client.workflows import WorkflowBuilder, WorkflowStatus
from taskloom.testing.eventually import eventually
from taskloom.testing.processes import RunningSystem

pytestmark = pytest.mark.e2e


async def analyse(task: Task, context: dict[str, Any]) -> dict[str, Any]:
    """The agent's function; it runs in the agent's process."""
    if task.metadata.get("fail_times", 0) > task.retry_count:
        raise RuntimeError("not yet")
    return {"analysed": task.metadata.get("repository_url"), "by": context["agent_id"], "type": task.task_type.value}


def review(task: Task, _context: dict[str, Any]) -> str:
    return f"{task.name}: looks good"


@decorated
def doubled(number: int) -> int:
    return 2 * number


@pytest.fixture
async def api(running_system: RunningSystem) -> AsyncIterator[TaskAPI]:
    settings = {
        "TASKLOOM_KAFKA_BOOTSTRAP": running_system.bootstrap,
        "TASKLOOM_DATABASE_DSN": running_system.dsn,
        "TASKLOOM_TOPIC_PREFIX": str(running_system.run["topic_prefix"]),
    }
    async with TaskAPI(running_system.url, agent_settings=settings) as api:
        yield api


def shell(cmd: str, **fields: Any) -> Task:
    return Task(**{"name": cmd[:40], "created_by": "user123", "metadata": {"cmd": cmd}, **fields})


async def running(api: TaskAPI, task: Task) -> None:
    async def runs() -> bool:
        found = await api.get_task(task.id)
        return found is not None and found.status is TaskStatus.RUNNING

    await eventually(runs)


async def test_quick_start_runs_on_a_registered_agent(api: TaskAPI) -> None:
    task = TaskFactory.create_code_analysis_task(
        name="Analyze Repository",
        repository_url="https://github.com/example/repo",
        analysis_type="complexity",
        created_by="user123",
        priority=TaskPriority.HIGH,
        resource_requirements={"cpu_cores": 1, "memory_gb": 0.5, "disk_gb": 0.1},
        metadata={"fail_times": 1},
    )
    await api.register_agent(
        agent_id=f"codegen-{task.id}",
        agent_type="codegen",
        capabilities={"code_analysis", "code_generation"},
        executor_function=analyse,
    )

    created = await api.create_task(task)
    execution = await api.execute_task(created.id, timeout_s=60)

    assert created.id == task.id
    assert (created.created_by, created.task_type, created.priority) == (
        "user123",
        TaskType.CODE_ANALYSIS,
        TaskPriority.HIGH,
    )
    assert created.metadata == task.metadata
    assert execution.is_successful(), execution.error_details
    assert execution.result == {
        "analysed": "https://github.com/example/repo",
        "by": f"codegen-{task.id}",
        "type": "code_analysis",
    }
    assert (execution.execution_number, execution.executor_type) == (2, "codegen")
    assert execution.retry_reason == "not yet"
    stored = await api.get_task(task.id)
    assert stored is not None
    assert (stored.status, stored.retry_count, stored.result) == (TaskStatus.COMPLETED, 1, execution.result)


async def test_an_agent_serves_decorated_tasks_with_their_own_arguments(api: TaskAPI) -> None:
    agent_id = f"decorated-{uuid4()}"
    await api.register_agent(agent_id, "worker", {"doubling"}, [doubled])
    answer = await api.client.submit(**doubled.submission(21), executor_id=agent_id)
    done = await api.client.wait(answer.task_id, timeout_s=60)
    assert (done.state, done.response, done.executor_id) == ("completed", 42, agent_id)
    assert await api.unregister_agent(agent_id)


async def test_plain_function_of_an_agent_has_its_own_type_of_task(api: TaskAPI) -> None:
    agent_id = f"claude-{uuid4()}"
    await api.register_agent(agent_id, "claude", {"code_review"}, review)
    with pytest.raises(AgentError, match="runs already"):
        await api.register_agent(agent_id, "claude", {"code_review"}, review)

    task = Task(name="PR 7", created_by="user123", task_type=TaskType.CODE_REVIEW)
    execution = await api.execute_task(task, agent_id, timeout_s=60)

    assert (execution.result, execution.executor_id) == ({"value": "PR 7: looks good"}, agent_id)
    statistics = await api.get_agent_statistics()
    assert "code_review" in statistics[agent_id]["capabilities"]  # Beside what its host can.
    assert statistics[agent_id] | {"registered_at": "", "capabilities": []} == {
        "type": "claude",
        "active": True,
        "running_tasks": statistics[agent_id]["running_tasks"],
        "total_executions": 1,
        "successful_executions": 1,
        "success_rate": 100.0,
        "capabilities": [],
        "registered_at": "",
    }
    assert await api.unregister_agent(agent_id)
    assert not await api.unregister_agent(agent_id)
    assert not (await api.get_agent_statistics())[agent_id]["active"]


async def test_task_that_no_agent_is_capable_of_says_so(api: TaskAPI) -> None:
    task = Task(name="ship", created_by="user123", task_type=TaskType.DEPLOYMENT)
    await api.create_task(task)

    with pytest.raises(NotEnded, match="deployment"):
        await api.execute_task(task.id, timeout_s=1)

    assert await api.cancel_task_execution(task.id, "nobody can")
    assert not await api.cancel_task_execution(uuid4(), "unknown")
    execution = await api.execute_task(task.id, timeout_s=60)
    assert execution.status is ExecutionStatus.CANCELLED


async def test_command_runs_with_its_output_and_exit_code(api: TaskAPI) -> None:
    good = await api.execute_task(shell("echo out; echo err >&2"), timeout_s=60)
    bad = await api.execute_task(shell("echo broken; exit 3", max_retries=1), timeout_s=60)

    assert (good.is_successful(), sorted((good.output or "").split())) == (True, ["err", "out"])
    assert (bad.status, bad.output, bad.execution_number) == (ExecutionStatus.FAILED, "broken\n", 2)
    assert bad.metadata == {"exit_code": 3}
    failed = await api.list_tasks(status=TaskStatus.FAILED)
    [task] = [task for task in failed if task.id == bad.task_id]
    assert task.error_message
    assert not task.can_retry()


async def test_running_task_is_cancelled_with_its_reason(api: TaskAPI) -> None:
    task = shell("sleep 600")
    await api.create_task(task)
    await running(api, task)

    assert await api.cancel_task_execution(task.id, "User requested")

    execution = await api.execute_task(task.id, timeout_s=60)
    assert execution.status is ExecutionStatus.CANCELLED
    assert not await api.cancel_task_execution(task.id, "again")


async def test_lists_are_narrowed_and_paged(api: TaskAPI) -> None:
    agent = f"nobody-{uuid4()}"
    requests = [
        CreateTaskRequest(name=f"t{number}", created_by="me", assigned_to=agent, task_type=kind, priority=priority)
        for number, (kind, priority) in enumerate(
            [
                (TaskType.TESTING, TaskPriority.LOW),
                (TaskType.TESTING, TaskPriority.URGENT),
                (TaskType.MONITORING, TaskPriority.URGENT),
            ]
        )
    ]
    for request in requests:
        await api.create_task(request)

    mine = await api.list_tasks(assigned_to=agent)

    assert [task.name for task in mine] == ["t2", "t1", "t0"]
    assert [task.name for task in await api.list_tasks(assigned_to=agent, limit=1, offset=1)] == ["t1"]
    testing = await api.list_tasks(assigned_to=agent, task_type=TaskType.TESTING, priority=TaskPriority.URGENT)
    assert [task.name for task in testing] == ["t1"]
    assert await api.list_tasks(assigned_to=agent, status=TaskStatus.COMPLETED) == []
    assert await api.get_task(uuid4()) is None
    for task in mine:
        await api.cancel_task_execution(task.id)


async def test_stages_of_a_pipeline_follow_each_other(api: TaskAPI) -> None:
    stage = [{"name": "a", "metadata": {"cmd": "true"}}, {"name": "b", "metadata": {"cmd": "true"}}]
    last = {"name": "c", "metadata": {"cmd": "true"}}
    tasks = TaskFactory.create_pipeline_tasks({"stages": [{"tasks": stage}, {"tasks": [last]}]}, "user123")
    try:
        created = [await api.create_task(task) for task in tasks]
    except NotOffered as missing:
        pytest.skip(str(missing))

    executions = await asyncio.gather(*(api.execute_task(task.id, timeout_s=60) for task in tasks))

    assert all(execution.is_successful() for execution in executions)
    assert created[2].depends_on == {tasks[0].id, tasks[1].id}
    assert _started(executions[2]) >= max(_ended(executions[0]), _ended(executions[1]))
    ids = [task.id for task in tasks]
    graph, plan = await api.get_dependency_graph(ids), await api.get_execution_plan(ids)
    assert {(edge["from"], edge["to"]) for edge in graph["edges"]} == {
        (str(ids[0]), str(ids[2])),
        (str(ids[1]), str(ids[2])),
    }
    assert [len(phase["parallel_groups"][0]) for phase in plan["phases"]] == [2, 1]
    with pytest.raises(ValueError, match="depends_on"):
        await api.create_task(Task(name="lost", created_by="me", depends_on={uuid4()}))


async def test_figures_have_their_documented_names(api: TaskAPI) -> None:
    await api.execute_task(shell("true"), timeout_s=60)

    async def counted() -> bool:
        return bool((await api.get_system_metrics())["tasks_per_minute"] >= 1)

    await eventually(counted)
    report = await api.get_performance_report()
    queue = await api.get_queue_statistics()
    health = await api.health_check()

    current = report["current_metrics"]
    assert current["active_agents"] >= 1
    assert current["total_tasks_processed"] >= 1
    assert sum(agent["successful_tasks"] for agent in report["agent_metrics"].values()) >= 1
    assert sum(hour["completed_tasks"] for hour in report["performance_trends"]["hourly_trends"]) >= 1
    assert queue["completed_tasks"] >= 1
    assert list(queue["priority_distribution"]) == ["LOW", "NORMAL", "HIGH", "URGENT", "CRITICAL"]
    # An executor that another test has killed leaves it degraded for an hour.
    assert health["status"] in ("healthy", "degraded"), health["components"]
    assert health["components"]["task_executor"] in ("healthy", "degraded")
    assert health["components"]["workflow_orchestrator"] == "healthy"
    assert health["metrics"]["total_tasks_processed"] >= current["total_tasks_processed"]


async def test_workflow_runs_to_its_end(api: TaskAPI) -> None:
    workflow = (
        WorkflowBuilder("facts", "user123")
        .add_task_step("first", {"metadata": {"cmd": "true"}})
        .add_task_step("second", {"metadata": {"cmd": "true"}}, depends_on={"first"})
        .build()
    )
    try:
        result = await api.execute_workflow(workflow, timeout_s=60)
    except NotOffered as missing:
        pytest.skip(str(missing))

    assert result.status is WorkflowStatus.COMPLETED
    assert result.get_progress_percentage() == 100.0


def _started(execution: TaskExecution) -> Any:
    return execution.started_at


def _ended(execution: TaskExecution) -> Any:
    return execution.completed_at
