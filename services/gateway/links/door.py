"""Who knocks: an agent's id and token, looked up among the enrolled ones."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from msgspec import Struct, structs
from psycopg import OperationalError

from services.gateway.entities import Entities
from services.gateway.problems import Conflict, Problem, Unauthorized, Unavailable
from services.gateway.security import Caller
from services.gateway.submission import Origin
from taskloom.domain.agents import executor_id_of
from taskloom.domain.entities.agents import Agent
from taskloom.domain.entities.commands import EnrollAgent
from taskloom.domain.entities.entity import Entity
from taskloom.domain.entities.events import AgentDrained, AgentEnrolled, AgentRevoked
from taskloom.domain.entities.ids import entity_id, parts_of
from taskloom.domain.ids import DEFAULT_TENANT
from taskloom.keys import token_hash_of
from taskloom.store.errors import StoreUnavailable
from taskloom.views.reading import TooSlow

_BEARER: Final = re.compile(r"bearer +(\S+)", re.IGNORECASE)


class Guest(Struct, frozen=True):
    """An agent that was let in, as of its ``version``. ``executor_id``: the id that it registers under."""

    tenant_id: str
    agent_id: str
    executor_id: str
    token_hash: str
    draining: bool = False
    version: int = 0


class AgentTable(Protocol):
    """Part of ``readside.Views``."""

    async def agents_by_token(self, hashes: Sequence[str]) -> list[Entity]: ...


class Door:
    """``dev``: tokens by agent id that need no enrolment: the first use of one enrols it in the default tenant."""

    def __init__(self, table: AgentTable, entities: Entities, reply_to: str, dev: Mapping[str, str]) -> None:
        self._table = table
        self._entities = entities
        self._origin = Origin(Caller(DEFAULT_TENANT, "dev-agents", by="open"), reply_to)
        self._dev = dev

    async def admit(self, headers: Mapping[str, str], agent_id: str) -> Guest:
        """
        Raises:
            Unauthorized: the token is unknown, revoked, expired or another agent's.
            Unavailable: PostgreSQL or the orchestrator does not answer.
        """
        found = _BEARER.fullmatch(headers.get("authorization", "").strip())
        if found is None or not agent_id:
            raise Unauthorized("Authentication required", message="send X-Agent-Id and Authorization: Bearer TOKEN")
        token, is_dev = found[1], self._dev.get(agent_id) == found[1]
        token_hash = hashlib.sha256(token.encode()).hexdigest() if is_dev else token_hash_of(token)
        guest = None if token_hash is None else await self._known(token_hash, agent_id)
        if guest is None and is_dev and token_hash is not None:
            await self._enroll(agent_id, token_hash, token)
            guest = await self._known(token_hash, agent_id)
            if guest is None:
                # Not a refusal, which an agent takes as the last word: the read side is behind.
                raise Unavailable(f"agent {agent_id!r} was enrolled and is not shown yet; come back")
        if guest is None:
            raise Unauthorized.invalid(f"the token of agent {agent_id!r} is unknown, has expired, or was revoked")
        return guest

    async def still_good(self, guests: Sequence[Guest]) -> dict[str, Guest]:
        """Those of the guests whose tokens are still good, by executor id, as they are now; one query for all.

        Raises:
            Unavailable: PostgreSQL does not answer.
        """
        asked = {guest.token_hash for guest in guests}
        now = [_guest(entity) for entity in await self._look(sorted(asked))] if asked else []
        return {guest.executor_id: guest for guest in now if guest is not None}

    async def newest(self, guest: Guest) -> Guest:
        """The guest with what has happened since the table was read, from the event store, which is never behind.

        Raises:
            Unauthorized: its token was revoked, or another one was made.
            StoreUnavailable: PostgreSQL does not answer.
        """
        stream = entity_id("agent", guest.tenant_id, guest.agent_id)
        for recorded in await self._entities.events_after(stream, guest.version):
            if isinstance(recorded.event, AgentRevoked | AgentEnrolled):
                raise Unauthorized.invalid("the token was revoked")
            draining = isinstance(recorded.event, AgentDrained)
            guest = structs.replace(guest, draining=draining, version=recorded.version)
        return guest

    async def _known(self, token_hash: str, agent_id: str) -> Guest | None:
        found = [_guest(entity) for entity in await self._look([token_hash])]
        return next((guest for guest in found if guest is not None and guest.agent_id == agent_id), None)

    async def _look(self, hashes: Sequence[str]) -> list[Entity]:
        try:
            return await self._table.agents_by_token(hashes)
        except (OperationalError, TooSlow) as error:
            raise Unavailable("agents cannot be looked up now: PostgreSQL does not answer") from error

    async def _enroll(self, agent_id: str, token_hash: str, token: str) -> None:
        wish = EnrollAgent(token_hash, token[:8], "a development agent", new=True)
        try:
            await self._entities.change(agent_id, wish, self._origin)
        except Conflict as error:
            if not await self._is_enrolled(agent_id, token_hash):
                raise Unauthorized.invalid(f"agent {agent_id!r} was revoked, or has another token by now") from error
        except Unavailable:
            raise
        except Problem as error:
            raise Unavailable(str(error)) from error

    async def _is_enrolled(self, agent_id: str, token_hash: str) -> bool:
        """By the event store, which is never behind: the read side may not show yet what another call did."""
        try:
            events = await self._entities.events_after(entity_id("agent", DEFAULT_TENANT, agent_id), 0)
        except StoreUnavailable as error:
            raise Unavailable("agents cannot be looked up now: PostgreSQL does not answer") from error
        last = [each.event for each in events if isinstance(each.event, AgentRevoked | AgentEnrolled)][-1:]
        return any(isinstance(event, AgentEnrolled) and event.token_hash == token_hash for event in last)


def _guest(entity: Entity) -> Guest | None:
    place, agent = parts_of(entity.entity_id), entity.value
    if not isinstance(agent, Agent) or agent.removed or agent.has_expired(datetime.now(UTC)):
        return None
    executor_id = executor_id_of(place.tenant_id, place.name)
    return Guest(place.tenant_id, place.name, executor_id, agent.token_hash, agent.draining, entity.version)
