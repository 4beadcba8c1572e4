"""Tasks: submit, list, look at, control."""

from typing import Final

from litestar import get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of, wait_of
from services.gateway.control import Controlled, read_control
from services.gateway.docs import Answered, Doc, documented
from services.gateway.goals import with_goal
from services.gateway.queries import AsOfQuery, TaskListQuery, metadata_filters, read_query
from services.gateway.shapes import ControlState, TaskList, TaskStatus, control_state_of, status_of, summary_of
from services.gateway.submit import ACCEPTED, Accepted, BatchResult, StreamSubmitted, SubmitBatch, Submitted
from taskloom.domain.task.commands import CancelTask, PauseTask, ResumeTask, SubmitTask

TASKS: Final = "/api/v1/tasks"

_EXAMPLES: Final = {
    "query": {"query": "What is the capital of France?", "session_id": "demo"},
    "shell": {
        "kind": "shell",
        "input": {"cmd": "uname -a; nproc"},
        "name": "facts",
        "tags": ["demo"],
        "priority": "high",
    },
    "echo with retries": {"kind": "echo", "input": {"fail_times": 2}, "retry": {"max_attempts": 4, "initial_s": 0.2}},
}
_WRITE_HEADERS: Final = {
    "Idempotency-Key": "The same key gives the same task, at any time and on any gateway; another body under it is 409",
    "Prefer": "wait=N (seconds, at most 30): answer after the orchestrator applied or refused the command",
}
_SUBMIT_ERRORS: Final = (400, 409, 413, 429, 503)


def stream_url(task_id: str) -> str:
    return f"/api/v1/stream/sse?workflow_id={task_id}"


def _submit_headers(request: AnyRequest, accepted: Accepted) -> list[tuple[str, str]]:
    headers = [("X-Workflow-ID", accepted.task_id), ("X-Session-ID", accepted.session_id)]
    if accepted.repeated:
        headers.append(("X-Idempotency-Cached", "true"))
        if key := request.headers.get("idempotency-key", ""):
            headers.append(("X-Idempotency-Key", key))
    if accepted.confirmed and wait_of(request):
        headers.append(("Preference-Applied", "wait"))
    return headers


async def _submit(request: AnyRequest) -> Accepted:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    origin = origin_of(request, gateway)
    return await gateway.submitter.submit(await request.body(), origin)


@post(
    TASKS,
    opt=documented(
        Doc(
            summary="Submit a task",
            tag="Tasks",
            details="Answered once Kafka has it; with the caller's own id or key, or Prefer: wait, once applied.",
            body=SubmitTask,
            examples=_EXAMPLES,
            headers=_WRITE_HEADERS,
            answers={200: Answered("Accepted", Submitted)},
            errors=_SUBMIT_ERRORS,
        )
    ),
)
async def submit_task(request: AnyRequest) -> ASGIApp:
    accepted = await _submit(request)
    body = Submitted(accepted.task_id, accepted.task_id, ACCEPTED, accepted.created_at)
    return json_answer(body, headers=_submit_headers(request, accepted))


@post(
    f"{TASKS}/stream",
    opt=documented(
        Doc(
            summary="Submit a task and get the address of its event stream",
            tag="Tasks",
            body=SubmitTask,
            examples=_EXAMPLES,
            headers=_WRITE_HEADERS,
            answers={201: Answered("Accepted; follow stream_url", StreamSubmitted)},
            errors=_SUBMIT_ERRORS,
        )
    ),
)
async def submit_task_to_stream(request: AnyRequest) -> ASGIApp:
    accepted = await _submit(request)
    url = stream_url(accepted.task_id)
    headers = [*_submit_headers(request, accepted), ("Link", f"<{url}>; rel=stream")]
    return json_answer(StreamSubmitted(accepted.task_id, accepted.task_id, url), status=201, headers=headers)


@post(
    f"{TASKS}/batch",
    opt=documented(
        Doc(
            summary="Submit 1 to 1,000 tasks",
            tag="Tasks",
            details="One bad entry refuses only itself. With an Idempotency-Key ids come from key and index.",
            body=SubmitBatch,
            examples={"two tasks": {"tasks": [_EXAMPLES["shell"], _EXAMPLES["query"]]}},
            headers=_WRITE_HEADERS,
            answers={200: Answered("What became of each entry, in order", BatchResult)},
            errors=(400, 413, 429, 503),
        )
    ),
)
async def submit_batch(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    gateway.limits.admit_submission()
    origin = origin_of(request, gateway)
    return json_answer(await gateway.submitter.submit_batch(await request.body(), origin))


@get(
    TASKS,
    opt=documented(
        Doc(
            summary="List tasks, newest first",
            tag="Tasks",
            details="metadata.KEY=VALUE narrows by metadata. Pages by cursor neither skip nor repeat.",
            query=TaskListQuery,
            answers={200: Answered("One page", TaskList)},
            errors=(400,),
        )
    ),
)
async def list_tasks(request: AnyRequest) -> ASGIApp:
    gateway, pairs = gateway_of(request), pairs_of(request)
    query = read_query(pairs, TaskListQuery)
    page = await gateway.reader.tasks(caller_in(request), query, metadata_filters(pairs))
    summaries = [summary_of(row) for row in page.rows]
    body = TaskList(summaries, page.total_count, page.total_is_exact, page.next_cursor)
    return json_answer(body, headers=gateway.lag.header())


@get(
    f"{TASKS}/{{task_id:str}}",
    opt=documented(
        Doc(
            summary="A task, now or as of an earlier moment",
            tag="Tasks",
            query=AsOfQuery,
            answers={200: Answered("The task", TaskStatus)},
            errors=(400, 404, 410),
        )
    ),
)
async def get_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), AsOfQuery)
    caller = caller_in(request)
    row = await gateway.reader.task(caller, checked_id(task_id), query.as_of)
    row = await with_goal(gateway.reader, caller, row, query.as_of)
    headers = [("X-Workflow-ID", row.task_id), ("X-Taskloom-Version", str(row.version)), *gateway.lag.header()]
    return json_answer(status_of(row), headers=headers)


@get(
    f"{TASKS}/{{task_id:str}}/control-state",
    opt=documented(
        Doc(
            summary="Whether a task is paused or cancelled, since when, why and by whom",
            tag="Control",
            answers={200: Answered("The control state", ControlState)},
            errors=(400, 404),
        )
    ),
)
async def get_control_state(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    row = await gateway.reader.row(caller_in(request), checked_id(task_id))
    headers = [("X-Taskloom-Version", str(row.version)), *gateway.lag.header()]
    return json_answer(control_state_of(row), headers=headers)


def _control_doc(summary: str, body: type[CancelTask | PauseTask | ResumeTask]) -> Doc:
    return Doc(
        summary=summary,
        tag="Control",
        body=body,
        body_required=False,
        examples={"with a reason": {"reason": "no longer needed"}},
        headers={"Idempotency-Key": "A repeat under the same key changes nothing and is answered like the first"},
        answers={202: Answered("Taken by the owner of the task", Controlled)},
        errors=(400, 404, 409, 503),
    )


async def _control(request: AnyRequest, task_id: str, kind: type[CancelTask | PauseTask | ResumeTask]) -> ASGIApp:
    gateway = gateway_of(request)
    command = read_control(await request.body(), kind)
    controlled = await gateway.controller.control(checked_id(task_id), command, origin_of(request, gateway))
    return json_answer(controlled, status=202)


@post(f"{TASKS}/{{task_id:str}}/cancel", opt=documented(_control_doc("Cancel a task", CancelTask)))
async def cancel_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _control(request, task_id, CancelTask)


@post(f"{TASKS}/{{task_id:str}}/pause", opt=documented(_control_doc("Pause a task", PauseTask)))
async def pause_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _control(request, task_id, PauseTask)


@post(f"{TASKS}/{{task_id:str}}/resume", opt=documented(_control_doc("Resume a task", ResumeTask)))
async def resume_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _control(request, task_id, ResumeTask)


HANDLERS: Final = [
    submit_task,
    submit_task_to_stream,
    submit_batch,
    list_tasks,
    get_task,
    get_control_state,
    cancel_task,
    pause_task,
    resume_task,
]
