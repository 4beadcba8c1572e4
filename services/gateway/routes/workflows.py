"""Workflows: signals, decisions on approvals, variables, and how far a run is."""

from typing import Any, Final

import msgspec
from litestar import get, patch, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Struct

from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.control import ControlCommand, Controlled
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import CheckpointQuery, StepsQuery, WorkflowQuery, read_query
from services.gateway.workflows import Checkpoints, RunSeen, StepsSeen, checkpoints_in, run_seen, steps_seen
from taskloom.domain.task.commands import DecideApproval, PatchVariables, Reason, SignalTask

TASK: Final = "/api/v1/tasks/{task_id:str}"


class StepDecision(Struct, frozen=True, forbid_unknown_fields=True):
    """Who decides is the caller."""

    approved: bool
    comment: Reason = ""
    modified_action: Any = None


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
    StepDecision,
    {"approved": True, "comment": "looks good"},
    "`step` is the approval's id; of a step also its path, or its id where only one of that id waits; of a task's own "
    "also `approval`.",
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
    gateway = gateway_of(request)
    made = decoded(msgspec.json.Decoder(StepDecision).decode, await request.body())
    command = DecideApproval(step, made.approved, made.comment, made.modified_action)
    done = await gateway.approvals.send(checked_id(task_id), command, origin_of(request, gateway))
    return json_answer(done, status=202)


@patch(f"{TASK}/variables", opt=documented(_PATCH))
async def patch_variables(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    return await _send(request, task_id, decoded(msgspec.json.Decoder(PatchVariables).decode, await request.body()))


@get(
    f"{TASK}/workflow",
    opt=documented(
        Doc(
            summary="How far a workflow is",
            tag="Workflows",
            query=WorkflowQuery,
            answers={200: Answered("The run, its steps and its variables", RunSeen)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_workflow(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    query, reader = read_query(pairs_of(request), WorkflowQuery), gateway_of(request).reader
    row = await reader.run_row(caller_in(request), checked_id(task_id))
    page = await reader.views.steps(row, after=query.after, limit=query.limit)
    return json_answer(run_seen(row, page, await reader.views.variables(row)))


@get(
    f"{TASK}/steps",
    opt=documented(
        Doc(
            summary="The steps of a workflow, page by page",
            tag="Workflows",
            details="Those that have begun, in the order of their paths, items of maps and rounds of loops too. "
            "`after` goes on behind a path. Steps of a child workflow are those of its own task.",
            query=StepsQuery,
            answers={200: Answered("A page of steps with times, attempts and results", StepsSeen)},
            errors=(400, 404, 409),
        )
    ),
)
async def list_steps(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    query, reader = read_query(pairs_of(request), StepsQuery), gateway_of(request).reader
    row = await reader.run_row(caller_in(request), checked_id(task_id))
    page = await reader.views.steps(row, after=query.after, limit=query.limit, results=True)
    return json_answer(steps_seen(row, page))


_CHECKPOINT: Final = {
    "status": "running",
    "steps": {
        "hello": {"status": "completed", "result": {"text": "hello you"}, "error_message": None},
        "ok": {"status": "waiting", "result": None, "error_message": None},
    },
    "variables": {"who": "you"},
    "context": {},
}


@get(
    f"{TASK}/workflow/checkpoints",
    opt=documented(
        Doc(
            summary="Checkpoints that a workflow saved",
            tag="Workflows",
            answers={200: Answered("The last 1,000, oldest first", Checkpoints)},
            errors=(400, 404, 409),
        )
    ),
)
async def list_checkpoints(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    reader, caller = gateway_of(request).reader, caller_in(request)
    history = await reader.history(caller, checked_id(task_id), None)
    return json_answer(checkpoints_in(history))


@get(
    f"{TASK}/workflow/checkpoint",
    opt=documented(
        Doc(
            summary="What a new run can start from",
            tag="Workflows",
            details="Send it as `input.checkpoint` of a new workflow: top-level steps that had completed are not run "
            "again. Variables and context come with it; large results stand in it in full.",
            query=CheckpointQuery,
            answers={200: Answered("Steps, variables and context", dict[str, Any], _CHECKPOINT)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_checkpoint(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    query = read_query(pairs_of(request), CheckpointQuery)
    saved = await gateway_of(request).reader.checkpoint(caller_in(request), checked_id(task_id), query.version)
    return json_answer(saved)


HANDLERS: Final = [
    *(signal_task, decide_approval, patch_variables),
    *(get_workflow, list_steps, list_checkpoints, get_checkpoint),
]
