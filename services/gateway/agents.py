"""Agents as Shannon's clients know them: something with an id that takes an input and gives back a task.

Two things are offered so: each kind of work that a ready executor runs, and each ready executor itself.
"""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from services.gateway.problems import BadRequest, NotFound
from taskloom.domain.values import Identifier
from taskloom.kinds.inputs import InvalidInput, read, schema
from taskloom.views.executors.query import Executor

NOT_AGENTS: Final = frozenset({"query", "workflow", "webhook"})
"""Kinds that take no input of their own, have their own routes, or are submitted by the platform alone."""

_BUILT_IN_TEXTS: Final = {
    "echo": "Gives its input back",
    "sleep": "Waits so many seconds",
    "shell": "Runs a command under bash",
    "python": "Calls a registered Python function",
    "http": "Sends one HTTP request",
}


class AgentInfo(Struct, frozen=True):
    """``category``: kind or executor. ``tool``: the kind it runs, empty for an executor, whose input names one.
    ``input_schema``: JSON Schema of ``input``; ``{}`` takes any object."""

    id: str
    name: str
    description: str
    category: str
    tool: str
    input_schema: dict[str, Any]
    cost_per_call: float = 0.0


class AgentList(Struct, frozen=True):
    agents: list[AgentInfo]
    total_count: int


class ExecuteAgent(Struct, frozen=True, forbid_unknown_fields=True):
    """``stream``: the answer names the address of the task's event stream."""

    input: dict[str, Any] = {}
    stream: bool = False
    session_id: Identifier | None = None


class AgentSubmitted(Struct, frozen=True, omit_defaults=True):
    task_id: str
    workflow_id: str
    agent_id: str
    status: str
    created_at: str
    stream_url: str = ""


class ExecutorInput(Struct, frozen=True, forbid_unknown_fields=True):
    """What an executor's agent takes: a kind that it runs, and that kind's input."""

    kind: Annotated[str, Meta(min_length=1)]
    input: dict[str, Any] = {}


def agents_of(executors: list[Executor]) -> dict[str, AgentInfo]:
    """All agents by id: kinds first, then executors, each by name. An executor named like a kind is not shown."""
    ready = [executor.heartbeat for executor in executors if executor.status == "ready"]
    kinds: dict[str, dict[str, Any]] = {}
    for beat in ready:
        for kind in beat.kinds:
            if kind not in NOT_AGENTS:
                kinds[kind] = kinds.get(kind) or schema(kind) or beat.schemas.get(kind) or {}
    found = {
        kind: AgentInfo(kind, kind, _BUILT_IN_TEXTS.get(kind, "A kind of work of an executor"), "kind", kind, of_input)
        for kind, of_input in sorted(kinds.items())
    }
    for beat in sorted(ready, key=lambda each: each.executor_id):
        if beat.executor_id not in found:
            offered = sorted(set(beat.kinds) - NOT_AGENTS)
            text = f"Executor on {beat.host or 'an unknown host'}; runs {', '.join(offered)}"
            found[beat.executor_id] = AgentInfo(
                beat.executor_id, beat.executor_id, text, "executor", "", _executor_schema(offered)
            )
    return found


def agent_of(executors: list[Executor], agent_id: str) -> AgentInfo:
    """
    Raises:
        NotFound: no ready executor is, or runs, this.
    """
    found = agents_of(executors).get(agent_id)
    if found is None:
        raise NotFound("Agent not found: no ready executor has this id or runs this kind", agent_id=agent_id)
    return found


def submission_for(agent: AgentInfo, wish: ExecuteAgent) -> dict[str, Any]:
    """The fields of the submission that an execution stands for.

    Raises:
        BadRequest: an executor's input is not one.
    """
    session = {} if wish.session_id is None else {"session_id": wish.session_id}
    if agent.category == "kind":
        return {"kind": agent.tool, "input": wish.input, **session}
    try:
        asked = read(ExecutorInput, wish.input)
    except InvalidInput as invalid:
        raise BadRequest(invalid.message, field=invalid.field) from invalid
    return {"kind": asked.kind, "input": asked.input, "executor_id": agent.id, **session}


def _executor_schema(kinds: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"kind": {"enum": kinds}, "input": {"type": "object"}},
        "required": ["kind"],
        "additionalProperties": False,
    }
