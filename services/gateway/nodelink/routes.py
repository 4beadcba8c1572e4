"""The routes of nodelink: shell and docker tasks on agents, and their output as it comes."""

from functools import partial
from typing import Annotated, Any, Final

from litestar import delete, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope, Send
from msgspec import Meta, Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.nodelink.frames import frames
from services.gateway.nodelink.shapes import (
    AgentTaskCreated,
    AgentTaskDetail,
    AgentTasks,
    AllAgentTasks,
    DockerTask,
    LegacyShell,
    NodelinkError,
    ShellTask,
    TaskCancelled,
    TaskRef,
)
from services.gateway.problems import BadRequest
from services.gateway.queries import read_query
from services.gateway.streaming import resume_position
from services.gateway.submit import Accepted

TAG: Final = "Nodelink"
_ID: Final = "task-0190a5f2-7c1e-7b0a-8f3d-2f9f6f1c0d11"
_ENTRY: Final = {
    "task_id": _ID,
    "agent_id": "agent1",
    "status": "completed",
    "created_at": "2026-11-21T17:45:00.123456000Z",
    "updated_at": "2026-11-21T17:45:01.654321000Z",
}
_NOT_FOUND: Final = Answered("Unknown, or another tenant's", NodelinkError, {"error": "task not found"})
_INVALID: Final = Answered(
    "The body is wrong; details say what",
    NodelinkError,
    {"error": "invalid request", "details": "Object missing required field `cmd`"},
)
_NOT_CONNECTED: Final = Answered(
    "The agent is not connected, or does not run such tasks; a failed task is recorded",
    NodelinkError,
    {"error": "failed to create task", "details": "agent with this id is not connected: ghost", "task_id": _ID},
)
_FINAL: Final = Answered(
    "It has ended already", NodelinkError, {"error": f"task {_ID} is already in final state: completed"}
)
_CREATED: Final = Answered(
    "Made",
    AgentTaskCreated,
    {name: _ENTRY[name] for name in ("task_id", "agent_id", "created_at")} | {"status": "pending"},
)
_KEY: Final = {"Idempotency-Key": "The same key gives the same task, at any time and on any gateway"}
_ANY_ORIGIN: Final = (b"access-control-allow-origin", b"*")
_EXAMPLE: Final = (
    f": task {_ID}\n"
    'id: 4-1\nevent: response\ndata: {"event_response":{"event_ref":"…","status":"IN_PROGRESS","result":{"data":{'
    '"output":"hello\\n","type":"stdout","timestamp":1795283100123,"sequence":1,"is_final":false,"exit_code":0}}},'
    '"agentId":"agent1","taskId":"…","status":"in_progress","isFinal":false,"cancelled":false,'
    '"shellExecute":{"stdout":"hello\\n","stderr":"","exitCode":0}}\n\n'
    'id: 6-1\nevent: response\ndata: {"event_response":{"event_ref":"…","status":"SUCCESS","result":{"data":{'
    '"output":"","type":"stdout","timestamp":1795283100456,"sequence":2,"is_final":true,"exit_code":0}}},'
    '"agentId":"agent1","taskId":"…","status":"completed","isFinal":true,"cancelled":false,'
    '"shellExecute":{"stdout":"","stderr":"","exitCode":0}}\n\n'
)


class NodelinkStreamQuery(Struct, frozen=True):
    ref: Annotated[str, Meta(min_length=1, description="The task's id")]
    client_id: Annotated[str, Meta(description="Taken, and of no effect")] = ""
    last_event_id: Annotated[str, Meta(description="Resume after this id, for who cannot send the header")] = ""


async def _created(
    request: AnyRequest, model: type[ShellTask | DockerTask], **given: str
) -> tuple[AgentTaskCreated, Accepted]:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    return await gateway.nodelink.create(await request.body(), model, origin_of(request, gateway), **given)


def _names(accepted: Accepted) -> list[tuple[str, str]]:
    return [("X-Workflow-ID", accepted.task_id)]


@post(
    "/tasks/shell",
    opt=documented(
        Doc(
            summary="Run a command on an agent",
            tag=TAG,
            details="An agent is an executor, by its id. The task has one attempt. timeout is in seconds, 300 where "
            "there is none or 0; the agent keeps it.",
            body=ShellTask,
            examples={"a command": {"agent_id": "agent1", "cmd": "echo 'Hello World'", "timeout": 300}},
            headers=_KEY,
            answers={200: _CREATED, 400: _INVALID, 409: _NOT_CONNECTED},
            errors=(413, 429, 503),
        )
    ),
)
async def create_shell_task(request: AnyRequest) -> ASGIApp:
    created, accepted = await _created(request, ShellTask)
    return json_answer(created, headers=_names(accepted))


@post(
    "/tasks/docker",
    opt=documented(
        Doc(
            summary="Run, start or stop a container on an agent, or follow its log",
            tag=TAG,
            details="run needs image, start, stop and logs need id.",
            body=DockerTask,
            examples={
                "run": {"agent_id": "agent1", "operation": "run", "image": "hello-world", "timeout": 300},
                "logs": {"agent_id": "agent1", "operation": "logs", "id": "web"},
            },
            headers=_KEY,
            answers={200: _CREATED, 400: _INVALID, 409: _NOT_CONNECTED},
            errors=(413, 429, 503),
        )
    ),
)
async def create_docker_task(request: AnyRequest) -> ASGIApp:
    created, accepted = await _created(request, DockerTask)
    return json_answer(created, headers=_names(accepted))


@post(
    "/agents/{agent_id:str}/shell",
    opt=documented(
        Doc(
            summary="Run a command on an agent, as older clients do",
            tag=TAG,
            details="ref is a task's id, for /stream and /tasks.",
            body=LegacyShell,
            examples={"a command": {"cmd": "echo hello"}},
            headers=_KEY,
            answers={200: Answered("Made", TaskRef, {"ref": _ID}), 400: _INVALID, 409: _NOT_CONNECTED},
            errors=(413, 429, 503),
        )
    ),
)
async def run_on_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    created, accepted = await _created(request, ShellTask, agent_id=agent_id)
    return json_answer(TaskRef(created.task_id), headers=_names(accepted))


@get(
    "/tasks",
    opt=documented(
        Doc(
            summary="Shell and docker tasks of all agents, newest first",
            tag=TAG,
            details="What ended leaves the list in a sweep, every 5 minutes, once it is older than 30; it stays under "
            "its id, with its output and events. At most 10,000.",
            answers={200: Answered("Tasks", AllAgentTasks, {"tasks": [_ENTRY]})},
        )
    ),
)
async def list_nodelink_tasks(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.nodelink.all_tasks(caller_in(request)), headers=gateway.lag.header())


@get(
    "/agents/{agent_id:str}/tasks",
    opt=documented(
        Doc(
            summary="Shell and docker tasks of an agent, newest first",
            tag=TAG,
            details="As GET /tasks. An agent that nobody knows has none.",
            answers={200: Answered("Tasks", AgentTasks, {"agent_id": "agent1", "tasks": [_ENTRY]})},
        )
    ),
)
async def list_tasks_of_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.nodelink.tasks_of(caller_in(request), agent_id), headers=gateway.lag.header())


@get(
    "/tasks/{task_id:str}",
    opt=documented(
        Doc(
            summary="A task's status",
            tag=TAG,
            details="status is pending, sent, in_progress, completed, failed, timeout or cancelled; a task that is "
            "being cancelled is cancelled once nothing of it runs any more.",
            answers={200: Answered("The task", AgentTaskDetail, {**_ENTRY, "timeout": "5m0s"}), 404: _NOT_FOUND},
        )
    ),
)
async def get_nodelink_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.nodelink.task(caller_in(request), task_id), headers=gateway.lag.header())


@delete(
    "/tasks/{task_id:str}",
    status_code=200,
    opt=documented(
        Doc(
            summary="Cancel a task",
            tag=TAG,
            details="Its process group gets SIGTERM, and SIGKILL 5 seconds later. Answered when nothing of it runs any "
            "more, or after 2 seconds.",
            answers={
                200: Answered("Cancelled", TaskCancelled, {"message": "task cancelled"}),
                400: _FINAL,
                404: _NOT_FOUND,
            },
            errors=(503,),
        )
    ),
)
async def cancel_nodelink_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    await gateway.nodelink.cancel(task_id, origin_of(request, gateway))
    return json_answer(TaskCancelled("task cancelled"))


@get(
    "/stream",
    opt=documented(
        Doc(
            summary="A task's output, and how it ended",
            tag=TAG,
            details="From the first piece on, however late one comes, or after the id in Last-Event-ID. Every event is "
            "named response. Ends after the event with isFinal; who comes back with its id is answered 204, which "
            "tells an EventSource that there is no more.",
            query=NodelinkStreamQuery,
            headers={"Last-Event-ID": "Resume after this id"},
            answers={
                200: Answered("Frames", example=_EXAMPLE, media_type="text/event-stream"),
                204: Answered("The last event was received before", media_type=""),
                400: Answered(
                    "ref is missing", NodelinkError, {"error": "invalid request", "details": "ref is missing"}
                ),
                404: _NOT_FOUND,
            },
            errors=(503,),
        )
    ),
)
async def stream_nodelink_task(request: AnyRequest) -> ASGIApp:
    gateway, caller = gateway_of(request), caller_in(request)
    try:
        query = read_query(pairs_of(request), NodelinkStreamQuery)
        after = resume_position(request.headers.get("last-event-id", ""), query.last_event_id)
    except BadRequest as error:
        raise BadRequest("invalid request", details=str(error)) from error
    submitted = await gateway.nodelink.submitted(caller, query.ref)
    feed = gateway.streams.feed_of(query.ref, after)
    headers = [] if "origin" in request.headers else [_ANY_ORIGIN]
    if after.version and await feed.had_end():
        return partial(_no_content, headers)
    told = partial(gateway.reader.promise, caller, query.ref)
    return gateway.streams.sse_of(frames(query.ref, submitted.executor_id, feed, gateway.nodelink.kept, told), headers)


async def _no_content(headers: list[tuple[bytes, bytes]], _scope: Scope, _receive: Receive, send: Send) -> None:
    start: Any = {"type": "http.response.start", "status": 204, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


HANDLERS: Final = [
    create_shell_task,
    create_docker_task,
    run_on_agent,
    list_nodelink_tasks,
    list_tasks_of_agent,
    get_nodelink_task,
    cancel_nodelink_task,
    stream_nodelink_task,
]
