"""``TaskScheduler``: hands tasks over, and tells what waits and where the load is.

Scheduling itself is the server's: ready tasks wait in one place, and executors are given them as slots come free. So
there is nothing here to poll for work, and nothing to rebalance.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from taskloom.client import answers as a
from taskloom.client.tasks.api import TaskAPI
from taskloom.client.tasks.dependencies import DependencyResolver
from taskloom.client.tasks.errors import BadDependency
from taskloom.client.tasks.task import Task, TaskStatus, TaskType

MAX_LISTED: Final = 1_000
_OPEN: Final = (TaskStatus.PENDING, TaskStatus.READY, TaskStatus.RUNNING, TaskStatus.RETRYING, TaskStatus.PAUSED)


class TaskScheduler:
    """With a resolver, tasks are checked against those that it knows, and added to it. Without ``api`` it makes one,
    which ``shutdown`` ends."""

    def __init__(self, dependency_resolver: DependencyResolver | None = None, *, api: TaskAPI | None = None) -> None:
        self.api = api or TaskAPI()
        self._owns_api = api is None
        self._resolver = dependency_resolver

    async def add_task(self, task: Task) -> Task:
        """The task as the server has it.

        Raises:
            BadDependency: a ValueError; the resolver or the server finds fault with its dependencies.
        """
        if self._resolver is not None and (faults := self._resolver.validate_dependencies(task)):
            raise BadDependency("; ".join(faults))
        created = await self.api.create_task(task)
        if self._resolver is not None:
            self._resolver.add_task(task)
        return created

    async def remove_task(self, task_id: UUID) -> bool:
        """As ``TaskAPI.delete_task``."""
        removed = await self.api.delete_task(task_id)
        if self._resolver is not None:
            self._resolver.remove_task(task_id)
        return removed

    async def get_overdue_tasks(self) -> list[Task]:
        """Open tasks whose deadline has passed, among the newest 1,000 of each status."""
        return [task for status in _OPEN for task in await self._listed(status) if task.is_overdue()]

    async def get_scheduled_tasks(self) -> list[Task]:
        """Tasks that wait for their time, the next one first, among the newest 1,000 that wait."""
        waiting = [(task.scheduled_at, task) for task in await self._listed(TaskStatus.PENDING)]
        timed = [(at, task) for at, task in waiting if at is not None]
        return [task for _, task in sorted(timed, key=lambda each: each[0])]

    async def get_agent_workload(self) -> dict[str, int]:
        """Attempts that each ready agent holds."""
        return {each.executor_id: each.held for each in await self._ready()}

    async def get_least_loaded_agent(self, task_type: TaskType | None = None) -> str | None:
        """Of the ready agents with this capability the one that holds the fewest attempts, ties by id."""
        fit = [each for each in await self._ready() if task_type is None or task_type.value in each.capabilities]
        return min(fit, key=lambda each: (each.held, each.executor_id)).executor_id if fit else None

    async def get_queue_statistics(self) -> Mapping[str, Any]:
        return await self.api.get_queue_statistics()

    async def shutdown(self) -> None:
        """Ends its own ``TaskAPI``; one that was given stays as it is."""
        if self._owns_api:
            await self.api.shutdown()

    async def _listed(self, status: TaskStatus) -> list[Task]:
        return await self.api.list_tasks(status=status, limit=MAX_LISTED)

    async def _ready(self) -> list[a.Executor]:
        return [each for each in await self.api.client.executors() if each.status == "ready"]
