"""Agents: enrolled, given a new token, drained, revoked, and what they are called among all executors."""

from datetime import timedelta

import pytest

from taskloom.domain.agents import agent_id_of, executor_id_of, is_agent_id
from taskloom.domain.entities.agents import Agent
from taskloom.domain.entities.commands import AgentCommand, DrainAgent, EnrollAgent, RevokeAgent, UndrainAgent
from taskloom.domain.entities.entity import Entity, decide, evolve
from taskloom.domain.entities.events import AgentDrained, AgentEnrolled, AgentRevoked, AgentUndrained
from taskloom.domain.entities.ids import entity_id
from taskloom.domain.envelope import EventMeta
from taskloom.domain.refusals import Refusal
from taskloom.domain.task.caller import Caller
from taskloom.keys import DEV_TOKENS, hash_of, new_token, token_hash_of
from taskloom.testing.clock import START
from taskloom.wire.recorded import GENESIS, seal

HASH, OTHER = "a" * 64, "b" * 64


class Stream:
    """An agent's stream."""

    def __init__(self, name: str = "builder", tenant_id: str = "acme") -> None:
        self.id, self.tenant_id = entity_id("agent", tenant_id, name), tenant_id
        self.state: Entity | None = None
        self.events: list[type] = []

    def when(self, command: AgentCommand, after_s: float = 0.0) -> Refusal | None:
        now = START + timedelta(seconds=after_s)
        caller = Caller(self.id, self.tenant_id, f"c-{len(self.events)}-{command}", "root")
        decision = decide(self.state, command, now, caller)
        if isinstance(decision, Refusal):
            return decision
        for event in decision:
            version = 1 if self.state is None else self.state.version + 1
            meta = EventMeta(self.id, version, now, self.tenant_id, "", "root")
            self.state = evolve(self.state, seal(event, meta, GENESIS if self.state is None else self.state.digest))
            self.events.append(type(event))
        return None

    @property
    def value(self) -> Agent:
        assert self.state is not None
        assert isinstance(self.state.value, Agent)
        return self.state.value


def test_an_agent_is_enrolled_drained_undrained_and_revoked() -> None:
    agent = Stream()
    assert agent.when(EnrollAgent(HASH, "at_aaaaa", "under the desk")) is None
    assert (agent.value.lookup, agent.value.enrolled_by, agent.value.draining) == (HASH, "root", False)
    for command in (DrainAgent("disk"), DrainAgent("again"), UndrainAgent(), UndrainAgent(), RevokeAgent("lost")):
        assert agent.when(command) is None
    assert agent.events == [AgentEnrolled, AgentDrained, AgentUndrained, AgentRevoked]
    assert agent.value.removed


def test_enrolling_again_gives_a_new_token_and_leaves_a_drain_as_it_is() -> None:
    agent = Stream()
    agent.when(EnrollAgent(HASH, "at_aaaaa"))
    agent.when(DrainAgent())
    assert agent.when(EnrollAgent(OTHER, "at_bbbbb")) is None
    assert (agent.value.token_hash, agent.value.draining) == (OTHER, True)


def test_a_revoked_agent_begins_anew_but_not_by_itself() -> None:
    agent = Stream()
    agent.when(EnrollAgent(HASH, "at_aaaaa"))
    agent.when(DrainAgent())
    agent.when(RevokeAgent())
    refusals = [agent.when(DrainAgent()), agent.when(EnrollAgent(OTHER, "at_bbbbb", new=True))]
    assert [each.code for each in refusals if each is not None] == ["not_found", "conflict"]
    assert agent.when(EnrollAgent(OTHER, "at_bbbbb")) is None
    assert (agent.value.removed, agent.value.draining) == (False, False)


@pytest.mark.parametrize("name", ["acme:x", "link", "events", "x" * 65])
def test_what_is_no_agents_id_is_refused(name: str) -> None:
    refusal = Stream(name).when(EnrollAgent(HASH, "at_aaaaa"))
    assert refusal is not None
    assert refusal.field == "agent_id"


def test_a_token_that_would_have_expired_and_ids_too_long_together_are_refused() -> None:
    late = Stream().when(EnrollAgent(HASH, "at_aaaaa", expires_at=START), after_s=1)
    long = Stream("x" * 64, "t" * 64).when(EnrollAgent(HASH, "at_aaaaa"))
    assert [each.field for each in (late, long) if each is not None] == ["expires_at", "agent_id"]


def test_executors_of_different_tenants_agents_have_different_ids() -> None:
    assert executor_id_of("default", "agent1") == "agent1"
    assert executor_id_of("acme", "agent1") == "acme:agent1"
    assert {agent_id_of("agent1"), agent_id_of("acme:agent1"), agent_id_of(executor_id_of("a:b", "agent1"))} == {
        "agent1"
    }
    assert is_agent_id("a.b_c-1")
    assert not is_agent_id("")


def test_tokens_are_no_keys_and_development_tokens_are_no_tokens() -> None:
    made = new_token()
    assert token_hash_of(made.text) == made.hash
    assert hash_of(made.text) is None
    assert all(token_hash_of(text) is None for text in DEV_TOKENS.values())
