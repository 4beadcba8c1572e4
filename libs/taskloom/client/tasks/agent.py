"""The agent's side: what an executor registers that was started by ``TaskAPI.register_agent``.

It is one function, which gives each task to the agent's own. Tasks of a type that no executor announces as a
kind name this function, and as capability their type, so only agents that have the capability get them.
"""

import importlib
import inspect
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import reduce
from typing import Any, Final, Protocol, TypeGuard, cast
from uuid import UUID, uuid5

from taskloom.client.tasks.mapping import execution_id, id_of
from taskloom.client.tasks.task import Task, TaskStatus
from taskloom.kinds import TaskError, current_context, function
from taskloom.templates.work import AGENT_FUNCTION

FUNCTION_VARIABLE: Final = "TASKLOOM_AGENT_FUNCTION"
"""``module:name`` of the agent's function."""

ExecutorFunction = Callable[[Task, dict[str, Any]], Any | Awaitable[Any]]


class DecoratedTask(Protocol):
    """What ``@app.task`` and ``@task`` make of a function (``taskloom.app``)."""

    kind: str
    __wrapped__: Callable[..., Any]

    @property
    def queue(self) -> str: ...


Served = ExecutorFunction | DecoratedTask | Sequence[DecoratedTask] | None
"""What an agent runs: a function that gets each task, or tasks that are kinds of their own."""


def decorated(target: Served) -> list[DecoratedTask]:
    """The decorated tasks that an agent serves; empty when it has a function, or nothing."""
    found = list(target) if isinstance(target, Sequence) else [target]
    return [each for each in found if _is_decorated(each)] if all(map(_is_decorated, found)) else []


def _is_decorated(target: Any) -> TypeGuard[DecoratedTask]:
    return isinstance(getattr(target, "kind", None), str) and callable(getattr(target, "__wrapped__", None))


def name_of(target: Any) -> str:
    """``module:name`` under which another process finds the function.

    Raises:
        ValueError: it is not a function of a module.
    """
    target = target.__wrapped__ if _is_decorated(target) else target
    module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
    if not module or module == "__main__" or not name or "<" in name:
        raise ValueError(
            f"executor_function: {name or target!r} runs in a process of its own, which must be able to import it; "
            "define it at the top of a module that is not the program itself"
        )
    return f"{module}:{name}"


def loaded(name: str) -> ExecutorFunction:
    """
    Raises:
        ImportError: there is no such module or function.
    """
    module, _, path = name.partition(":")
    try:
        found: Any = reduce(getattr, path.split("."), cast(Any, importlib.import_module(module)))
    except AttributeError as error:
        raise ImportError(f"{FUNCTION_VARIABLE}={name!r}: {error}") from error
    return cast(ExecutorFunction, found)


def register(target: ExecutorFunction | None) -> None:
    """Registers what tasks for agents call: async when the agent's function is, else plain, so that it has a thread."""
    if target is not None and inspect.iscoroutinefunction(target):
        found = target

        async def perform_async(task: dict[str, Any]) -> Any:
            return await found(*_arguments(task))

        function(name=AGENT_FUNCTION)(perform_async)
    else:

        def perform(task: dict[str, Any]) -> Any:
            if target is None:
                raise TaskError(
                    "no_function",
                    f"agent {_agent_id()} has no executor function, so it runs only tasks that say what to run "
                    "(cmd, function or kind)",
                    retryable=False,
                )
            return target(*_arguments(task))

        function(name=AGENT_FUNCTION)(perform)


def _arguments(told: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """The task and the context that an executor function gets."""
    ctx = current_context()
    task_id = id_of(ctx.task_id) or uuid5(UUID(int=0), ctx.task_id)
    named = {"name": ctx.name or ctx.kind, "created_by": ctx.tenant_id, **told}
    task = Task.from_dict({**named, "id": str(task_id), "status": TaskStatus.RUNNING, "retry_count": ctx.attempt - 1})
    context = {
        "execution_id": str(execution_id(ctx.task_id, ctx.attempt)),
        "task_id": ctx.task_id,
        "agent_id": _agent_id(),
        "metadata": task.metadata,
        "execution_context": task.execution_context,
    }
    return task, context


def _agent_id() -> str:
    return os.environ.get("TASKLOOM_EXECUTOR_ID", "")
