"""Agents: machines of a tenant that may connect, each with a token of which only the SHA-256 is known here."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, structs

from taskloom.domain.agents import executor_id_of, is_agent_id
from taskloom.domain.entities.asked import Asked
from taskloom.domain.entities.commands import AgentCommand, DrainAgent, EnrollAgent, RevokeAgent
from taskloom.domain.entities.events import AgentDrained, AgentEnrolled, AgentEvent, AgentRevoked, AgentUndrained
from taskloom.domain.envelope import Recorded
from taskloom.domain.event import Event
from taskloom.domain.refusals import Refusal


class Agent(Struct, frozen=True, omit_defaults=True, tag="agent"):
    """``draining``: it gets no more work. ``removed``: its token was revoked; it can be enrolled again."""

    token_hash: str
    prefix: str
    description: str = ""
    expires_at: datetime | None = None
    enrolled_at: datetime | None = None
    enrolled_by: str = ""
    draining: bool = False
    drain_reason: str = ""
    removed: bool = False

    @property
    def lookup(self) -> str:
        """What it is found by, whatever tenant it is of."""
        return self.token_hash

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def facts(self) -> dict[str, Any]:
        """What who changed it is told."""
        return {"prefix": self.prefix, "draining": self.draining, "revoked": self.removed}


def decide(state: Agent | None, command: AgentCommand, asked: Asked) -> list[AgentEvent] | Refusal:
    if isinstance(command, EnrollAgent):
        return _enroll(state, command, asked)
    if state is None or (state.removed and not isinstance(command, RevokeAgent)):
        return Refusal("not_found", f"there is no agent {asked.name!r}")
    if isinstance(command, RevokeAgent):
        return [] if state.removed else [AgentRevoked(command.reason)]
    if isinstance(command, DrainAgent):
        return [] if state.draining else [AgentDrained(command.reason)]
    return [AgentUndrained(command.reason)] if state.draining else []


def _enroll(state: Agent | None, command: EnrollAgent, asked: Asked) -> list[AgentEvent] | Refusal:
    if not is_agent_id(asked.name):
        return Refusal("invalid", f"{asked.name!r} is no agent's id: 1 to 64 of A-Z a-z 0-9 _ - .", "agent_id")
    try:
        executor_id_of(asked.tenant_id, asked.name)
    except ValueError as error:
        return Refusal("invalid", str(error), "agent_id")
    if state is not None and command.new:
        return Refusal("conflict", f"there was an agent {asked.name!r} already")
    if command.expires_at is not None and command.expires_at <= asked.now:
        return Refusal("invalid", "its token would have expired already", "expires_at")
    return [AgentEnrolled(command.token_hash, command.prefix, command.description, command.expires_at)]


def evolve(state: Agent | None, event: AgentEvent, recorded: Recorded) -> Agent:
    return _CHANGES[type(event)](state, event, recorded)


def _enrolled(state: Agent | None, event: AgentEnrolled, recorded: Recorded) -> Agent:
    """A new token leaves a drain as it is; only who comes back from a revocation begins anew."""
    before = Agent("", "") if state is None or state.removed else state
    fields = structs.asdict(event)
    return structs.replace(
        before, **fields, enrolled_at=recorded.meta.at, enrolled_by=recorded.meta.actor, removed=False
    )


def _revoked(state: Agent | None, _event: AgentRevoked, _recorded: Recorded) -> Agent:
    assert state is not None
    return structs.replace(state, removed=True)


def _drained(state: Agent | None, event: AgentDrained, _recorded: Recorded) -> Agent:
    assert state is not None
    return structs.replace(state, draining=True, drain_reason=event.reason)


def _undrained(state: Agent | None, _event: AgentUndrained, _recorded: Recorded) -> Agent:
    assert state is not None
    return structs.replace(state, draining=False, drain_reason="")


_CHANGES: Final[dict[type[Event], Callable[[Agent | None, Any, Recorded], Agent]]] = {
    AgentEnrolled: _enrolled,
    AgentRevoked: _revoked,
    AgentDrained: _drained,
    AgentUndrained: _undrained,
}
