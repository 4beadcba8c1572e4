"""Agents in Shannon's shapes: what can be executed by one call, and the call."""

from typing import Final

import msgspec
from litestar import get, post
from litestar.params import FromPath
from litestar.types import ASGIApp

from services.gateway.agents import (
    AgentInfo,
    AgentList,
    AgentSubmitted,
    ExecuteAgent,
    agent_of,
    agents_of,
    submission_for,
)
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, checked_id, gateway_of, origin_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.routes.tasks import stream_url
from services.gateway.submit import ACCEPTED

AGENTS: Final = "/api/v1/agents"
TAG: Final = "Agents"
_AGENT: Final = {
    "id": "echo",
    "name": "echo",
    "description": "Gives its input back",
    "category": "kind",
    "tool": "echo",
    "input_schema": {"type": "object"},
    "cost_per_call": 0.0,
}
_SUBMITTED: Final = {
    "task_id": "task-019e5f0a",
    "workflow_id": "task-019e5f0a",
    "agent_id": "echo",
    "status": ACCEPTED,
    "created_at": "2026-11-21T12:00:00Z",
    "stream_url": stream_url("task-019e5f0a"),
}


@get(
    AGENTS,
    opt=documented(
        Doc(
            summary="What can be executed by one call",
            tag=TAG,
            details="Each kind of work that a ready executor runs, then each ready executor itself.",
            answers={200: Answered("Agents", AgentList, {"agents": [_AGENT], "total_count": 1})},
        )
    ),
)
async def list_agents(request: AnyRequest) -> ASGIApp:
    gateway = gateway_of(request)
    found = [*agents_of(await gateway.reader.views.executors()).values()]
    return json_answer(AgentList(found, len(found)), headers=gateway.lag.header())


@get(
    f"{AGENTS}/{{agent_id:str}}",
    opt=documented(
        Doc(summary="An agent", tag=TAG, answers={200: Answered("It", AgentInfo, _AGENT)}, errors=(400, 404))
    ),
)
async def get_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway, name = gateway_of(request), checked_id(agent_id, "agent_id")
    return json_answer(agent_of(await gateway.reader.views.executors(), name), headers=gateway.lag.header())


@post(
    f"{AGENTS}/{{agent_id:str}}",
    opt=documented(
        Doc(
            summary="Execute an agent: submits a task",
            tag=TAG,
            details="For a kind, input is the input of the task; for an executor it is "
            '{"kind": …, "input": …}, and the task is placed on that executor.',
            body=ExecuteAgent,
            examples={"a kind": {"input": {"message": "hello"}}, "an executor": {"input": {"kind": "echo"}}},
            headers={"Idempotency-Key": "The same key gives the same task"},
            answers={202: Answered("Submitted; X-Workflow-ID and X-Session-ID as headers", AgentSubmitted, _SUBMITTED)},
            errors=(400, 404, 409, 413, 429, 503),
        )
    ),
)
async def execute_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway, name = gateway_of(request), checked_id(agent_id, "agent_id")
    gateway.limits.admit_submission()
    wish = decoded(msgspec.json.Decoder(ExecuteAgent).decode, await request.body() or b"{}")
    agent = agent_of(await gateway.reader.views.executors(), name)
    accepted = await gateway.submitter.submit(
        msgspec.json.encode(submission_for(agent, wish)), origin_of(request, gateway)
    )
    body = AgentSubmitted(
        task_id=accepted.task_id,
        workflow_id=accepted.task_id,
        agent_id=name,
        status=ACCEPTED,
        created_at=accepted.created_at.isoformat(),
        stream_url=stream_url(accepted.task_id) if wish.stream else "",
    )
    headers = [("X-Workflow-ID", accepted.task_id), ("X-Session-ID", accepted.session_id)]
    return json_answer(body, status=202, headers=headers)


HANDLERS: Final = [list_agents, get_agent, execute_agent]
