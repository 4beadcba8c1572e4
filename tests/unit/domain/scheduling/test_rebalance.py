from taskloom.domain.scheduling.rebalance import in_reserve, moves
from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import RECALLED
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World


def crowded(**joins: int) -> World:
    """ex-1 has one slot and holds four tasks of rising priority; then others join with so many slots."""
    world = World(offer(slots=1, prefetch=3))
    for priority in (1, 2, 3, 4):
        world.submit(f"p{priority}", priority=priority)
    assert len(world.started()) == 4
    for name, slots in joins.items():
        world.pool.hear(offer(name.replace("_", "-"), slots=slots))
    return world


def called_back(world: World, limit: int = 10) -> list[str]:
    return [recall.task_id for recall in moves(world.scheduler, [t.state for t in world.tasks.values()], limit)]


def test_low_priorities_leave_a_full_executors_reserve_for_free_slots() -> None:
    world = crowded(ex_2=2)
    assert in_reserve(world.scheduler)
    assert called_back(world) == ["p1", "p2"]
    assert called_back(world) == [], "both slots are promised"
    for task_id in ("p1", "p2"):
        world.tell(task_id, c.ReportDeclined(1, "ex-1", RECALLED))
    assert {each.executor_id for each in world.assign()} == {"ex-2"}
    assert in_reserve(world.scheduler) == [], "no slot is free any more"


def test_no_more_leave_than_wait_and_no_more_than_asked_for() -> None:
    assert len(called_back(crowded(ex_2=9))) == 3, "one of four has the slot"
    assert len(called_back(crowded(ex_2=9), limit=2)) == 2


def test_what_has_started_stays_and_frees_its_promise() -> None:
    world = crowded(ex_2=1)
    world.tell("p1", c.ReportStarted(1, "ex-1"))
    assert called_back(world) == ["p2"]
    world.tell("p2", c.ReportStarted(1, "ex-1"))
    assert not world.scheduler.recalls
    assert called_back(world) == ["p3"], "the slot was promised to what did not come"


def test_nothing_moves_to_an_executor_that_does_not_match_or_is_full() -> None:
    world = crowded()
    world.pool.hear(offer("ex-2", slots=5, kinds=frozenset({"shell"})))
    world.pool.hear(offer("ex-3", slots=0, prefetch=5))
    assert called_back(world) == []


def test_a_task_that_is_paused_or_cancelled_is_left_to_that() -> None:
    world = crowded(ex_2=9)
    world.tell("p1", c.PauseTask())
    world.tell("p2", c.CancelTask())
    assert not {"p1", "p2"} & set(called_back(world))


def test_only_an_assigned_task_may_be_called_back() -> None:
    world = crowded()
    world.submit("waits")
    assert world.tasks["p1"].when(c.RecallTask()).events == []
    assert "only what was assigned" in str(world.tasks["waits"].when(c.RecallTask()).decision)
