"""Tasks changed after their submission: retry, update, delete; and one wish for many tasks."""

from typing import Final

from litestar import delete, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.answers import json_answer
from services.gateway.bulk import BulkResult, BulkWish, Verb
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of
from services.gateway.control import ControlCommand, Controlled, read_control
from services.gateway.docs import Answered, Doc, documented
from services.gateway.updates import check_update
from taskloom.domain.task.commands import Command, DeleteTask, RetryTask, UpdateTask

TASKS: Final = "/api/v1/tasks"
TASK: Final = f"{TASKS}/{{task_id:str}}"
_KEY: Final = {"Idempotency-Key": "A repeat under the same key changes nothing and is answered like the first"}


def _doc(summary: str, details: str, body: type[Command], example: dict[str, object], *, required: bool) -> Doc:
    return Doc(
        summary=summary,
        tag="Control",
        details=details,
        body=body,
        body_required=required,
        examples={"one": example},
        headers=_KEY,
        answers={202: Answered("Taken by the owner of the task", Controlled)},
        errors=(400, 404, 409, 503),
    )


_RETRY: Final = _doc(
    "Let a task that failed, timed out or was cancelled begin anew",
    "Its failures are counted anew, its attempts numbered on. Steps and runs of workflows are refused.",
    RetryTask,
    {"reason": "the disk has room again"},
    required=False,
)
_UPDATE: Final = _doc(
    "Change a task",
    "What is not named stays. metadata is merged, null removes a key; assigned_to null lets any executor run it. An "
    "ended task takes name, description, tags and metadata only; one that runs keeps its executor and queue.",
    UpdateTask,
    {"priority": "high", "assigned_to": "executor-2", "metadata": {"ticket": "A-7", "old": None}},
    required=True,
)
_DELETE: Final = _doc(
    "Delete a task",
    "An open one is cancelled first and deleted once its attempt has stopped. Its events, timeline and stream stay.",
    DeleteTask,
    {"reason": "made by mistake"},
    required=False,
)


async def _send(request: AnyRequest, task_id: str, command: ControlCommand) -> ASGIApp:
    gateway = gateway_of(request)
    controlled = await gateway.controller.control(checked_id(task_id), command, origin_of(request, gateway))
    return json_answer(controlled, status=202)


@post(f"{TASK}/retry", opt=documented(_RETRY))
async def retry_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _send(request, task_id, read_control(await request.body(), RetryTask))


@patch(TASK, opt=documented(_UPDATE))
async def update_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    command = read_control(await request.body(), UpdateTask)
    await check_update(command, gateway_of(request).known, caller_in(request).tenant_id)
    return await _send(request, task_id, command)


@delete(TASK, status_code=202, opt=documented(_DELETE))
async def delete_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _send(request, task_id, read_control(await request.body(), DeleteTask))


def _bulk_doc(verb: Verb) -> Doc:
    return Doc(
        summary=f"{verb.capitalize()} all tasks of a filter",
        tag="Control",
        details=(
            "At most 1,000 at a time, newest first; next_cursor goes on. Each task's owner decides; what it said no to "
            "is in refused. A filter that names nothing needs all: true."
        ),
        body=BulkWish,
        examples={
            "by filter": {
                "filter": {"status": "FAILED", "metadata": {"team": "blue"}},
                "reason": "fixed",
                "dry_run": True,
            },
            "by id": {"filter": {"task_ids": ["task-1", "task-2"]}},
        },
        headers=_KEY,
        answers={200: Answered("What became of it", BulkResult)},
        errors=(400, 503),
    )


async def _bulk(request: AnyRequest, verb: Verb) -> ASGIApp:
    gateway = gateway_of(request)
    return json_answer(await gateway.bulk.run(verb, await request.body(), origin_of(request, gateway)))


@post(f"{TASKS}/batch/cancel", opt=documented(_bulk_doc("cancel")))
async def cancel_tasks(request: AnyRequest) -> ASGIApp:
    return await _bulk(request, "cancel")


@post(f"{TASKS}/batch/pause", opt=documented(_bulk_doc("pause")))
async def pause_tasks(request: AnyRequest) -> ASGIApp:
    return await _bulk(request, "pause")


@post(f"{TASKS}/batch/resume", opt=documented(_bulk_doc("resume")))
async def resume_tasks(request: AnyRequest) -> ASGIApp:
    return await _bulk(request, "resume")


@post(f"{TASKS}/batch/retry", opt=documented(_bulk_doc("retry")))
async def retry_tasks(request: AnyRequest) -> ASGIApp:
    return await _bulk(request, "retry")


@post(f"{TASKS}/batch/delete", opt=documented(_bulk_doc("delete")))
async def delete_tasks(request: AnyRequest) -> ASGIApp:
    return await _bulk(request, "delete")


@post(f"{TASKS}/batch/update", opt=documented(_bulk_doc("update")))
async def update_tasks(request: AnyRequest) -> ASGIApp:
    return await _bulk(request, "update")


HANDLERS: Final = [
    retry_task,
    update_task,
    delete_task,
    cancel_tasks,
    pause_tasks,
    resume_tasks,
    retry_tasks,
    delete_tasks,
    update_tasks,
]
