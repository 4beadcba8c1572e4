"""Tasks that are changed or retried while the scheduler knows them."""

from datetime import timedelta
from typing import Any

import msgspec

from taskloom.domain.scheduling.match import ExecutorOffer
from taskloom.domain.task import commands as c
from taskloom.testing.clock import START
from tests.unit.domain.scheduling.world import World, take_first


def offer(executor_id: str, slots: int = 1) -> ExecutorOffer:
    return ExecutorOffer(executor_id, "a", kinds=frozenset({"echo"}), queues=frozenset({"default"}), slots=slots)


def update(**fields: Any) -> c.UpdateTask:
    return msgspec.convert(fields, c.UpdateTask)


def test_a_new_priority_moves_a_waiting_task_at_once() -> None:
    world = World()
    world.submit("first", "second")
    world.tell("second", update(priority=5))
    assert take_first(world.scheduler.ready) == "second"
    assert take_first(world.scheduler.ready) == "first"
    assert take_first(world.scheduler.ready) == ""


def test_another_name_or_the_same_priority_leaves_it_where_it_was() -> None:
    world = World()
    world.submit("first")
    world.after(1).submit("second")
    world.tell("first", update(name="n", priority=2))
    assert take_first(world.scheduler.ready) == "first"


def test_a_waiting_task_goes_to_the_executor_it_was_given_to_and_is_freed_again() -> None:
    world = World(offer("ex-1", slots=0), offer("ex-2"))
    world.submit("t", executor_id="ex-1")
    assert world.assign() == []
    world.after(1).tell("t", update(assigned_to="ex-3"))
    assert world.assign() == []
    world.after(1).tell("t", update(assigned_to=None))
    assert [(each.task_id, each.executor_id) for each in world.assign()] == [("t", "ex-2")]


def test_a_near_deadline_lifts_a_task_and_taking_it_away_lets_it_fall() -> None:
    world = World()
    world.submit("plain", priority=3)
    world.submit("urgent", priority=2)
    soon = (START + timedelta(seconds=30)).isoformat()
    world.after(1).tell("urgent", update(deadline=soon))
    world.after(28).scheduler.ready.boost(world.now.timestamp())
    levels = {name: world.scheduler.ready.waiting[name].lane.level for name in ("plain", "urgent")}
    assert levels["urgent"] > levels["plain"]
    world.tell("urgent", update(deadline=None))
    world.after(60).scheduler.ready.boost(world.now.timestamp())
    assert take_first(world.scheduler.ready) == "plain"


def test_a_retried_task_waits_again_and_gets_a_slot_like_any_other() -> None:
    world = World(offer("ex-1"))
    world.submit("t")
    world.tell("t", c.CancelTask())
    assert world.assign() == []
    world.tell("t", c.RetryTask())
    assert [each.task_id for each in world.assign()] == ["t"]


def test_a_deleted_task_waits_no_more() -> None:
    world = World(offer("ex-1"))
    world.submit("t")
    world.tell("t", c.DeleteTask())
    assert len(world.scheduler.ready) == 0
