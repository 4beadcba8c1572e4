"""Tool servers of a tenant: MCP servers whose tools its tasks may call."""

import asyncio
import time
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from services.gateway.entities import Entities
from services.gateway.problems import NotFound
from services.gateway.read import Reader
from services.gateway.security import Caller
from services.gateway.submission import Origin
from services.gateway.submit import Submitter
from taskloom.domain.entities.commands import RemoveToolServer, SaveToolServer, ToolServerSpec
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.entities.tool_servers import ToolServer, as_json
from taskloom.domain.scheduling.match import ANY_QUEUE
from taskloom.views.task_executions.row import Row

KIND: Final = "tool-server"
TOOL: Final = "tool"
QUEUE: Final = "default"
LOOK_S: Final = 0.1
WITHIN_S: Final = 45.0
"""How long the answer of a server is waited for; its start is part of that."""


class PutToolServer(ToolServerSpec, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``expected_version``: refused when it is at another by now; 0 says that there is none yet."""

    expected_version: int | None = None


class ToolServerSeen(Struct, frozen=True, kw_only=True):
    """Secrets of ``env`` and ``headers`` are shown as the references that they are."""

    name: str
    transport: str
    command: list[str]
    env: dict[str, Any]
    url: str
    headers: dict[str, Any]
    tools: list[str] | None
    idempotent: list[str]
    timeout_s: float
    enabled: bool
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


class ToolServerList(Struct, frozen=True):
    """By name."""

    tool_servers: list[ToolServerSeen]
    total_count: int
    next_cursor: str | None = None


class ToolSeen(Struct, frozen=True):
    """``schema``: JSON Schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]


class ToolsSeen(Struct, frozen=True, kw_only=True):
    """``latency_ms``: from the question to the answer on the executor, a start of the server included. ``error``: why
    it cannot be told, where ``healthy`` is false. ``task_id``: the task that asked; "" where nobody can."""

    name: str
    healthy: bool
    task_id: str = ""
    latency_ms: int = 0
    tools: list[ToolSeen] = []
    error: str = ""


def seen_of(entity: Entity) -> ToolServerSeen:
    assert isinstance(entity.value, ToolServer)
    return ToolServerSeen(
        name=parts_of(entity.entity_id).name,
        version=entity.version,
        created_at=entity.created_at,
        updated_at=entity.changed_at,
        **as_json(entity.value.spec),
    )


class ToolServers:
    def __init__(self, entities: Entities, submitter: Submitter, reader: Reader) -> None:
        self._entities = entities
        self._submitter = submitter
        self._reader = reader

    async def put(self, name: str, wish: PutToolServer, origin: Origin) -> ToolServerSeen:
        """
        Raises:
            BadRequest, Conflict: refused.
            Unavailable: no answer in time; repeating is safe.
        """
        fields = {each: getattr(wish, each) for each in ToolServerSpec.__struct_fields__}
        command = SaveToolServer(ToolServerSpec(**fields), wish.expected_version)
        await self._entities.change(name, command, origin)
        return await self.get(origin.caller, name)

    async def get(self, caller: Caller, name: str) -> ToolServerSeen:
        """Raises NotFound."""
        entity = await self._entities.find(KIND, caller, name)
        if entity is None:
            raise NotFound("Tool server not found", name=name)
        return seen_of(entity)

    async def page(self, caller: Caller, after: str, limit: int) -> ToolServerList:
        found, total = await self._entities.page(KIND, caller, after=after, limit=limit + 1)
        seen = [seen_of(each) for each in found[:limit]]
        return ToolServerList(seen, total, seen[-1].name if len(found) > limit else None)

    async def remove(self, name: str, origin: Origin) -> None:
        await self._entities.change(name, RemoveToolServer(), origin)

    async def tools(self, name: str, origin: Origin) -> ToolsSeen:
        """What the server says it has, asked by a task on an executor.

        Raises:
            NotFound: there is no such server.
            Unavailable: the task was not taken.
        """
        await self.get(origin.caller, name)
        if not await self._has_callers(origin.caller):
            error = f"no executor is there that runs tasks of kind {TOOL} in the queue {QUEUE}"
            return ToolsSeen(name=name, healthy=False, error=error)
        body = {
            "kind": TOOL,
            "name": f"tools of {name}",
            "input": {"server": name},
            "retry": {"max_attempts": 1},
            "timeouts": {"start_to_close_s": WITHIN_S},
        }
        plain = structs.replace(origin, key="", wait_s=0.0)
        accepted = await self._submitter.submit(msgspec.json.encode(body), plain)
        row = await self._ended(origin.caller, accepted.task_id)
        if row is None:
            error = f"no answer within {WITHIN_S:g} s; look at the task"
            return ToolsSeen(name=name, healthy=False, task_id=accepted.task_id, error=error)
        if row.status != "COMPLETED":
            return ToolsSeen(name=name, healthy=False, task_id=row.task_id, error=row.error or row.state)
        told: dict[str, Any] = row.response
        tools = [ToolSeen(each["name"], each["description"], each["schema"]) for each in told["tools"]]
        return ToolsSeen(name=name, healthy=True, task_id=row.task_id, latency_ms=told["duration_ms"], tools=tools)

    async def _has_callers(self, caller: Caller) -> bool:
        beats = [
            each.heartbeat for each in await self._reader.views.executors(caller.tenant_id) if each.status == "ready"
        ]
        return any(TOOL in beat.kinds and not {QUEUE, ANY_QUEUE}.isdisjoint(beat.queues) for beat in beats)

    async def _ended(self, caller: Caller, task_id: str) -> Row | None:
        give_up = time.monotonic() + WITHIN_S
        while time.monotonic() < give_up:
            row = await self._reader.row(caller, task_id)
            if row.completed_at is not None:
                return await self._reader.with_values(row)
            await asyncio.sleep(LOOK_S)
        return None
