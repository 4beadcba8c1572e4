from typing import Any

import pytest

from taskloom.domain.scheduling.policy import Rate
from taskloom.domain.scheduling.survey import GATES, Survey, survey
from tests.unit.domain.scheduling.test_health import broken, quarantined
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World


def seen(world: World) -> Survey:
    world.assign()
    return survey(world.scheduler, world.now)


def counts(world: World) -> dict[str, int]:
    found = seen(world).waiting
    assert set(found) == set(GATES)
    return {gate: number for gate, number in found.items() if number}


@pytest.mark.parametrize(
    ("rules", "fields", "expected"),
    [
        ({}, {"capabilities": ["gpu"]}, {"nobody": 3}),
        ({}, {"concurrency": {"key": "k", "limit": 1}}, {"concurrency": 2}),
        ({"queue_parallel": {"default": 1}}, {}, {"parallel": 2}),
        ({"kind_rates": {"echo": Rate(1, 1)}}, {}, {"rate": 2}),
        ({}, {}, {"slot": 1}),
    ],
)
def test_each_waiting_task_counts_at_one_gate(
    rules: dict[str, Any], fields: dict[str, Any], expected: dict[str, int]
) -> None:
    world = World(offer(slots=2), **rules)
    world.submit("a", "b", "c", **fields)
    assert counts(world) == expected


def test_what_executors_are_not_trusted_with_counts_there() -> None:
    world = broken()
    world.submit("t")
    assert counts(world) == {"breaker": 1}
    assert seen(world).breakers_open == 1
    world = quarantined()
    world.submit("t")
    assert counts(world) == {"quarantine": 1}
    assert seen(world).quarantined == 1


def test_limits_show_how_far_they_are_used() -> None:
    world = World(offer(slots=9), queue_parallel={"default": 5}, queue_rates={"default": Rate(10, 4)})
    world.submit("a", "b", "c", concurrency={"key": "k", "limit": 2})
    found = seen(world)
    assert found.parallel == {"default": 2}
    assert found.tokens == {("queue", "default"): pytest.approx(2)}
    assert found.keys_held == 1
    world.complete("a", "b")
    assert seen(world).parallel == {"default": 1}
