"""Agents in the pool: whose tasks they run, how tasks name them, and which of their heartbeats are heard."""

from typing import Any

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.match import ExecutorOffer, Requirement, mismatches, requirement_of
from taskloom.domain.values import TaskSpec


def agent(**fields: Any) -> ExecutorOffer:
    usual: dict[str, Any] = {
        "executor_id": "acme:builder",
        "incarnation": "i-1",
        "kinds": frozenset({"shell"}),
        "queues": frozenset({"default", "builds"}),
        "capabilities": frozenset({"gpu"}),
        "slots": 2,
        "tenant_id": "acme",
        "agent_id": "builder",
    }
    return ExecutorOffer(**{**usual, **fields})


def spec(tenant_id: str = "acme", **fields: Any) -> TaskSpec:
    return TaskSpec(kind="shell", tenant_id=tenant_id, **fields)


def test_an_agent_runs_what_asks_for_it_by_name_queue_or_capability() -> None:
    for asking in ({"executor_id": "builder"}, {"queue": "builds"}, {"capabilities": ("gpu",)}):
        assert mismatches(requirement_of(spec(**asking)), agent()) == []


def test_a_plain_task_does_not_wander_to_an_agent() -> None:
    assert requirement_of(spec()) == Requirement("default", "shell")
    assert mismatches(requirement_of(spec()), agent()) == ["agent"]


def test_an_agent_runs_no_other_tenants_tasks_whatever_they_name() -> None:
    for name in ("builder", "acme:builder"):
        found = mismatches(requirement_of(spec("red", executor_id=name)), agent())
        assert "agent" in found


def test_two_tenants_agents_of_one_name_get_their_own_tasks() -> None:
    red = agent(executor_id="red:builder", tenant_id="red")
    wanted = requirement_of(spec("red", executor_id="builder"))
    assert mismatches(wanted, red) == []
    assert mismatches(wanted, agent()) == ["agent"]


def test_a_heartbeat_over_an_earlier_link_is_not_heard() -> None:
    pool = ExecutorPool(1)
    pool.own([0])
    pool.hear(agent(epoch=7))
    pool.lease("acme:builder", "i-1", ("t", 1))
    assert pool.hear(agent(incarnation="i-0", epoch=5)) == []
    assert pool.leases_of("acme:builder", "i-1") == {("t", 1)}
    assert pool.hear(agent(incarnation="i-2", epoch=8)) == [("t", 1)]
