from datetime import timedelta

from taskloom.domain.scheduling.policy import Rate
from taskloom.domain.task import commands as c
from taskloom.testing.clock import START
from tests.unit.domain.scheduling.test_health import broken, quarantined
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World

ONE = {"key": "k", "limit": 1}


def test_a_task_that_is_about_to_go_has_no_gate() -> None:
    world = World(offer())
    world.submit("t")
    assert world.gates("t") == {}


def test_a_full_key_names_who_holds_it() -> None:
    world = World(offer(slots=9))
    world.submit("a", "b", concurrency=ONE)
    world.assign()
    gate = world.gates("b")["concurrency"]
    assert (gate.detail, gate.held_by, gate.since) == ("key 'k' is limited to 1 at once", ("a",), START)


def test_a_full_queue_names_who_holds_it() -> None:
    world = World(offer(slots=9), queue_parallel={"default": 1})
    world.submit("a", "b")
    world.assign()
    gate = world.gates("b")["parallel"]
    assert (gate.detail, gate.held_by) == ("queue 'default' is limited to 1 at once", ("a",))


def test_a_rate_says_when_it_goes_on() -> None:
    world = World(offer(slots=9), queue_rates={"default": Rate(0.5)}, kind_rates={"echo": Rate(9)})
    world.submit("a", "b", "c")
    world.assign()
    found = world.why("b")
    assert [gate.gate for gate in found.gates] == ["rate"]
    assert (
        found.gates[0].detail == "the rate limit is reached: 0.5 a second of queue 'default', 9 a second of kind 'echo'"
    )
    assert abs(found.expected_start - (START + timedelta(seconds=2))) < timedelta(milliseconds=1)
    assert world.gates("c")["priority"].detail == "1 task goes first, by priority or age"
    assert abs(world.why("c").expected_start - (START + timedelta(seconds=4))) < timedelta(milliseconds=1)


def test_a_breaker_says_since_when_and_until_when_and_then_who_is_tried() -> None:
    world = broken()
    world.submit("t", "x")
    world.assign()
    world.after(1)
    found = world.why("t")
    assert [(gate.gate, gate.since, gate.held_by) for gate in found.gates] == [("breaker", START, ("ex-1",))]
    assert found.gates[0].detail == "tasks of kind 'echo' failed too often in a row on ex-1; tried again after 5 s"
    assert found.expected_start == START + timedelta(seconds=5)
    assert world.after(4).started() == ["t"]
    assert (world.gates("x")["breaker"].held_by, world.why("x").expected_start) == (("t",), None)


def test_a_quarantine_says_until_when() -> None:
    world = quarantined()
    world.submit("t")
    world.assign()
    found = world.why("t")
    assert [gate.gate for gate in found.gates] == ["quarantine"]
    assert found.expected_start == START + timedelta(seconds=60)


def test_different_reasons_of_different_executors_are_all_told() -> None:
    world = broken()
    world.pool.hear(offer("ex-2"))
    world.submit("a", "b")
    assert world.started() == ["a"]
    assert world.gates("b").keys() == {"slot", "breaker"}


def test_a_paused_task_expects_no_start() -> None:
    world = World(offer(slots=9), queue_rates={"default": Rate(0.5)})
    world.submit("a", "b")
    world.assign()
    world.tell("b", c.PauseTask())
    assert world.why("b").expected_start is None
    assert "pause" in world.gates("b")


def test_other_tenants_tasks_are_neither_named_nor_counted() -> None:
    world = World(offer(), queue_parallel={"default": 1})
    world.submit("theirs", *(f"theirs-{n}" for n in range(7)), tenant="other", priority=5)
    world.assign()
    world.submit("mine", tenant="me")
    gates = world.gates("mine")
    assert gates.keys() == {"slot", "parallel", "priority"}
    assert all(gate.held_by == () and "7" not in gate.detail for gate in gates.values())
    assert gates["priority"].detail == "tasks of others have higher priority or are older; all take turns"
