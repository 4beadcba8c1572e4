"""Agents that a tenant has: enrolled, listed, drained, turned away."""

from datetime import datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from services.gateway.agent_watch import AgentWatch
from services.gateway.agents import AgentInfo, agents_of
from services.gateway.agents import agent_of as found_agent
from services.gateway.entities import Entities
from services.gateway.links.hub import Links
from services.gateway.problems import BadRequest, Conflict, NotFound
from services.gateway.readside import Views
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom.domain.agents import executor_id_of, is_agent_id
from taskloom.domain.entities.commands import AgentCommand, DrainAgent, EnrollAgent, RevokeAgent, UndrainAgent
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.ids import parts_of
from taskloom.domain.values import UtcTime
from taskloom.keys import new_token

KIND: Final = "agent"
WARNING: Final = "Keep this token now: it is stored nowhere and cannot be shown again."
_PAGE: Final = 500


class NewAgent(Struct, frozen=True, forbid_unknown_fields=True):
    """Without ``expires_at`` the token does not expire."""

    description: Annotated[str, Meta(max_length=1000)] = ""
    expires_at: UtcTime | None = None


class AgentReason(Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(max_length=4096)] = ""


class AgentEnrolledOnce(Struct, frozen=True, kw_only=True):
    """The one answer that has the token itself. ``executor_id``: what the agent registers as."""

    agent_id: str
    executor_id: str
    token: str
    token_prefix: str
    expires_at: datetime | UnsetType = UNSET
    warning: str = WARNING


class AgentChanged(Struct, frozen=True):
    success: bool
    agent_id: str
    draining: bool
    message: str


class AgentDesk:
    """``links`` None: this gateway takes no agents, but they can be enrolled and looked at all the same."""

    def __init__(self, entities: Entities, views: Views, links: Links | None, *, ping_s: float) -> None:
        self._entities = entities
        self._views = views
        self._links = links
        self.watch = AgentWatch(self.all, ping_s=ping_s)

    async def all(self, caller: Caller) -> dict[str, AgentInfo]:
        """Kinds, executors and the tenant's agents, by id."""
        return agents_of(await self._views.executors(caller.tenant_id), await self._enrolled(caller))

    async def get(self, caller: Caller, agent_id: str) -> AgentInfo:
        """Raises NotFound."""
        own = await self._entities.find(KIND, caller, agent_id)
        return found_agent(await self._views.executors(caller.tenant_id), [own] if own is not None else [], agent_id)

    async def enroll(self, agent_id: str, wish: NewAgent, origin: Origin) -> AgentEnrolledOnce:
        """A new agent, or a new token for one that is there; then its old one is worth nothing.

        Raises:
            BadRequest: the id is none for an agent, or the token would have expired.
            Conflict: an executor of the installation has this id.
        """
        tenant_id = origin.caller.tenant_id
        if not is_agent_id(agent_id):
            raise BadRequest(f"{agent_id!r} is no agent's id: 1 to 64 of A-Z a-z 0-9 _ - .", field="agent_id")
        there = await self._views.executor(agent_id)
        if there is not None and not there.heartbeat.tenant_id:
            raise Conflict(f"an executor of the installation is called {agent_id!r}", field="agent_id")
        made = new_token()
        await self._entities.change(
            agent_id, EnrollAgent(made.hash, made.prefix, wish.description, wish.expires_at), origin
        )
        await self._recheck()
        return AgentEnrolledOnce(
            agent_id=agent_id,
            executor_id=executor_id_of(tenant_id, agent_id),
            token=made.text,
            token_prefix=made.prefix,
            expires_at=wish.expires_at or UNSET,
        )

    async def revoke(self, agent_id: str, reason: str, origin: Origin) -> AgentChanged:
        """Raises NotFound."""
        if await self._entities.find(KIND, origin.caller, agent_id) is None:
            raise NotFound("Agent not found", agent_id=agent_id)
        return await self._change(agent_id, RevokeAgent(reason), origin, "its token is worth nothing any more")

    async def drain(self, agent_id: str, reason: str, origin: Origin) -> AgentChanged:
        """What is submitted after the answer is not given to the agent; what was given to it before goes on.

        Raises:
            NotFound: there is no such agent.
            BusError: Kafka did not take the word for who holds its link; draining again is safe.
        """
        return await self._change(agent_id, DrainAgent(reason), origin, "it gets no more work; what it has goes on")

    async def undrain(self, agent_id: str, reason: str, origin: Origin) -> AgentChanged:
        """Raises NotFound, BusError: as ``drain``."""
        return await self._change(agent_id, UndrainAgent(reason), origin, "it gets work again")

    async def _change(self, agent_id: str, command: AgentCommand, origin: Origin, message: str) -> AgentChanged:
        reply = await self._entities.change(agent_id, command, origin)
        if self._links is not None and isinstance(command, DrainAgent | UndrainAgent):
            executor_id = executor_id_of(origin.caller.tenant_id, agent_id)
            await self._links.note_drain(executor_id, reply.version, isinstance(command, DrainAgent))
        await self._recheck()
        return AgentChanged(True, agent_id, bool(reply.data.get("draining")), message)

    async def _recheck(self) -> None:
        """Links of this gateway hear of it at once, those of others within TASKLOOM_KEY_CACHE_S."""
        if self._links is not None:
            await self._links.check()

    async def _enrolled(self, caller: Caller) -> list[Entity]:
        found: list[Entity] = []
        while True:
            after = parts_of(found[-1].entity_id).name if found else ""
            page, _ = await self._entities.page(KIND, caller, after=after, limit=_PAGE)
            found += page
            if len(page) < _PAGE:
                return found
