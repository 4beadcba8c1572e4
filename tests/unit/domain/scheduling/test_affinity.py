import pytest

from taskloom.domain.scheduling.homes import MAX_HOMES
from taskloom.domain.task import commands as c
from taskloom.domain.task.events import AttemptAssigned
from taskloom.domain.task.submission import Invalid, normalise
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World
from tests.unit.domain.task.lives import submit

NEAR = {"to": "workflow", "wait_s": 5}


def two(slots: int = 1) -> World:
    """Two executors; the first step of run ``r`` went to ex-1 and has ended."""
    world = World(offer("ex-1", slots=slots), offer("ex-2", slots=slots))
    world.submit("other")
    world.submit("r~one", affinity=NEAR)
    world.assign()
    world.complete("other", "r~one")
    return world


def home(world: World) -> str:
    return world.scheduler.homes.of(world.scheduler.ready.waiting["r~two"].lane)


def test_a_step_goes_where_the_step_before_it_ran() -> None:
    world = two(slots=4)
    ran_on = next(e.executor_id for e in world.tasks["r~one"].events if isinstance(e, AttemptAssigned))
    for number in range(3):
        world.submit(f"busy{number}", executor_id=ran_on)
    world.assign()
    world.submit("r~two", affinity=NEAR)
    assert world.place() == ran_on, "although the other one is freer"


def test_a_step_waits_for_its_executor_and_lets_others_pass_and_then_goes_anywhere() -> None:
    world = two()
    world.submit("r~two", affinity=NEAR)
    wanted = home(world)
    world.submit("busy", executor_id=wanted, priority=5)
    assert world.place() == wanted
    world.submit("passes")
    assert world.started() == ["passes"], "it does not hold up others"
    gate = world.gates("r~two")["affinity"]
    assert gate.held_by == (wanted,)
    assert "same workflow" in gate.detail
    world.complete("passes")
    assert world.started() == []
    assert world.scheduler.seconds_to_next(world.now, 60) == 5
    assert world.why("r~two").expected_start == world.now.replace(second=world.now.second + 5)
    assert world.after(4.9).started() == []
    assert world.after(0.1).started() == ["r~two"]


def test_a_slot_that_comes_free_in_time_is_taken() -> None:
    world = two()
    world.submit("r~two", affinity=NEAR)
    wanted = home(world)
    world.submit("busy", executor_id=wanted, priority=5)
    world.assign()
    world.complete("busy")
    assert world.place() == wanted


def test_nobody_waits_for_an_executor_that_is_gone_or_failed_the_task() -> None:
    world = two()
    world.submit("r~two", affinity=NEAR, retry={"initial_s": 0})
    wanted = home(world)
    assert world.place() == wanted
    world.fail("r~two")
    world.again("r~two")
    assert world.place() not in ("", wanted)
    world.complete("r~two")
    world.submit("r~three", affinity=NEAR)
    world.pool.leave(wanted, "a")
    assert world.place() not in ("", wanted)


def test_a_task_that_leaves_while_it_waits_leaves_nothing_behind() -> None:
    world = two()
    world.submit("r~two", affinity=NEAR)
    world.submit("busy", executor_id=home(world), priority=5)
    world.assign()
    world.tell("r~two", c.CancelTask())
    assert world.after(60).started() == []
    assert not world.scheduler.ready
    world.complete("busy")
    world.submit("r~three", affinity=NEAR)
    assert len(world.started()) == 1


def test_sessions_and_keys_have_homes_too_and_those_of_tenants_differ() -> None:
    world = World(offer("ex-1", slots=9), offer("ex-2", slots=9))
    for task_id, tenant in (("a", "t1"), ("b", "t2")):
        world.submit(task_id, tenant=tenant, affinity={"to": "key", "key": "model"})
    world.submit("c", session_id="s", affinity={"to": "session"})
    world.submit("d", affinity=NEAR)
    world.assign()
    assert len(world.scheduler.homes) == 3, "d is of no workflow"


def test_the_homes_that_are_remembered_are_bounded() -> None:
    world = World(offer())
    for number in range(MAX_HOMES + 5):
        world.scheduler.homes.note(("t", str(number)), "ex-1")
    assert len(world.scheduler.homes) == MAX_HOMES


@pytest.mark.parametrize("affinity", [{"to": "key"}, {"to": "session", "key": "k"}])
def test_a_key_belongs_to_the_affinity_to_keys(affinity: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="key") as caught:
        normalise(submit(affinity=affinity), task_id="t", tenant_id="t", user_id="")
    assert caught.value.field == "affinity.key"
