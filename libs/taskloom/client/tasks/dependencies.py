"""Questions about dependencies among tasks that this program holds; nothing here asks the server."""

from collections.abc import Collection, Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID

from taskloom.client.tasks.errors import CircularDependencyError
from taskloom.client.tasks.task import Task, TaskStatus


class DependencyResolver:
    """Knows the tasks that were added; each answer is of the moment."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._tasks = {task.id: task for task in tasks}

    def add_task(self, task: Task) -> None:
        self._tasks[task.id] = task

    def remove_task(self, task_id: UUID) -> None:
        self._tasks.pop(task_id, None)

    def validate_dependencies(self, task: Task) -> list[str]:
        """What is wrong with the dependencies of a task, which need not have been added; empty when all is well."""
        faults = [
            f"depends_on: task {task.id} depends on itself" if each == task.id else f"depends_on: no task {each}"
            for each in sorted(task.depends_on)
            if each == task.id or each not in self._tasks
        ]
        if not faults:
            try:
                _order({**self._tasks, task.id: task})
            except CircularDependencyError as error:
                faults.append(f"depends_on: {error}")
        return faults

    def get_execution_order(self, task_ids: Collection[UUID] | None = None) -> list[UUID]:
        """Ids in an order in which each comes after what it depends on.

        Raises:
            CircularDependencyError: there is no such order; names the cycle.
        """
        return _order(self._chosen(task_ids))

    def optimize_execution_plan(self, task_ids: Collection[UUID] | None = None) -> dict[str, Any]:
        """``{"phases": [{"phase": 1, "parallel_groups": [[id, …]]}, …]}``; a phase needs only the earlier ones.

        Raises:
            CircularDependencyError: there is no plan; names the cycle.
        """
        sorter = _prepared(self._chosen(task_ids))
        phases: list[dict[str, Any]] = []
        while sorter.is_active():
            ready = sorter.get_ready()
            sorter.done(*ready)
            phases.append({"phase": len(phases) + 1, "parallel_groups": [sorted(ready)]})
        return {"phases": phases}

    def get_ready_tasks(self) -> list[Task]:
        """Pending tasks whose dependencies are all completed."""
        done = {task.id for task in self._tasks.values() if task.status is TaskStatus.COMPLETED}
        return [task for task in self._tasks.values() if task.is_ready_to_run(done)]

    def get_blocked_tasks(self, task_id: UUID) -> set[UUID]:
        """Tasks that wait for this one, directly."""
        return {task.id for task in self._tasks.values() if task_id in task.depends_on}

    def get_dependency_chain(self, task_id: UUID) -> list[UUID]:
        """Everything that this task waits for, directly or not, first things first.

        Raises:
            CircularDependencyError: it waits for itself.
        """
        needed, ahead = set[UUID](), [task_id]
        while ahead:
            task = self._tasks.get(ahead.pop())
            new = set() if task is None else task.depends_on - needed
            needed |= new
            ahead += new
        chain = self.get_execution_order({*needed, task_id})
        return [each for each in chain if each != task_id]

    def can_execute_parallel(self, task_ids: Collection[UUID]) -> bool:
        """Whether none of them waits for another one, directly or not."""
        return not any(set(self.get_dependency_chain(each)) & set(task_ids) for each in task_ids)

    def get_dependency_graph(self) -> dict[str, Any]:
        """``nodes`` with id, name, status, priority and type; ``edges`` from a task to those that wait for it."""
        tasks = self._tasks.values()
        return {
            "nodes": [
                {
                    "id": str(task.id),
                    "name": task.name,
                    "status": task.status.value,
                    "priority": int(task.priority),
                    "type": task.task_type.value,
                }
                for task in tasks
            ],
            "edges": [
                {"from": str(needed), "to": str(task.id), "type": "dependency"}
                for task in tasks
                for needed in sorted(task.depends_on)
            ],
        }

    def _chosen(self, task_ids: Collection[UUID] | None) -> dict[UUID, Task]:
        if task_ids is None:
            return self._tasks
        return {each: self._tasks[each] for each in task_ids if each in self._tasks}


def _order(tasks: dict[UUID, Task]) -> list[UUID]:
    sorter = _prepared(tasks)
    order: list[UUID] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        sorter.done(*ready)
        order += ready
    return order


def _prepared(tasks: dict[UUID, Task]) -> TopologicalSorter[UUID]:
    sorter = TopologicalSorter({task.id: sorted(task.depends_on & tasks.keys()) for task in tasks.values()})
    try:
        sorter.prepare()
    except CycleError as error:
        raise CircularDependencyError(error.args[1]) from None
    return sorter
