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
            answers={200: Answered("The goal", goals.GoalShown)},
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
