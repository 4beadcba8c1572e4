"""The agent's side: which function it finds, and what that function is given."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from taskloom.client.tasks import Task
from taskloom.client.tasks.agent import loaded, name_of, register
from taskloom.client.tasks.mapping import execution_id
from taskloom.kinds import Context, TaskError, registered
from taskloom.kinds.functions import set_context
from taskloom.templates.work import AGENT_FUNCTION

TASK_ID = "7e2a8610-95dc-49cc-bf67-8ebaa2960a10"


class Attempt:
    task_id = TASK_ID
    attempt = 2
    kind = "python"
    name = "from the server"
    tenant_id = "acme"


def plain(task: Task, context: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    return task, context


async def waits(task: Task, context: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    return task, context


@pytest.fixture(autouse=True)
def _attempt(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TASKLOOM_EXECUTOR_ID", "agent-1")
    set_context(cast(Context, Attempt()))
    yield
    register(None)


async def test_function_gets_the_task_and_its_context() -> None:
    told = {"name": "build", "created_by": "ann", "metadata": {"k": 1}, "execution_context": {"e": 2}}
    register(plain)
    task, context = registered(AGENT_FUNCTION).call(task=told)
    register(waits)
    assert registered(AGENT_FUNCTION).is_async
    again, _ = await registered(AGENT_FUNCTION).call(task=told)

    assert (str(task.id), task.name, task.created_by, task.retry_count) == (TASK_ID, "build", "ann", 1)
    assert again.id == task.id
    assert context == {
        "execution_id": str(execution_id(TASK_ID, 2)),
        "task_id": TASK_ID,
        "agent_id": "agent-1",
        "metadata": {"k": 1},
        "execution_context": {"e": 2},
    }


def test_task_of_a_workflow_has_an_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempt, "task_id", f"{TASK_ID}~step_1")
    register(plain)

    task, context = registered(AGENT_FUNCTION).call(task={})

    assert (task.name, task.created_by) == ("from the server", "acme")
    assert context["task_id"] == f"{TASK_ID}~step_1"
    assert str(task.id) != TASK_ID


def test_agent_without_a_function_says_so() -> None:
    register(None)

    with pytest.raises(TaskError, match="agent-1 has no executor function") as caught:
        registered(AGENT_FUNCTION).call(task={})
    assert not caught.value.retryable


def test_function_must_be_found_by_another_process() -> None:
    def local(_task: Task, _context: dict[str, Any]) -> None: ...

    assert name_of(loaded("json:loads")) == "json:loads"
    assert name_of(plain).endswith(":plain")
    for bad in (local, lambda _task, _context: None):
        with pytest.raises(ValueError, match="executor_function"):
            name_of(bad)
    with pytest.raises(ImportError, match="nothing_here"):
        loaded("json:nothing_here")
