from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.scheduling.lines import MAX_STALE
from taskloom.domain.scheduling.match import Requirement
from taskloom.domain.scheduling.policy import DAY_S, HOUR_S, Policy
from taskloom.domain.scheduling.queues import ReadyQueues
from taskloom.domain.scheduling.turns import DEBT, Turns
from taskloom.domain.values import Concurrency
from taskloom.testing.clock import START
from tests.unit.domain.scheduling.test_scheduling import drained, offer
from tests.unit.domain.scheduling.world import World, take_first

ECHO = Requirement("default", "echo")


# Ageing.


def test_waiting_lifts_a_task_by_one_priority_a_step() -> None:
    world = World(offer(), ageing_step_s=60)
    world.submit("low", priority=1)
    world.after(119).submit("early", priority=3)
    assert world.started() == ["early"]
    world.complete("early")
    world.after(1).submit("late", priority=3)
    assert world.started() == ["low"], "two steps make it as high as the other, and it is older"


@given(st.integers(1, 5), st.integers(0, 2), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_no_flood_keeps_a_task_waiting_for_ever(priority: int, tenant: int, flood: list[int]) -> None:
    """One slot that is free once a second, and more urgent work that comes faster than it goes.

    Only what came within the at most 14 steps between them (1 to 5 + 10) may go before the task that waits.
    """
    step_s = 2
    queues = ReadyQueues(Policy(ageing_step_s=step_s))
    queues.add("patient", ECHO, priority, 0, "t")
    for second in range(1, 15 * step_s * len(flood) + 2):
        for number, urgent in enumerate(flood):
            deadline = second + HOUR_S if number % 2 else None
            queues.add(f"{second}-{number}", ECHO, urgent, second, f"t{number * tenant}", None, deadline)
        queues.boost(second)
        if take_first(queues, second) == "patient":
            return
    pytest.fail("it starved")


# Deadlines.


@pytest.mark.parametrize(
    ("due_in_s", "level"), [(None, 2), (2 * DAY_S, 2), (DAY_S, 7), (HOUR_S + 1, 7), (HOUR_S, 12), (-DAY_S, 12)]
)
def test_a_near_deadline_lifts_by_a_bounded_number_of_priorities(due_in_s: float | None, level: int) -> None:
    assert Policy().level(2, due_in_s, 0) == level


def test_a_deadline_that_comes_near_while_the_task_waits_lifts_it_then() -> None:
    world = World(offer(), ageing_step_s=1e9)
    world.submit("due", priority=1, deadline=START + timedelta(days=2))
    world.submit("high", "higher", "highest", priority=5)
    assert world.started() == ["high"]
    world.complete("high")
    assert world.after(DAY_S - 1).started() == ["higher"]
    world.complete("higher")
    assert world.after(1).started() == ["due"], "24 hours before: 1 + 5 is above 5"


def test_within_an_hour_goes_before_within_a_day_in_whatever_order_they_came() -> None:
    world = World(offer(), ageing_step_s=1e9)
    world.submit("day", priority=5, deadline=START + timedelta(hours=2))
    world.submit("hour", priority=1, deadline=START + timedelta(minutes=59))
    assert world.started() == ["hour"]


def test_a_task_that_left_is_not_lifted() -> None:
    queues = ReadyQueues()
    queues.add("gone", ECHO, 1, 0, "t", None, HOUR_S)
    queues.add("back", ECHO, 1, 0, "t", None, HOUR_S)
    for name in ("gone", "back"):
        queues.discard(name)
    queues.add("back", ECHO, 1, 0, "t")
    queues.boost(HOUR_S)
    assert drained(queues, HOUR_S) == ["back"]


# Turns.


def rounds(world: World, number: int) -> Counter[str]:
    """How many tasks of each tenant ran, one after the other."""
    served: Counter[str] = Counter()
    for _ in range(number):
        [task_id] = world.started()
        served[world.tasks[task_id].tenant_id] += 1
        world.complete(task_id)
    return served


def test_tenants_take_turns_whoever_came_first_and_sent_more() -> None:
    world = World(offer())
    world.submit(*(f"a{n}" for n in range(50)), tenant="a")
    world.submit(*(f"b{n}" for n in range(5)), tenant="b")
    assert rounds(world, 10) == {"a": 5, "b": 5}
    assert rounds(world, 10) == {"a": 10}, "what one does not need, another gets"


def test_a_flood_that_grew_old_does_not_outrun_a_neighbour_of_the_same_priority() -> None:
    world = World(offer(), ageing_step_s=60)
    world.submit(*(f"a{n}" for n in range(20)), tenant="a")
    world.after(3600).submit("b", tenant="b")
    assert rounds(world, 2)["b"] == 1


def test_weights_give_more_turns() -> None:
    world = World(offer(), weights={"a": 3})
    for tenant in "ab":
        world.submit(*(f"{tenant}{n}" for n in range(40)), tenant=tenant)
    assert rounds(world, 40) == {"a": 30, "b": 10}


def test_turns_count_over_kinds_since_they_share_executors() -> None:
    world = World(offer(kinds=frozenset({"echo", "shell"})))
    world.submit(*(f"e{n}" for n in range(20)), tenant="a", kind="echo")
    world.submit(*(f"s{n}" for n in range(20)), tenant="a", kind="shell")
    world.submit(*(f"b{n}" for n in range(20)), tenant="b", kind="shell")
    assert rounds(world, 20) == {"a": 10, "b": 10}


def test_keys_of_a_tenant_take_turns_and_give_it_no_more_than_one_share() -> None:
    world = World(offer())
    for key in ("k", "l"):
        world.submit(*(f"{key}{n}" for n in range(10)), tenant="a", concurrency={"key": key, "limit": 9})
    world.submit(*(f"b{n}" for n in range(10)), tenant="b")
    order = []
    for _ in range(8):
        order += world.started()
        world.complete(order[-1])
    assert sorted(order) == ["b0", "b1", "b2", "b3", "k0", "k1", "l0", "l1"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), min_size=1, max_size=30))
def test_no_tenant_that_waits_is_more_than_a_turn_behind(bursts: list[tuple[str, int]]) -> None:
    queues, waits, name = ReadyQueues(), Counter[str](), 0
    for tenant, number in bursts:
        for _ in range(number):
            name += 1
            queues.add(f"{tenant}{name}", ECHO, 2, name, tenant)
            waits[tenant] += 1
    served: Counter[str] = Counter()
    while len(queues):
        served[take_first(queues)[0]] += 1
        behind = [served[tenant] for tenant in waits if served[tenant] < waits[tenant]]
        assert not behind or max(behind) - min(behind) <= 1
    assert served == waits


def test_who_waits_for_nothing_gathers_no_credit() -> None:
    turns = Turns({})
    for _ in range(100):
        turns.served("busy")
    turns.enter("new")
    assert turns.tag("busy") - turns.tag("new") == 1


def test_a_debt_is_bounded() -> None:
    turns = Turns({})
    turns.enter("slow")
    for _ in range(10_000):
        turns.served("fast")
    assert turns.tag("fast") - turns.tag("slow") == DEBT + 1


def test_tags_that_say_nothing_are_dropped() -> None:
    turns = Turns({})
    for number in range(10_000):
        turns.enter(f"t{number}")
        turns.served(f"t{number}")
        turns.served("busy")
    assert len(turns._tags) < 9000
    assert turns.tag("busy") > turns.tag("unknown")


# Leaving.


def test_tasks_that_leave_a_line_nobody_serves_leave_no_rubbish() -> None:
    queues = ReadyQueues()
    queues.add("stays", ECHO, 2, 0, "t")
    for number in range(10_000):
        queues.add("comes and goes", ECHO, 2, number, "t")
        queues.discard("comes and goes")
    [line] = queues.lines()
    assert sum(map(len, line.lanes.values())) <= 2 * MAX_STALE + 2
    assert drained(queues) == ["stays"]


def test_keys_that_come_and_go_leave_no_rubbish_either() -> None:
    queues = ReadyQueues()
    queues.add("stays", ECHO, 2, 0, "t")
    for number in range(1000):
        queues.add(f"t{number}", ECHO, 2, number, "t", Concurrency(f"key-{number}", 1))
        queues.discard(f"t{number}")
    [line] = queues.lines()
    assert len(line.lanes) <= MAX_STALE + 3
    assert drained(queues) == ["stays"]
    queues.add("last", ECHO, 2, 0, "t")
    queues.discard("last")
    assert list(queues.lines()) == []


# Affinity.


def two(**fields: Any) -> World:
    return World(offer("ex-1", **fields), offer("ex-2", **fields))


def test_a_preferred_executor_gets_the_task_while_it_has_room() -> None:
    world = two()
    for task_id, place in [("a", "ex-2"), ("b", "ex-1")]:
        world.scheduler.homes.note(("default", "key:k"), "ex-2")
        world.submit(task_id, affinity={"to": "key", "key": "k", "wait_s": 0})
        assert world.place() == place, "a wish that cannot be met holds nothing up"


@pytest.mark.parametrize("end", ["fail", "lose"])
def test_a_retry_avoids_the_executor_that_failed_it_where_another_has_room(end: str) -> None:
    world = two(slots=2)
    world.submit("t")
    first = world.place()
    getattr(world, end)("t")
    world.again("t")
    second = world.place()
    assert {first, second} == {"ex-1", "ex-2"}
    world.fail("t")
    other = World(offer("ex-1"))
    other.submit("t")
    other.assign()
    other.fail("t")
    other.again("t")
    assert other.place() == "ex-1", "nobody else is there"
