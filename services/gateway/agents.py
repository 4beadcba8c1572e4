"""Agents as Shannon's clients know them: something with an id that takes an input and gives back a task.

Three things are offered so: each kind of work that a ready executor runs, each ready executor itself, and each agent
that the tenant has enrolled, connected or not.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.problems import BadRequest, NotFound
from services.gateway.readside import Views
from taskloom.domain.agents import executor_id_of, is_agent_id
from taskloom.domain.entities.agents import Agent
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.ids import DEFAULT_TENANT
from taskloom.domain.runs import RUN_KINDS
from taskloom.domain.values import Identifier, Resources
from taskloom.kinds.inputs import InvalidInput, read, schema
from taskloom.views.executors.query import Executor
from taskloom.wire.messages import ExecutorHeartbeat, HostMetrics

NOT_AGENTS: Final = frozenset({"query", "webhook"}) | RUN_KINDS
"""Kinds that take no input of their own, have their own routes, or are submitted by the platform alone."""

_BUILT_IN_TEXTS: Final = {
    "echo": "Gives its input back",
    "sleep": "Waits so many seconds",
    "shell": "Runs a command under bash",
    "python": "Calls a registered Python function",
    "http": "Sends one HTTP request",
    "docker": "Runs a container",
}


class Machine(Struct, frozen=True, kw_only=True):
    """What an agent of a machine has beyond the others. ``last_seen_at`` by the gateway's clock; ``null``: never."""

    status: Literal["online", "offline"]
    draining: bool
    enrolled_at: datetime | None
    token_prefix: str
    token_expires_at: datetime | None
    last_seen_at: datetime | None = None
    started_at: datetime | None = None
    executor_id: str = ""
    gateway: str = ""
    host: str = ""
    version: str = ""
    queues: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    resources: Resources = Resources()
    slots: int = 0
    held: int = 0
    metrics: HostMetrics | None = None


class AgentInfo(Struct, frozen=True):
    """``category``: kind, executor or agent. ``tool``: the kind it runs, empty where the input names one.
    ``input_schema``: JSON Schema of ``input``; ``{}`` takes any object. ``machine``: of the category agent."""

    id: str
    name: str
    description: str
    category: str
    tool: str
    input_schema: dict[str, Any]
    cost_per_call: float = 0.0
    machine: Machine | UnsetType = UNSET


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


async def executor_called(views: Views, tenant_id: str, name: str) -> Executor | None:
    """Who a task of the tenant means that names an executor so: the tenant's agent, else one of the installation."""
    own = f"{tenant_id}:{name}" if tenant_id != DEFAULT_TENANT and is_agent_id(name) else name
    found = await views.executor(own, tenant_id)
    return await views.executor(name, tenant_id) if found is None and own != name else found


def agents_of(executors: Sequence[Executor], enrolled: Sequence[Entity] = ()) -> dict[str, AgentInfo]:
    """All agents by id: kinds first, then executors and machines, each by name. One named like a kind is not shown."""
    ready = [each.heartbeat for each in executors if each.status == "ready" and not each.heartbeat.tenant_id]
    kinds: dict[str, dict[str, Any]] = {}
    for beat in ready:
        for kind in beat.kinds:
            if kind not in NOT_AGENTS:
                kinds[kind] = kinds.get(kind) or schema(kind) or beat.schemas.get(kind) or {}
    found = {
        kind: AgentInfo(kind, kind, _BUILT_IN_TEXTS.get(kind, "A kind of work of an executor"), "kind", kind, of_input)
        for kind, of_input in sorted(kinds.items())
    }
    others = [_executor(beat) for beat in ready] + machines(executors, enrolled)
    for agent in sorted(others, key=lambda each: each.id):
        found.setdefault(agent.id, agent)
    return found


def machines(executors: Sequence[Executor], enrolled: Sequence[Entity]) -> list[AgentInfo]:
    """The enrolled agents, with what their executors last said, by id."""
    by_id = {each.executor_id: each for each in executors if each.heartbeat.tenant_id}
    found = []
    for entity in enrolled:
        place, agent = parts_of(entity.entity_id), entity.value
        if isinstance(agent, Agent):
            name = executor_id_of(place.tenant_id, place.name)
            found.append(_machine(place.name, name, agent, by_id.get(name)))
    return sorted(found, key=lambda each: each.id)


def _executor(beat: ExecutorHeartbeat) -> AgentInfo:
    offered = sorted(set(beat.kinds) - NOT_AGENTS)
    text = f"Executor on {beat.host or 'an unknown host'}; runs {', '.join(offered)}"
    return AgentInfo(beat.executor_id, beat.executor_id, text, "executor", "", _executor_schema(offered))


def _machine(agent_id: str, executor_id: str, agent: Agent, executor: Executor | None) -> AgentInfo:
    online = executor is not None and executor.status in ("ready", "draining")
    common: dict[str, Any] = {
        "status": "online" if online else "offline",
        "draining": agent.draining,
        "enrolled_at": agent.enrolled_at,
        "token_prefix": agent.prefix,
        "token_expires_at": agent.expires_at,
        "executor_id": executor_id,
    }
    if executor is None:
        text = agent.description or "Agent that has not connected yet"
        return AgentInfo(agent_id, agent_id, text, "agent", "", _executor_schema([]), machine=Machine(**common))
    beat = executor.heartbeat
    offered = sorted(set(beat.kinds) - NOT_AGENTS)
    machine = Machine(
        **common,
        last_seen_at=beat.at,
        started_at=beat.started_at,
        gateway=beat.gateway,
        host=beat.host,
        version=beat.version,
        queues=beat.queues,
        capabilities=beat.capabilities,
        labels=beat.labels,
        resources=beat.resources,
        slots=beat.slots,
        held=len(beat.live),
        metrics=beat.metrics,
    )
    text = agent.description or f"Agent on {beat.host or 'an unknown host'}; runs {', '.join(offered)}"
    return AgentInfo(agent_id, agent_id, text, "agent", "", _executor_schema(offered), machine=machine)


def agent_of(executors: Sequence[Executor], enrolled: Sequence[Entity], agent_id: str) -> AgentInfo:
    """
    Raises:
        NotFound: no ready executor is, or runs, this, and no agent is enrolled under this id.
    """
    found = agents_of(executors, enrolled).get(agent_id)
    if found is None:
        raise NotFound(
            "Agent not found: no ready executor has this id or runs this kind, and none is enrolled", agent_id=agent_id
        )
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
