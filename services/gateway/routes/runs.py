"""Runs of workflows under their own paths: thin aliases of what can be asked of a run as a task."""

from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import msgspec
from litestar import get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of
from services.gateway.control import ControlCommand, Controlled, read_control
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import NotFound, decoded
from services.gateway.runs import RunStatus, run_status
from taskloom.domain.task.commands import (
    CancelTask,
    Command,
    PatchVariables,
    PauseTask,
    ResumeTask,
    RetryTask,
    SignalTask,
)
from taskloom.views.task_executions.row import Row

RUN: Final = "/api/v1/workflows/{run_id:str}"
T = TypeVar("T")


class Variables(Struct, frozen=True):
    """By name."""

    task_id: str
    variables: dict[str, Any]


def _doc(summary: str, body: type[Command], example: dict[str, Any], *, required: bool = False) -> Doc:
    return Doc(
        summary=summary,
        tag="Runs",
        details="`run_id` is the run's task id, which execute has answered. The same as under /api/v1/tasks.",
        body=body,
        body_required=required,
        examples={"one": example},
        headers={"Idempotency-Key": "A repeat under the same key changes nothing and is answered like the first"},
        answers={202: Answered("Taken by the owner of the run", Controlled)},
        errors=(400, 404, 409, 503),
    )


async def _of_run(request: AnyRequest, run_id: str, wish: Awaitable[T]) -> T:
    """What the wish gives. For a stored workflow's id the 404 says what its runs are called by."""
    try:
        return await wish
    except NotFound:
        if not await gateway_of(request).definitions.exists(caller_in(request), run_id):
            raise
        raise NotFound(
            f"{run_id!r} is a stored workflow, no run: use the task_id that its execute answered; "
            f"GET /api/v1/workflows/{run_id}/runs lists its runs",
            task_id=run_id,
        ) from None


async def _send(request: AnyRequest, run_id: str, command: ControlCommand) -> ASGIApp:
    gateway = gateway_of(request)
    wish = gateway.controller.control(_id(run_id), command, origin_of(request, gateway))
    return json_answer(await _of_run(request, run_id, wish), status=202)


def _id(run_id: str) -> str:
    return checked_id(run_id, "task_id")


@post(f"{RUN}/pause", opt=documented(_doc("Pause a run", PauseTask, {"reason": "wait for Monday"})))
async def pause_run(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return await _send(request, run_id, read_control(await request.body(), PauseTask))


@post(f"{RUN}/resume", opt=documented(_doc("Let a paused run go on", ResumeTask, {"reason": "it is Monday"})))
async def resume_run(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return await _send(request, run_id, read_control(await request.body(), ResumeTask))


@post(f"{RUN}/cancel", opt=documented(_doc("Cancel a run and its steps", CancelTask, {"reason": "no longer needed"})))
async def cancel_run(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return await _send(request, run_id, read_control(await request.body(), CancelTask))


@post(
    f"{RUN}/retry", opt=documented(_doc("Let a run that ended badly go on", RetryTask, {"reason": "the disk has room"}))
)
async def retry_run(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return await _send(request, run_id, read_control(await request.body(), RetryTask))


@post(
    f"{RUN}/signal",
    opt=documented(_doc("Send a signal to a run", SignalTask, {"name": "go", "payload": {"build": 7}}, required=True)),
)
async def signal_run(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return await _send(request, run_id, decoded(msgspec.json.Decoder(SignalTask).decode, await request.body()))


@patch(
    f"{RUN}/variables",
    opt=documented(_doc("Set variables of a run", PatchVariables, {"values": {"region": "eu"}}, required=True)),
)
async def patch_run_variables(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return await _send(request, run_id, decoded(msgspec.json.Decoder(PatchVariables).decode, await request.body()))


@get(
    f"{RUN}/variables",
    opt=documented(
        Doc(
            summary="The variables of a run as they are now",
            tag="Runs",
            answers={200: Answered("All of them", Variables)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_run_variables(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    row = await _row(request, run_id)
    return json_answer(Variables(run_id, await gateway_of(request).reader.views.variables(row)))


@get(
    f"{RUN}/status",
    opt=documented(
        Doc(
            summary="How far a run is, in one small answer",
            tag="Runs",
            details="Steps are counted at the top level. `GET /api/v1/tasks/{task_id}/workflow` has each of them.",
            answers={200: Answered("The run's status", RunStatus)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_run_status(request: AnyRequest, run_id: FromPath[str]) -> ASGIApp:
    return json_answer(run_status(await _row(request, run_id)))


async def _row(request: AnyRequest, run_id: str) -> Row:
    return await _of_run(request, run_id, gateway_of(request).reader.run_row(caller_in(request), _id(run_id)))


HANDLERS: Final = [
    pause_run,
    resume_run,
    cancel_run,
    retry_run,
    signal_run,
    patch_run_variables,
    get_run_variables,
    get_run_status,
]
