"""Workflows: signals, decisions on approvals, variables, and how far a run is."""

from typing import Any, Final

import msgspec
from litestar import get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of
from services.gateway.control import ControlCommand, Controlled
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.workflows import RunSeen, run_seen
from taskloom.domain.task.commands import DecideApproval, PatchVariables, Reason, SignalTask

TASK: Final = "/api/v1/tasks/{task_id:str}"


class Decision(Struct, frozen=True, forbid_unknown_fields=True):
    """Who decides is the caller."""

    approved: bool
    comment: Reason = ""


def _doc(summary: str, body: type[Struct], example: dict[str, Any], details: str) -> Doc:
    return Doc(
        summary=summary,
        tag="Workflows",
        details=details,
        body=body,
        examples={"one": example},
        headers={"Idempotency-Key": "A repeat under the same key changes nothing and is answered like the first"},
        answers={202: Answered("Taken by the owner of the task", Controlled)},
        errors=(400, 404, 409, 503),
    )


_SIGNAL: Final = _doc(
    "Send a signal to a workflow",
    SignalTask,
    {"name": "released", "payload": {"build": 7}},
    "It is kept until a step takes it.",
)
_DECIDE: Final = _doc(
    "Decide on an approval",
    Decision,
    {"approved": True, "comment": "looks good"},
    "`step` is the path of the step, or its id where only one of that id waits.",
)
_PATCH: Final = _doc(
    "Set variables of a workflow", PatchVariables, {"values": {"region": "eu"}}, "Those that are not named stay."
)


async def _send(request: AnyRequest, task_id: str, command: ControlCommand) -> ASGIApp:
    gateway = gateway_of(request)
    controlled = await gateway.controller.control(checked_id(task_id), command, origin_of(request, gateway))
    return json_answer(controlled, status=202)


@post(f"{TASK}/signal", opt=documented(_SIGNAL))
async def signal_task(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _send(request, task_id, decoded(msgspec.json.Decoder(SignalTask).decode, await request.body()))


@post(f"{TASK}/approvals/{{step:str}}", opt=documented(_DECIDE))
async def decide_approval(request: AnyRequest, task_id: FromPath[str], step: FromPath[str]) -> ASGIApp:
    made = decoded(msgspec.json.Decoder(Decision).decode, await request.body())
    return await _send(request, task_id, DecideApproval(step, made.approved, made.comment))


@patch(f"{TASK}/variables", opt=documented(_PATCH))
async def patch_variables(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _send(request, task_id, decoded(msgspec.json.Decoder(PatchVariables).decode, await request.body()))


@get(
    f"{TASK}/workflow",
    opt=documented(
        Doc(
            summary="How far a workflow is",
            tag="Workflows",
            answers={200: Answered("The run, its steps and its variables", RunSeen)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_workflow(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    history = await gateway_of(request).reader.history(caller_in(request), checked_id(task_id), None)
    return json_answer(run_seen(history))


HANDLERS: Final = [signal_task, decide_approval, patch_variables, get_workflow]
