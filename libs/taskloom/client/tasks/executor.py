"""``TaskExecutor``: runs tasks and waits for them, a bounded number at once."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from taskloom.client.tasks.agent import Served
from taskloom.client.tasks.api import TaskAPI
from taskloom.client.tasks.execution import TaskExecution
from taskloom.client.tasks.task import Task
from taskloom.errors import TaskloomError

SAMPLED_EVERY_S: Final = 1.0


class TaskExecutor:
    """``max_concurrent_tasks`` limits what this object has under way, and the slots of each agent registered by it.
    Without ``api`` it makes one, which ``shutdown`` ends."""

    def __init__(
        self,
        max_concurrent_tasks: int = 10,
        resource_monitor_interval: float = SAMPLED_EVERY_S,
        *,
        api: TaskAPI | None = None,
    ) -> None:
        if max_concurrent_tasks < 1:
            raise ValueError(f"max_concurrent_tasks: {max_concurrent_tasks} is below 1")
        if resource_monitor_interval != SAMPLED_EVERY_S:
            raise ValueError(
                f"resource_monitor_interval: {resource_monitor_interval:g}; executors look at their processes once a "
                "second, which cannot be changed from here"
            )
        self.api = api or TaskAPI()
        self._owns_api = api is None
        self._slots = max_concurrent_tasks
        self._turn = asyncio.Semaphore(max_concurrent_tasks)

    async def register_agent(
        self,
        agent_id: str,
        agent_type: str,
        executor_function: Served,
        capabilities: Collection[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """As ``TaskAPI.register_agent``."""
        return await self.api.register_agent(
            agent_id, agent_type, capabilities, executor_function, metadata, max_concurrent_tasks=self._slots
        )

    async def execute_task(self, task: Task | UUID, agent_id: str | None = None) -> TaskExecution:
        """As ``TaskAPI.execute_task``; waits for its turn first."""
        async with self._turn:
            return await self.api.execute_task(task, agent_id)

    async def execute_tasks_batch(self, tasks: Sequence[Task], agent_id: str | None = None) -> list[TaskExecution]:
        """In order. A task that was refused, or not heard of again, has a failed execution that says why."""
        return list(await asyncio.gather(*(self._one_of_batch(task, agent_id) for task in tasks)))

    async def cancel_task_execution(self, task_id: UUID, reason: str | None = None) -> bool:
        return await self.api.cancel_task_execution(task_id, reason)

    async def get_execution_status(self, task_id: UUID) -> TaskExecution | None:
        return await self.api.get_task_execution(task_id)

    async def get_agent_statistics(self) -> dict[str, dict[str, Any]]:
        return await self.api.get_agent_statistics()

    async def shutdown(self) -> None:
        """Ends its own ``TaskAPI``; one that was given stays as it is."""
        if self._owns_api:
            await self.api.shutdown()

    async def _one_of_batch(self, task: Task, agent_id: str | None) -> TaskExecution:
        try:
            return await self.execute_task(task, agent_id)
        except (TaskloomError, ValueError) as error:
            execution = TaskExecution(task_id=task.id, executor_id=agent_id or "")
            execution.fail_execution({"error_type": type(error).__name__, "error_message": str(error)})
            return execution
