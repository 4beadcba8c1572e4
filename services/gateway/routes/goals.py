"""Goals natively, and jobs of queues."""

from typing import Final

from litestar import get
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway import goals
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.queries import read_query

_STEP: Final = {
    "task_id": "0b6c1d1e-5c2f-4a53-9f0a-6f4f4d5e7a11",
    "plan": 1,
    "number": 0,
    "step_id": "step-1",
    "type": "tool-call",
    "description": "Find the errors in app.log",
    "status": "completed",
    "server": "logs",
    "tool": "errors",
    "args": {"path": "app.log"},
    "estimated_ms": 30000,
    "started_at": "2026-11-21T18:00:01Z",
    "ended_at": "2026-11-21T18:00:03.25Z",
    "ended": 12,
    "text": "5 errors",
    "calls": [{"id": "1", "server": "logs", "tool": "errors", "result": {"errors": 5}, "duration_ms": 40}],
    "usage": {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0},
    "model": "",
    "error": "",
}
_GOAL: Final = {
    "task_id": "0b6c1d1e-5c2f-4a53-9f0a-6f4f4d5e7a11",
    "state": "completed",
    "goal": "Find the errors in app.log",
    "asked": {"tools": {"logs": {"tools": ["errors"]}}},
    "plan": 1,
    "plans": [
        {
            "version": 1,
            "at": "2026-11-21T18:00:00.5Z",
            "by": "rules",
            "reason": "",
            "model": "taskloom-offline",
            "steps": [_STEP],
        }
    ],
    "progress": 100,
    "current_step": 1,
    "total_steps": 1,
    "estimated_completion_at": None,
    "context": {
        "summary": "",
        "findings": {"Find the errors in app.log": "5 errors"},
        "toolResults": [{"toolName": "logs.errors", "result": {"errors": 5}}],
        "messageHistory": [],
    },
    "usage": {"input_tokens": 120, "output_tokens": 60, "cost_usd": 0.0, "model_calls": 1, "tool_calls": 1},
    "model_used": "taskloom-offline",
    "checkpoints": [],
    "achieved": True,
    "last_error": "",
    "created_at": "2026-11-21T18:00:00Z",
    "updated_at": "2026-11-21T18:00:03.3Z",
    "ended_at": "2026-11-21T18:00:03.3Z",
    "traces": [
        {
            "task_id": "0b6c1d1e-5c2f-4a53-9f0a-6f4f4d5e7a11",
            "number": 12000,
            "type": "tool-call",
            "message": "Called tool: logs.errors",
            "at": "2026-11-21T18:00:03.25Z",
            "plan": 1,
            "step": 0,
            "metadata": {"toolName": "logs.errors", "status": "success"},
        }
    ],
}
_JOB: Final = {
    "id": "0b6c1d1e-5c2f-4a53-9f0a-6f4f4d5e7a11-step-0",
    "task_id": "0b6c1d1e-5c2f-4a53-9f0a-6f4f4d5e7a11",
    "state": "completed",
    "progress": 100,
    "result": {"text": "5 errors", "toolCalls": []},
    "failed_reason": None,
}


@get(
    "/api/v1/tasks/{task_id:str}/goal",
    opt=documented(
        Doc(
            summary="A goal: its plans with their steps, context, usage and newest traces",
            tag="Tasks",
            details="All versions of the plan, the first one first. context is what its models are told: what was "
            "summed up stands in summary alone.",
            query=goals.GoalQuery,
            answers={200: Answered("The goal", goals.GoalShown, _GOAL)},
            errors=(400, 404, 409),
        )
    ),
)
async def get_goal(request: AnyRequest, task_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    query = read_query(pairs_of(request), goals.GoalQuery)
    found = await goals.goal_shown(gateway.reader, caller_in(request), checked_id(task_id), query)
    return json_answer(found, headers=gateway.lag.header())


@get(
    "/api/v1/queue/jobs/{job_id:str}",
    opt=documented(
        Doc(
            summary="A task, or a step of a goal, as a job of a queue",
            tag="Queues",
            details="job_id is a task's id, or that of a goal with -step-N or -continue-N: step N, from 0, of the plan "
            "that holds.",
            answers={200: Answered("The job", goals.Job, _JOB)},
            errors=(400, 404),
        )
    ),
)
async def get_job(request: AnyRequest, job_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    found = await goals.job(gateway.reader, caller_in(request), job_id)
    return json_answer(found, headers=gateway.lag.header())


HANDLERS: Final = [get_goal, get_job]
