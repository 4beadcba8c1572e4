"""``TaskAPI``: tasks, executions, workflows, agents and figures, over a live server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import UUID

import httpx

from taskloom.client import answers as a
from taskloom.client import calls, workflow_calls
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.calls import Call
from taskloom.client.errors import Conflict, Invalid, NotEnded, NotFound
from taskloom.client.tasks.agent import Served
from taskloom.client.tasks.agents import Agents
from taskloom.client.tasks.errors import BadDependency, NotOffered, dependency_fault
from taskloom.client.tasks.execution import TaskExecution
from taskloom.client.tasks.logger import TaskLogger
from taskloom.client.tasks.mapping import changes_of, execution_of, submission_of
from taskloom.client.tasks.metrics import TaskMetrics
from taskloom.client.tasks.monitoring import Monitoring
from taskloom.client.tasks.offered import Offered
from taskloom.client.tasks.reader import DEPENDENCIES, TaskReader
from taskloom.client.tasks.task import (
    CreateTaskRequest,
    Task,
    TaskPriority,
    TaskStatus,
    TaskType,
    UpdateTaskRequest,
)

if TYPE_CHECKING:
    from taskloom.client.workflows.workflow import Workflow

MAX_GRAPH: Final = 500
TASK: Final = "/api/v1/tasks/{id}"
WORKFLOW: Final = "workflow"


class TaskAPI:
    """Use it in an ``async with``, or end it with ``shutdown``. Every call may raise what ``AsyncClient`` raises.

    A created task runs as soon as an executor is free for it: there is no second step. ``execute_task`` waits for its
    end. What the server does not offer yet raises ``NotOffered`` with the missing route.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        metrics: TaskMetrics | None = None,
        logger: TaskLogger | None = None,
        agent_settings: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Without ``base_url`` TASKLOOM_URL says where the server is. ``agent_settings``: further TASKLOOM_ variables
        for the processes of registered agents, which find Kafka and the database in TASKLOOM_HOME else."""
        self.client = AsyncClient(base_url, transport=transport)
        self._logger = logger
        self._offered = Offered(self.client)
        self._reader = TaskReader(self.client, self._offered)
        self._agents = Agents(self.client, agent_settings)
        self._monitoring = Monitoring(self.client, (metrics or TaskMetrics()).retention)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.shutdown()

    async def shutdown(self) -> None:
        """Ends the agents that were registered here, and the connections."""
        await self._agents.stop_all()
        await self.client.close()

    async def create_task(self, request: Task | CreateTaskRequest) -> Task:
        """The task as the server has it. The same ``Task`` sent again is the same task.

        Raises:
            BadDependency: a ValueError; a dependency does not exist or leads back to the task.
            Conflict: its id belongs to another task.
        """
        task = request if isinstance(request, Task) else request.task()
        try:
            await self.client.submit(**submission_of(task, await self._reader.kinds()))
        except (Invalid, Conflict) as refused:
            raise dependency_fault(refused) or refused from None
        if self._logger is not None:
            self._logger.log_task_created(task.id, task.name, task.created_by, task.metadata)
        created = await self._reader.task(task.id)
        return task if created is None else created

    async def get_task(self, task_id: UUID) -> Task | None:
        """None when there is no such task."""
        return await self._reader.task(task_id)

    async def update_task(self, task_id: UUID, request: UpdateTaskRequest) -> Task | None:
        """The changed task; None when there is no such task."""
        route = f"PATCH {TASK}"
        await self._offered.require("update a task", route)
        return await self.get_task(task_id) if await self._sent(route, task_id, changes_of(request)) else None

    async def delete_task(self, task_id: UUID) -> bool:
        """False when there is no such task."""
        route = f"DELETE {TASK}"
        await self._offered.require("delete a task", route)
        return await self._sent(route, task_id)

    async def list_tasks(
        self,
        status: TaskStatus | None = None,
        assigned_to: str | None = None,
        task_type: TaskType | None = None,
        priority: TaskPriority | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Task]:
        """Whole tasks, newest first; two requests for each, at most 16 at once. Tasks whose id is no UUID are left out:
        they came through another door."""
        found = await self._reader.tasks(status, assigned_to, task_type, priority, offset + limit)
        return found[offset : offset + limit]

    async def execute_task(
        self, task: UUID | Task, agent_id: str | None = None, *, timeout_s: float | None = None
    ) -> TaskExecution:
        """The last attempt, once the task has ended, however it ended. A ``Task`` is created first, if it is new, for
        ``agent_id`` where one is given.

        Raises:
            ValueError: there is no such task.
            Conflict: the task has begun elsewhere, or has ended, and ``agent_id`` is another agent.
            NotEnded: ``timeout_s`` is over; says what holds the task.
        """
        if isinstance(task, Task):
            if agent_id is not None:
                task.assigned_to = agent_id
            await self.create_task(task)
            task_id = task.id
        else:
            task_id = task
            await self._move(task_id, agent_id)
        return await self._ended(task_id, timeout_s)

    async def cancel_task_execution(self, task_id: UUID, reason: str | None = None) -> bool:
        """True when the cancel was taken; the task is cancelled once its attempt has stopped. False when there is no
        such task, or it has ended."""
        try:
            await self.client.cancel(str(task_id), reason or "")
        except (NotFound, Conflict):
            return False
        if self._logger is not None:
            self._logger.log_task_cancelled(task_id, None, reason or "")
        return True

    async def get_task_execution(self, task_id: UUID) -> TaskExecution | None:
        """The last attempt, or the one that waits; None when there is no such task or it was never queued."""
        return await self._reader.execution(task_id)

    async def retry_task(self, task_id: UUID, *, timeout_s: float | None = None) -> TaskExecution | None:
        """The new attempt, once the task has ended again; None when there is no such task.

        Raises:
            Conflict: the task did not fail.
        """
        route = f"POST {TASK}/retry"
        await self._offered.require("retry a task", route)
        return await self._ended(task_id, timeout_s) if await self._sent(route, task_id, {}) else None

    async def execute_workflow(self, workflow: Workflow, *, timeout_s: float | None = None) -> Workflow:
        """The same workflow with status, times, result and variables of its end. Its id is the run's: executed again it
        gives the same run.

        Raises:
            BadWorkflow: a ValueError; the definition is not valid; names each faulty field.
            NotEnded: ``timeout_s`` is over.
        """
        submission = workflow.to_submission(await self._reader.kinds())
        try:
            await self.client.submit(**submission)
        except Invalid as refused:
            if refused.field == "kind":
                raise NotOffered("execute a workflow", f"the kind {WORKFLOW!r} in POST /api/v1/tasks") from refused
            raise ValueError(str(refused)) from refused
        workflow.start_workflow()
        if self._logger is not None:
            self._logger.log_workflow_started(workflow.id, workflow.name, len(workflow.steps))
        workflow.take_end(await self.client.wait(str(workflow.id), timeout_s=timeout_s))
        return workflow

    async def pause_workflow(self, workflow_id: UUID) -> bool:
        """False when there is no such run, or it is not running."""
        return await self._controlled(workflow_id, "pause")

    async def resume_workflow(self, workflow_id: UUID) -> bool:
        """False when there is no such run, or it is not paused."""
        return await self._controlled(workflow_id, "resume")

    async def cancel_workflow(self, workflow_id: UUID) -> bool:
        """False when there is no such run, or it has ended."""
        return await self._controlled(workflow_id, "cancel")

    async def get_workflow_status(self, workflow_id: UUID) -> dict[str, Any] | None:
        """id, name, status, progress_percentage, started_at, completed_at, step_count and the numbers of completed,
        failed and running steps; None when there is no such run."""
        try:
            return await self.client.call(Call(dict, workflow_calls.of(str(workflow_id), "status")))
        except NotFound:
            return None

    async def register_agent(
        self,
        agent_id: str,
        agent_type: str,
        capabilities: Collection[str] = (),
        executor_function: Served = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        max_concurrent_tasks: int = 10,
    ) -> bool:
        """Starts an executor process with this id and these capabilities; True once the server lists it as ready.

        ``executor_function(task, context)``, plain or async, runs tasks whose type is among the capabilities; its
        module must be importable. Functions that are decorated as tasks (``@app.task``, ``@task``), one or a list, can
        be given instead: the agent serves them as kinds, with their own arguments. Without either it runs only tasks
        that say what to run. It ends with ``unregister_agent``, ``shutdown`` or this program.

        Raises:
            ValueError: the function cannot be imported by another process.
            AgentError: an agent of this id runs, or it did not become ready; with its log's last lines.
        """
        await self._agents.start(
            agent_id, agent_type, capabilities, executor_function, metadata or {}, max_concurrent_tasks
        )
        if self._logger is not None:
            self._logger.log_agent_registered(agent_id, agent_type, sorted(capabilities))
        return True

    async def unregister_agent(self, agent_id: str) -> bool:
        """Ends the agent, after what it runs or its drain time. False for an agent of another program."""
        stopped = await self._agents.stop(agent_id)
        if stopped and self._logger is not None:
            self._logger.log_agent_unregistered(agent_id)
        return stopped

    async def get_agent_statistics(self) -> dict[str, dict[str, Any]]:
        return await self._monitoring.agent_statistics()

    async def get_system_metrics(self) -> dict[str, Any]:
        return await self._monitoring.system_metrics()

    async def get_performance_report(self) -> dict[str, Any]:
        return await self._monitoring.performance_report()

    async def get_queue_statistics(self) -> dict[str, Any]:
        return await self._monitoring.queue_statistics()

    async def health_check(self) -> dict[str, Any]:
        return await self._monitoring.health()

    async def add_dependency(self, task_id: UUID, depends_on: UUID) -> bool:
        """Lets a task wait for one more, until it was handed to an executor. False when there is no such task.

        Raises:
            BadDependency: a ValueError; the other task does not exist, or waits for this one.
            Conflict: the task has started.
        """
        return await self._changed_dependency("PUT", task_id, depends_on)

    async def remove_dependency(self, task_id: UUID, depends_on: UUID) -> bool:
        """False when there is no such task."""
        return await self._changed_dependency("DELETE", task_id, depends_on)

    async def get_dependency_graph(self, task_ids: Collection[UUID] | None = None) -> dict[str, Any]:
        """``nodes`` and ``edges`` of the tasks given, else of the newest 500."""
        return await self._of_many("dependency graph", "graph", task_ids, {"nodes": [], "edges": []})

    async def get_execution_plan(self, task_ids: Collection[UUID] | None = None) -> dict[str, Any]:
        """``order`` and ``phases`` of the tasks given, else of the newest 500.

        Raises:
            Conflict: they wait for each other; names the cycle.
        """
        return await self._of_many("execution plan", "plan", task_ids, {"order": [], "phases": []})

    async def _changed_dependency(self, method: str, task_id: UUID, depends_on: UUID) -> bool:
        route = f"{method} {DEPENDENCIES}/{{dependency}}"
        await self._offered.require("change a dependency", route)
        if await self._reader.found(task_id) is None:
            return False
        try:
            await self.client.raw(Call(dict, f"{DEPENDENCIES.format(id=task_id)}/{depends_on}", method))
        except (Invalid, NotFound, Conflict) as refused:
            if refused.field == "dependency" or isinstance(refused, NotFound):
                raise BadDependency(str(refused)) from refused
            raise
        return True

    async def _of_many(
        self, wish: str, part: str, task_ids: Collection[UUID] | None, nothing: dict[str, Any]
    ) -> dict[str, Any]:
        await self._offered.require(wish, f"GET {calls.TASKS}/{part}")
        ids = [str(each) for each in task_ids] if task_ids is not None else await self._reader.newest(MAX_GRAPH)
        if not ids:
            return nothing
        return await self.client.call(Call(dict, f"{calls.TASKS}/{part}", params={"ids": ",".join(ids)}))

    async def _move(self, task_id: UUID, agent_id: str | None) -> None:
        task = await self.get_task(task_id)
        if task is None:
            raise ValueError(f"there is no task {task_id}")
        if agent_id is not None and task.assigned_to != agent_id:
            await self.update_task(task_id, UpdateTaskRequest(assigned_to=agent_id))

    async def _ended(self, task_id: UUID, timeout_s: float | None) -> TaskExecution:
        try:
            ended = await self.client.wait(str(task_id), timeout_s=timeout_s)
        except NotEnded as late:
            gates = (await self.client.why(str(task_id))).gates
            raise NotEnded("; ".join([str(late), *(f"{gate.gate}: {gate.detail}" for gate in gates)])) from None
        execution = await self.get_task_execution(task_id)
        if execution is None:
            # Ended before it was ever queued: a scheduled task that was cancelled.
            execution = execution_of(
                ended, [a.Execution(attempt=1, status="cancelled", completed_at=ended.completed_at)]
            )
        if self._logger is not None:
            self._logger.log_execution(execution)
        return execution

    async def _sent(self, route: str, task_id: UUID, body: Any = None) -> bool:
        method, _, path = route.partition(" ")
        try:
            await self.client.raw(Call(dict, path.format(id=task_id), method, body=body))
        except NotFound:
            return False
        return True

    async def _controlled(self, task_id: UUID, verb: str) -> bool:
        try:
            return (await self.client.call(calls.control(str(task_id), verb, {"reason": ""}))).success
        except (NotFound, Conflict):
            return False
