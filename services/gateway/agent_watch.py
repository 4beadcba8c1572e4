"""A stream of what becomes of a tenant's agents: each as it is, then each that changes."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from psycopg import OperationalError

from services.gateway.agents import AgentInfo
from services.gateway.frames import PING
from services.gateway.security import Caller
from taskloom.views.reading import TooSlow

LOOK_EVERY_S: Final = 1.0
"""However many streams a tenant has open, its agents are looked up this often."""

TENANTS: Final = 1_000
"""Tenants whose last look is remembered for their other streams."""

Agents = dict[str, AgentInfo]
_encode: Final = msgspec.json.Encoder().encode


class AgentWatch:
    """``look`` gives all agents of the caller's tenant, by id."""

    def __init__(self, look: Callable[[Caller], Awaitable[Agents]], *, ping_s: float) -> None:
        self._look = look
        self._ping_s = ping_s
        self._seen: OrderedDict[str, tuple[float, Agents]] = OrderedDict()

    async def frames(self, caller: Caller, *, metrics: bool) -> AsyncGenerator[bytes, None]:
        """Server-sent events without ids, since who comes back begins with all agents again.

        ``agent`` has an agent as it is in the list, ``agent.gone`` the id of one that was turned away. ``metrics``: an
        agent's signs of life are news too.
        """
        known: dict[str, Any] = {}
        said_at = 0.0
        while True:
            now = await self._agents(caller)
            for name, agent in (now or {}).items():
                if known.get(name) != (mark := _mark(agent, metrics=metrics)):
                    known[name], said_at = mark, time.monotonic()
                    yield b"event: agent\ndata: " + _ascii(agent) + b"\n\n"
            for name in [] if now is None else [name for name in known if name not in now]:
                del known[name]
                yield b"event: agent.gone\ndata: " + _encode({"id": name}) + b"\n\n"
            if time.monotonic() - said_at >= self._ping_s:
                said_at = time.monotonic()
                yield PING
            await asyncio.sleep(LOOK_EVERY_S)

    async def _agents(self, caller: Caller) -> Agents | None:
        """None while PostgreSQL does not answer."""
        seen, now = self._seen.get(caller.tenant_id), time.monotonic()
        if seen is not None and now - seen[0] < LOOK_EVERY_S / 2:
            return seen[1]
        try:
            every = await self._look(caller)
        except (OperationalError, TooSlow):
            return None
        found = {name: agent for name, agent in every.items() if agent.category == "agent"}
        self._seen[caller.tenant_id] = (now, found)
        self._seen.move_to_end(caller.tenant_id)
        if len(self._seen) > TENANTS:
            self._seen.popitem(last=False)
        return found


def _mark(agent: AgentInfo, *, metrics: bool) -> tuple[Any, ...]:
    """What of an agent is news when it changes."""
    machine = agent.machine
    if isinstance(machine, msgspec.UnsetType):
        return (agent.description,)
    beat: datetime | None = machine.last_seen_at if metrics else None
    begun = (machine.enrolled_at, machine.started_at is None, machine.gateway, machine.host, machine.version)
    offer = (machine.queues, machine.capabilities, machine.labels, machine.slots)
    return agent.description, machine.status, machine.draining, *begun, *offer, beat


def _ascii(agent: AgentInfo) -> bytes:
    """JSON without characters that some readers take for the end of a line (see frames.py)."""
    return json.dumps(msgspec.to_builtins(agent), separators=(",", ":")).encode()
