import pytest

from taskloom.domain.scheduling.health import Health
from taskloom.domain.scheduling.policy import Policy
from taskloom.domain.task import commands as c
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World

MANY = frozenset({"echo", "shell"})


def broken(failures: int = 3) -> World:
    """An executor whose echo breaker has just opened; it rests for 5 s."""
    world = World(offer(slots=9, kinds=MANY), breaker_failures=failures, breaker_pause_s=5)
    for number in range(failures):
        world.submit(f"bad{number}", retry={"max_attempts": 1})
        world.assign()
        world.fail(f"bad{number}")
    return world


def test_a_kind_that_fails_for_several_tasks_in_a_row_rests_and_other_kinds_go_on() -> None:
    world = broken()
    world.submit("t")
    world.submit("s", kind="shell")
    assert world.started() == ["s"]
    assert world.scheduler.seconds_to_next(world.now, 60) == 5
    assert world.after(4.9).started() == []


def test_after_the_rest_one_is_tried_and_its_success_opens_the_way() -> None:
    world = broken()
    world.submit("probe", "x", "y")
    world.assign()
    assert world.after(5).started() == ["probe"]
    assert world.after(60).started() == [], "one at a time"
    world.complete("probe")
    assert world.started() == ["x", "y"]


@pytest.mark.parametrize("end", ["fail", "lose"])
def test_a_probe_that_fails_means_another_rest(end: str) -> None:
    world = broken()
    world.submit("probe", "x", retry={"max_attempts": 1})
    world.assign()
    assert world.after(5).started() == ["probe"]
    getattr(world, end)("probe")
    assert world.started() == []
    assert world.after(4.9).started() == []
    assert world.after(0.1).started() == ["x"]


@pytest.mark.parametrize("end", [c.ReportDeclined(1, "ex-1"), "forget", "refuse"])
def test_a_probe_that_tells_nothing_is_followed_by_another(end: c.TaskCommand | str) -> None:
    world = broken()
    world.submit("probe", "x")
    world.assign()
    world.after(5)
    if end == "refuse":
        assert len(world.scheduler.assign(9, world.now)) == 1
        world.tell("probe", c.PauseTask())
    else:
        assert world.started() == ["probe"]
        world.scheduler.forget(["probe"]) if isinstance(end, str) else world.tell("probe", end)
    assert world.started() == ["x"]


def test_a_success_in_between_starts_the_count_anew() -> None:
    world = World(offer(slots=9), breaker_failures=2)
    for name in ("bad", "good", "worse"):
        world.submit(name, retry={"max_attempts": 1})
        world.assign()
        world.complete(name) if name == "good" else world.fail(name)
    world.submit("t")
    assert world.started() == ["t"]


def test_one_task_that_fails_again_and_again_says_nothing_of_the_executor() -> None:
    world = World(offer(slots=9), breaker_failures=2)
    world.submit("bad", retry={"max_attempts": 10})
    for _ in range(5):
        assert world.started() == ["bad"]
        world.fail("bad")
        world.again("bad")


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_that_is_the_tasks_own_opens_no_breaker(retryable: bool) -> None:
    """An exit code, a bad input, a service that answers 500: nothing of the executor."""
    world = World(offer(slots=9), breaker_failures=1)
    world.submit("bad")
    world.assign()
    world.fail("bad", fault=False, retryable=retryable)
    world.submit("t")
    assert world.started() == ["t"]


def test_a_failure_of_its_own_after_a_crash_is_not_taken_for_a_crash() -> None:
    world = World(offer(slots=9), breaker_failures=2)
    for name in ("a", "b"):
        world.submit(name, retry={"max_attempts": 5})
    world.assign()
    world.fail("a")
    world.fail("b", fault=False)
    world.submit("t")
    assert world.started() == ["t"]


@pytest.mark.parametrize(("limit", "rests"), [("start_to_close", True), ("heartbeat", True), ("total", False)])
def test_a_limit_of_the_attempt_counts_and_one_of_the_task_does_not(limit: str, rests: bool) -> None:
    world = World(offer(slots=9), breaker_failures=1)
    world.submit("slow", timeouts={f"{limit}_s": 5}, retry={"max_attempts": 1})
    world.assign()
    world.tell("slow", c.ReportStarted(1, "ex-1"))
    world.after(60).tell("slow", c.FireTimers())
    world.submit("t")
    assert world.started() == ([] if rests else ["t"])


def test_attempts_lost_together_count_once() -> None:
    world = World(offer(slots=9), breaker_failures=2)
    world.submit("a", "b", "c", retry={"max_attempts": 1})
    world.assign()
    for name in "abc":
        world.lose(name)
    world.submit("t")
    assert world.started() == ["t"]


def test_where_one_executor_rests_another_works() -> None:
    world = broken()
    world.pool.hear(offer("ex-2"))
    world.submit("t")
    assert world.place() == "ex-2"


def lose_in_silence(world: World) -> None:
    """The executor is silent until it is lost with what it runs, and then comes back as it was."""
    for leases in [leases for _ in range(4) for leases in world.pool.beat().values()]:
        for task_id, _ in leases:
            world.lose(task_id)
    world.pool.hear(offer(slots=9))


def quarantined() -> World:
    world = World(offer(slots=9), quarantine_losses=2, quarantine_pause_s=60)
    for name in ("a", "b"):
        world.submit(name, f"{name}-too", retry={"max_attempts": 1})
        assert len(world.started()) == 2, "lost together counts once"
        lose_in_silence(world)
    return world


def test_an_executor_that_keeps_losing_attempts_gets_none_for_a_while() -> None:
    world = quarantined()
    world.submit("t")
    assert world.started() == []
    assert world.scheduler.seconds_to_next(world.now, 600) == 60
    assert world.after(59.9).started() == []
    assert world.after(0.1).started() == ["t"]


def test_a_new_start_ends_the_quarantine() -> None:
    world = quarantined()
    world.submit("t")
    world.pool.hear(offer(incarnation="b"))
    assert world.started() == ["t"]


def test_a_completed_attempt_makes_up_for_a_lost_one() -> None:
    world = World(offer(slots=9), quarantine_losses=2)
    for name in ("a", "b"):
        world.submit(name, retry={"max_attempts": 1})
        world.assign()
        lose_in_silence(world)
        world.submit(f"{name}-fine")
        assert world.started() == [f"{name}-fine"]
        world.complete(f"{name}-fine")


def test_silence_of_an_executor_without_work_is_no_loss() -> None:
    world = World(offer(slots=9), quarantine_losses=1)
    lose_in_silence(world)
    world.submit("t")
    assert world.started() == ["t"]


def test_what_is_remembered_is_bounded() -> None:
    health = Health(Policy(breaker_failures=2))
    for number in range(20_005):
        health.failed(f"ex-{number}", "echo", "t", "t")
        health.lost(f"ex-{number}")
    assert len(health.breakers) <= 10_000
    assert len(health.quarantines) <= 10_001
