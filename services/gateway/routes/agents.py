"""Agents in Shannon's shapes: what can be executed by one call, and the call."""

from typing import Annotated, Final, Literal

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from services.gateway.agent_desk import AgentChanged, AgentEnrolledOnce, AgentReason, NewAgent
from services.gateway.agents import (
    AgentInfo,
    AgentList,
    AgentSubmitted,
    ExecuteAgent,
    submission_for,
)
from services.gateway.answers import json_answer
from services.gateway.context import AnyRequest, caller_in, checked_id, gateway_of, origin_of, pairs_of
from services.gateway.docs import Answered, Doc, documented
from services.gateway.problems import decoded
from services.gateway.queries import read_query
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
_FRAMES: Final = 'event: agent\ndata: {"id":"agent1","category":"agent","machine":{"status":"online"}}\n\n'
_SUBMITTED: Final = {
    "task_id": "task-019e5f0a",
    "workflow_id": "task-019e5f0a",
    "agent_id": "echo",
    "status": ACCEPTED,
    "created_at": "2026-11-21T12:00:00Z",
    "stream_url": stream_url("task-019e5f0a"),
}


class AgentsQuery(Struct, frozen=True):
    category: Literal["", "kind", "executor", "agent"] = ""


class WatchQuery(Struct, frozen=True):
    metrics: Annotated[bool, Meta(description="Send an agent with each of its signs of life too")] = False


class RevokeQuery(Struct, frozen=True):
    reason: Annotated[str, Meta(max_length=4096, description="Kept in its history")] = ""


@get(
    AGENTS,
    opt=documented(
        Doc(
            summary="What can be executed by one call",
            tag=TAG,
            details="Each kind of work that a ready executor runs, then each ready executor itself and each agent that "
            "the tenant has enrolled; these have a part machine that says whether they are online, and how they are.",
            query=AgentsQuery,
            answers={200: Answered("Agents", AgentList, {"agents": [_AGENT], "total_count": 1})},
        )
    ),
)
async def list_agents(request: AnyRequest) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), AgentsQuery)
    every = (await gateway.agents.all(caller_in(request))).values()
    found = [each for each in every if query.category in ("", each.category)]
    return json_answer(AgentList(found, len(found)), headers=gateway.lag.header())


@get(
    f"{AGENTS}/events",
    opt=documented(
        Doc(
            summary="Agents as they come, go and change",
            tag=TAG,
            details="First a frame for each enrolled agent, then one for each that changes: online, offline, drained, "
            "enrolled anew, announced otherwise; agent.gone for one that was turned away. Looked up once a second. "
            "Without ids: who comes back gets all of them again.",
            query=WatchQuery,
            answers={200: Answered("Frames", example=_FRAMES, media_type="text/event-stream")},
            errors=(503,),
        )
    ),
)
async def watch_agents(request: AnyRequest) -> ASGIApp:
    gateway, query, caller = gateway_of(request), read_query(pairs_of(request), WatchQuery), caller_in(request)
    return gateway.streams.sse(lambda _: gateway.agents.watch.frames(caller, metrics=query.metrics))


@get(
    f"{AGENTS}/{{agent_id:str}}",
    opt=documented(
        Doc(summary="An agent", tag=TAG, answers={200: Answered("It", AgentInfo, _AGENT)}, errors=(400, 404))
    ),
)
async def get_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway, name = gateway_of(request), checked_id(agent_id, "agent_id")
    return json_answer(await gateway.agents.get(caller_in(request), name), headers=gateway.lag.header())


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
    agent = await gateway.agents.get(caller_in(request), name)
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


@post(
    f"{AGENTS}/{{agent_id:str}}/token",
    opt=documented(
        Doc(
            summary="Enrol an agent, or give it a new token",
            tag=TAG,
            details="The answer is the only place where the token is ever shown; one that it had before stops working. "
            "`taskloom agent --id AGENT --token TOKEN` connects with it. The agent runs tasks of this tenant alone.",
            body=NewAgent,
            examples={"for a build machine": {"description": "the build machine under the desk"}},
            answers={201: Answered("Enrolled", AgentEnrolledOnce)},
            errors=(400, 409, 503),
        )
    ),
)
async def enroll_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway = gateway_of(request)
    wish = decoded(msgspec.json.Decoder(NewAgent).decode, await request.body() or b"{}")
    made = await gateway.agents.enroll(checked_id(agent_id, "agent_id"), wish, origin_of(request, gateway))
    return json_answer(made, status=201, headers=[("Cache-Control", "no-store")])


@delete(
    f"{AGENTS}/{{agent_id:str}}/token",
    status_code=200,
    opt=documented(
        Doc(
            summary="Turn an agent away",
            tag=TAG,
            details="Its token stops working and its link is cut, within TASKLOOM_KEY_CACHE_S where another gateway "
            "holds it. It stops what it runs; those attempts end as lost. It can be enrolled again.",
            query=RevokeQuery,
            answers={200: Answered("Done", AgentChanged)},
            errors=(400, 404, 503),
        )
    ),
)
async def revoke_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway, query = gateway_of(request), read_query(pairs_of(request), RevokeQuery)
    origin = origin_of(request, gateway)
    return json_answer(await gateway.agents.revoke(checked_id(agent_id, "agent_id"), query.reason, origin))


_REASON: Final = {"with a reason": {"reason": "its disk is to be changed"}}


@post(
    f"{AGENTS}/{{agent_id:str}}/drain",
    status_code=200,
    opt=documented(
        Doc(
            summary="Give an agent no more work",
            tag=TAG,
            details="What it has goes on. It lasts, over restarts of both ends, until undrain.",
            body=AgentReason,
            examples=_REASON,
            answers={200: Answered("Done", AgentChanged)},
            errors=(400, 404, 503),
        )
    ),
)
async def drain_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway, reason = gateway_of(request), await _reason(request)
    origin = origin_of(request, gateway)
    return json_answer(await gateway.agents.drain(checked_id(agent_id, "agent_id"), reason, origin))


@post(
    f"{AGENTS}/{{agent_id:str}}/undrain",
    status_code=200,
    opt=documented(
        Doc(
            summary="Give an agent work again",
            tag=TAG,
            body=AgentReason,
            examples=_REASON,
            answers={200: Answered("Done", AgentChanged)},
            errors=(400, 404, 503),
        )
    ),
)
async def undrain_agent(request: AnyRequest, agent_id: FromPath[str]) -> ASGIApp:
    gateway, reason = gateway_of(request), await _reason(request)
    origin = origin_of(request, gateway)
    return json_answer(await gateway.agents.undrain(checked_id(agent_id, "agent_id"), reason, origin))


async def _reason(request: AnyRequest) -> str:
    return decoded(msgspec.json.Decoder(AgentReason).decode, await request.body() or b"{}").reason


HANDLERS: Final = [
    *(list_agents, watch_agents, get_agent, execute_agent),
    *(enroll_agent, revoke_agent, drain_agent, undrain_agent),
]
