"""The tools. Each is a call of the API; what comes back is bounded, since it goes into a model's context."""

from typing import Annotated, Any, Final

import msgspec
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from taskloom.client import AsyncClient
from taskloom.client.answers import Task, TaskSummary
from taskloom.client.errors import NotEnded
from taskloom.client.submission import ChosenTasks, Submission
from taskloom.errors import TaskloomError

MAX_CHARS: Final = 16 * 1024
"""Of a result or an error."""

MAX_RESPONSE_BYTES: Final = 64 * 1024
MAX_LINES: Final = 200
MAX_WAIT_S: Final = 300

TaskId = Annotated[str, Field(description="Id of the task", min_length=1, max_length=128)]
Reason = Annotated[str, Field(description="Kept in the task's history", max_length=4096)]


class Tools:
    """Methods that have a docstring and no underscore are tools, described by it. Every one raises ``ToolError`` with
    the API's own words when it refuses."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def submit(
        self,
        kind: Annotated[str, Field(description="shell, http, python, docker, echo, sleep, workflow, query...")] = "",
        input: Annotated[dict[str, Any] | None, Field(description="As the kind wants it: {cmd} for shell")] = None,  # noqa: A002
        query: Annotated[str, Field(description="What a task without a kind is asked")] = "",
        name: Annotated[str, Field(description="For people")] = "",
        task_id: Annotated[str, Field(description="An id of your own; the same again is the same task")] = "",
        session_id: Annotated[str, Field(description="The session that it belongs to")] = "",
        wait_s: Annotated[int, Field(description="Wait so long for its end", ge=0, le=MAX_WAIT_S)] = 0,
    ) -> dict[str, Any]:
        """Submits a task, which runs durably. With wait_s its end is waited for; else ask for its status later."""
        wish: Submission = {}
        if kind:
            wish["kind"] = kind
        if input is not None:
            wish["input"] = input
        if query:
            wish["query"] = query
        if name:
            wish["name"] = name
        if task_id:
            wish["task_id"] = task_id
        if session_id:
            wish["session_id"] = session_id
        try:
            made = await self._client.submit(**wish)
            if not wait_s:
                return {"task_id": made.task_id, "submitted": True}
            try:
                return told(await self._client.wait(made.task_id, timeout_s=wait_s))
            except NotEnded:
                return told(await self._client.get(made.task_id))
        except TaskloomError as error:
            raise ToolError(str(error)) from error

    async def status(self, task_id: TaskId) -> dict[str, Any]:
        """How a task is: its status, its result or error, its attempts and times."""
        try:
            return told(await self._client.get(task_id))
        except TaskloomError as error:
            raise ToolError(str(error)) from error

    async def list(
        self,
        status: Annotated[str, Field(description="QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT")] = "",
        kind: Annotated[str, Field(description="Only of this kind")] = "",
        session_id: Annotated[str, Field(description="Only of this session")] = "",
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> dict[str, Any]:
        """Lists tasks, newest first."""
        chosen: ChosenTasks = {"limit": limit}
        if status:
            chosen["status"] = status
        if kind:
            chosen["kind"] = kind
        if session_id:
            chosen["session_id"] = session_id
        try:
            page = await self._client.list_tasks(**chosen)
        except TaskloomError as error:
            raise ToolError(str(error)) from error
        shown = ("task_id", "kind", "name", "status", "state", "created_at", "completed_at", "error")
        tasks = [{name: _shown(each, name) for name in shown} for each in page.tasks]
        return {"tasks": tasks, "total_count": page.total_count}

    async def timeline(self, task_id: TaskId) -> dict[str, Any]:
        """What happened to a task, line by line, the last 200."""
        try:
            lines = await self._client.timeline(task_id, full=True)
        except TaskloomError as error:
            raise ToolError(str(error)) from error
        events = [{"at": _plain(each.timestamp), "type": each.type, "message": each.message} for each in lines]
        return {"task_id": task_id, "events": events[-MAX_LINES:], "left_out": max(0, len(events) - MAX_LINES)}

    async def cancel(self, task_id: TaskId, reason: Reason = "") -> dict[str, Any]:
        """Cancels a task; what it runs is ended, and that is confirmed in its timeline."""
        try:
            return dict(msgspec.to_builtins(await self._client.cancel(task_id, reason)))
        except TaskloomError as error:
            raise ToolError(str(error)) from error

    async def why(self, task_id: TaskId) -> dict[str, Any]:
        """Says what holds a task that does not run: which gate, since when, who holds it."""
        try:
            return dict(msgspec.to_builtins(await self._client.why(task_id)))
        except TaskloomError as error:
            raise ToolError(str(error)) from error


def told(task: Task) -> dict[str, Any]:
    """A task as a model is told of it: without its input, and with long texts cut."""
    shown = ("task_id", "kind", "name", "status", "state", "attempt", "progress", "error_type", "exit_code", "version")
    times = ("created_at", "started_at", "completed_at", "retry_at", "run_at")
    response = msgspec.json.encode(task.response)
    small = len(response) <= MAX_RESPONSE_BYTES
    return {
        **{name: _shown(task, name) for name in (*shown, *times)},
        "result": _cut(task.result),
        "response": task.response if small else _cut(response.decode()),
        "error": _cut(task.error),
    }


def _shown(task: Task | TaskSummary, field: str) -> Any:
    value = _plain(getattr(task, field))
    return value.removeprefix("TASK_STATUS_") if field == "status" else value


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}\n[cut here: {len(text)} characters in all]"
