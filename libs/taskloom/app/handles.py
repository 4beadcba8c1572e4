"""A task or workflow that was submitted from a program: its id, and its typed result once it has ended."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from taskloom.app.errors import TaskFailed
from taskloom.client.answers import Controlled
from taskloom.client.answers import Task as TaskAnswer
from taskloom.client.asynchronous import AsyncClient
from taskloom.client.blocking import Client

R = TypeVar("R")
Read = Callable[[TaskAnswer], R]


class Handle(Generic[R]):
    """Made by ``submit`` with a ``Client``."""

    def __init__(self, client: Client, task_id: str, read: Read[R]) -> None:
        self.client, self.task_id, self._read = client, task_id, read

    def task(self) -> TaskAnswer:
        """The task as it is now."""
        return self.client.get(self.task_id)

    def result(self, timeout_s: float | None = None) -> R:
        """What the function returned, in the type that it declares.

        Raises:
            TaskFailed: it failed, was cancelled or ran out of time.
            NotEnded: ``timeout_s`` is over.
            Mismatch: the result does not have the type that this program's function declares.
        """
        return self._read(_completed(self.client.wait(self.task_id, timeout_s=timeout_s)))

    def cancel(self, reason: str = "") -> Controlled:
        return self.client.cancel(self.task_id, reason)


class AsyncHandle(Generic[R]):
    """Made by ``submit`` with an ``AsyncClient``: the same calls, awaited."""

    def __init__(self, client: AsyncClient, task_id: str, read: Read[R]) -> None:
        self.client, self.task_id, self._read = client, task_id, read

    async def task(self) -> TaskAnswer:
        return await self.client.get(self.task_id)

    async def result(self, timeout_s: float | None = None) -> R:
        """As ``Handle.result``."""
        return self._read(_completed(await self.client.wait(self.task_id, timeout_s=timeout_s)))

    async def cancel(self, reason: str = "") -> Controlled:
        return await self.client.cancel(self.task_id, reason)


def _completed(task: TaskAnswer) -> TaskAnswer:
    if not task.completed:
        raise TaskFailed(task)
    return task


async def submitted(
    client: AsyncClient, submission: dict[str, Any], idempotency_key: str, read: Read[R]
) -> AsyncHandle[R]:
    answer = await client.submit(idempotency_key=idempotency_key, **submission)
    return AsyncHandle(client, answer.task_id, read)
