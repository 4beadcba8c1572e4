"""Reads tasks and their attempts from the server, as models."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

from taskloom.client import answers as a
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.calls import Call
from taskloom.client.errors import NotFound
from taskloom.client.tasks.agents import AGENT_TYPE
from taskloom.client.tasks.execution import ExecutionLog, TaskExecution
from taskloom.client.tasks.mapping import REST_WORDS, execution_of, id_of, status_of, task_of
from taskloom.client.tasks.offered import Offered
from taskloom.client.tasks.task import Task, TaskPriority, TaskStatus, TaskType
from taskloom.domain.values import OUTPUT_SEQ_SPAN
from taskloom.templates.work import OWN

MAX_OUTPUT_CHARS: Final = 1_000_000
"""A ``TaskExecution`` holds this much of what its attempt wrote; ``AsyncClient.output`` gives the rest."""

PAGE: Final = 100
AT_ONCE: Final = 16

DEPENDENCIES: Final = "/api/v1/tasks/{id}/dependencies"

T = TypeVar("T")
Given = TypeVar("Given")


async def in_parallel(call: Callable[[Given], Awaitable[T]], given: Sequence[Given]) -> list[T]:
    """``call`` of each, in order, at most 16 at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(each: Given) -> T:
        async with turn:
            return await call(each)

    return list(await asyncio.gather(*map(one, given)))


class TaskReader:
    def __init__(self, client: AsyncClient, offered: Offered) -> None:
        self._client = client
        self._offered = offered

    async def found(self, task_id: UUID) -> a.Task | None:
        """The task as the server tells it; None when there is none."""
        try:
            return await self._client.get(str(task_id))
        except NotFound:
            return None

    async def task(self, task_id: UUID) -> Task | None:
        found = await self.found(task_id)
        return None if found is None else await self._with_dependencies(found)

    async def tasks(
        self,
        status: TaskStatus | None,
        assigned_to: str | None,
        task_type: TaskType | None,
        priority: TaskPriority | None,
        number: int,
    ) -> list[Task]:
        """The newest ``number`` of those that fit, or somewhat more."""
        tasks: list[Task] = []
        async for summaries in self._pages(status, assigned_to, task_type, priority):
            found = await in_parallel(self.task, [UUID(each.task_id) for each in summaries])
            tasks += [task for task in found if task and assigned_to in (None, task.assigned_to)]
            if len(tasks) >= number:
                break
        return tasks

    async def newest(self, number: int) -> list[str]:
        """Ids of at most so many tasks."""
        ids: list[str] = []
        async for summaries in self._pages(None, None, None, None):
            ids += [each.task_id for each in summaries]
            if len(ids) >= number:
                break
        return ids[:number]

    async def execution(self, task_id: UUID) -> TaskExecution | None:
        """The last attempt with its output, or the one that waits; None when there is none."""
        found = await self.found(task_id)
        if found is None or not (attempts := await self._client.executions(str(task_id))):
            return None
        execution = execution_of(found, attempts, await self._agent_type(attempts[-1].executor_id))
        await self._add_output(execution)
        return execution

    async def kinds(self) -> frozenset[str]:
        """Kinds that an executor announces now."""
        executors = await self._client.executors()
        return frozenset(kind for each in executors if each.status == "ready" for kind in each.kinds)

    async def _with_dependencies(self, found: a.Task) -> Task:
        """The task with what it waits for and what waits for it, where the server tells."""
        task = task_of(found)
        if await self._offered.has(f"GET {DEPENDENCIES}"):
            told = await self._client.call(Call(dict, DEPENDENCIES.format(id=task.id)))
            needs = (id_of(each["task_id"]) for each in told["depends_on"])
            task.depends_on = {each for each in needs if each is not None}
            task.blocks = {each for name in told["blocks"] if (each := id_of(name)) is not None}
        return task

    async def _agent_type(self, executor_id: str) -> str:
        found = await self._client.executors() if executor_id else []
        return next((each.labels.get(AGENT_TYPE, "executor") for each in found if each.executor_id == executor_id), "")

    async def _add_output(self, execution: TaskExecution) -> None:
        first = (execution.execution_number - 1) * OUTPUT_SEQ_SPAN
        parts: list[str] = []
        room = MAX_OUTPUT_CHARS
        async for chunk in self._client.output(str(execution.task_id), after=first):
            text = chunk.data.decode(errors="replace")[:room]
            room -= len(text)
            if chunk.stream in ("stdout", "stderr"):
                parts.append(text)
            else:
                execution.logs.append(ExecutionLog(timestamp=chunk.at, message=text, context={"stream": chunk.stream}))
            if room <= 0:
                break
        execution.output = "".join(parts)

    async def _pages(
        self,
        status: TaskStatus | None,
        assigned_to: str | None,
        task_type: TaskType | None,
        priority: TaskPriority | None,
    ) -> AsyncIterator[list[a.TaskSummary]]:
        metadata = {} if task_type is None else {f"{OWN}type": TaskType(task_type).value}
        words = "" if status is None else REST_WORDS[status]
        cursor: str | None = ""
        while cursor is not None:
            page = await self._client.list_tasks(
                metadata=metadata,
                status=words,
                assigned_to=assigned_to or "",
                priority="" if priority is None else str(int(priority)),
                cursor=cursor,
                limit=PAGE,
            )
            yield [
                each
                for each in page.tasks
                if id_of(each.task_id) is not None
                and status in (None, status_of(each))
                and priority in (None, each.priority)
            ]
            cursor = page.next_cursor
