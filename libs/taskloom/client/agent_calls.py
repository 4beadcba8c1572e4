"""Calls about agents, and their answers."""

from datetime import datetime
from typing import Any
from urllib.parse import quote

from msgspec import Struct, field

from taskloom.client.calls import Call

AGENTS = "/api/v1/agents"


class HostMetrics(Struct, frozen=True):
    """Of the agent's machine. ``cpu_percent`` of all cores; network since it booted."""

    cpu_percent: float = 0.0
    cpu_count: int = 0
    load_1m: float = 0.0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    disk_used_bytes: int = 0
    disk_total_bytes: int = 0
    network_sent_bytes: int = 0
    network_received_bytes: int = 0


class Machine(Struct, frozen=True, kw_only=True):
    """``status``: online or offline."""

    status: str
    draining: bool = False
    last_seen_at: datetime | None = None
    started_at: datetime | None = None
    executor_id: str = ""
    gateway: str = ""
    host: str = ""
    version: str = ""
    queues: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    slots: int = 0
    held: int = 0
    metrics: HostMetrics | None = None


class Agent(Struct, frozen=True):
    id: str
    description: str
    category: str
    input_schema: dict[str, Any] = field(default_factory=dict)
    machine: Machine | None = None


class Agents(Struct, frozen=True):
    agents: list[Agent]


class Enrolled(Struct, frozen=True):
    agent_id: str
    executor_id: str
    token: str
    token_prefix: str
    expires_at: datetime | None = None


class AgentChanged(Struct, frozen=True):
    agent_id: str
    draining: bool
    message: str


def machines() -> Call[Agents]:
    """The agents that are enrolled, by id."""
    return Call(Agents, AGENTS, params={"category": "agent"})


def get(agent_id: str) -> Call[Agent]:
    return Call(Agent, _of(agent_id))


def enroll(agent_id: str, description: str = "", expires_at: datetime | None = None) -> Call[Enrolled]:
    body = {"description": description, **({} if expires_at is None else {"expires_at": expires_at})}
    return Call(Enrolled, _of(agent_id, "token"), "POST", body=body)


def revoke(agent_id: str, reason: str = "") -> Call[AgentChanged]:
    return Call(AgentChanged, _of(agent_id, "token"), "DELETE", params={"reason": reason})


def drain(agent_id: str, reason: str = "", *, undo: bool = False) -> Call[AgentChanged]:
    return Call(AgentChanged, _of(agent_id, "undrain" if undo else "drain"), "POST", body={"reason": reason})


def _of(agent_id: str, part: str = "") -> str:
    return f"{AGENTS}/{quote(agent_id, safe='')}" + (f"/{part}" if part else "")
