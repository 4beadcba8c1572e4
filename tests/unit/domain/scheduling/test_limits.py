from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.scheduling.leases import Limit
from taskloom.domain.scheduling.limits import CATCH_UP_S, TokenBucket, share_of
from taskloom.domain.scheduling.policy import Rate
from taskloom.domain.task import commands as c
from tests.unit.domain.scheduling.test_scheduling import offer
from tests.unit.domain.scheduling.world import World

ONE = {"key": "k", "limit": 1}
MANY = frozenset({"echo", "shell"})


# Concurrency keys.


def test_a_key_lets_as_many_run_as_its_limit_and_the_others_of_the_line_pass() -> None:
    world = World(offer(slots=9))
    world.submit("a", "b", "c", concurrency={"key": "k", "limit": 2})
    world.submit("free")
    assert sorted(world.started()) == ["a", "b", "free"]
    world.complete("a")
    assert world.started() == ["c"]


def test_a_key_counts_over_kinds_and_each_task_goes_by_its_own_limit() -> None:
    world = World(offer(slots=9, kinds=MANY))
    world.submit("echo", kind="echo", concurrency=ONE)
    assert world.started() == ["echo"]
    world.submit("strict", kind="shell", concurrency=ONE)
    world.submit("loose", kind="shell", concurrency={"key": "k", "limit": 2})
    assert world.started() == ["loose"]


def test_the_same_key_of_another_tenant_is_another_key() -> None:
    world = World(offer(slots=9))
    world.submit("a", tenant="a", concurrency=ONE)
    world.submit("b", tenant="b", concurrency=ONE)
    assert sorted(world.started()) == ["a", "b"]


@pytest.mark.parametrize("end", ["complete", "fail", "lose", "decline", "refuse", "forget"])
def test_a_place_is_free_when_its_attempt_ends_however_it_ends(end: str) -> None:
    world = World(offer(slots=9))
    world.submit("a", "b", concurrency=ONE)
    if end == "refuse":
        assert [made.task_id for made in world.scheduler.assign(9, world.now)] == ["a"]
        world.tell("a", c.PauseTask())
    else:
        assert world.started() == ["a"]
        ends: dict[str, Callable[[], None]] = {
            "complete": lambda: world.complete("a"),
            "fail": lambda: world.fail("a"),
            "lose": lambda: world.lose("a"),
            "decline": lambda: world.tell("a", c.ReportDeclined(1, "ex-1")),
            "forget": lambda: world.scheduler.forget(["a"]),
        }
        ends[end]()
    assert world.started(1) == ["b"]
    assert world.scheduler.leases.count(Limit("key", "default", "k")) == 1


def test_leases_that_were_taken_over_count_too() -> None:
    world = World(offer(slots=9))
    world.submit("a", "b", concurrency=ONE)
    world.assign()
    heir = World(offer(slots=9))
    for task in world.tasks.values():
        heir.scheduler.observe(task.state)
    assert heir.started() == []
    assert len(heir.scheduler.ready) == 1


def test_tasks_that_a_key_holds_cost_a_round_nothing() -> None:
    world = World(offer(slots=9))
    world.submit(*(f"t{n}" for n in range(50)), concurrency=ONE)
    assert world.started() == ["t0"]
    [line] = world.scheduler.ready.lines()
    assert world.started() == []
    assert not line.levels, "the lane is parked beside the line"
    for task_id in [f"t{n}" for n in range(1, 50)]:
        world.tell(task_id, c.CancelTask())
    world.complete("t0")
    assert world.started() == []
    assert list(world.scheduler.ready.lines()) == []


@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), st.integers(1, 4), st.text("xyz", min_size=1, max_size=5))
def test_shares_add_up_to_the_limit_but_for_one_place_each(places: int, partitions: int, many: int, key: str) -> None:
    owned = [[p for p in range(partitions) if p % many == index] for index in range(min(many, partitions))]
    shares = [share_of(places, key, ours, partitions) for ours in owned]
    assert min(shares) >= 1
    assert places <= sum(shares) <= places + len(owned) - 1
    if places >= partitions:
        assert sum(shares) == places


# A queue's parallel attempts.


@given(
    places=st.integers(1, 100),
    partitions=st.sampled_from([8, 64]),
    doublings=st.integers(0, 3),
    key=st.text(max_size=9),
)
def test_as_many_places_as_orchestrators_or_more_are_shared_out_exactly(
    places: int, partitions: int, doublings: int, key: str
) -> None:
    many = 2**doublings
    each = partitions // many
    shares = [share_of(places, key, range(first, first + each), partitions) for first in range(0, partitions, each)]
    assert sum(shares) == max(places, many)


def test_a_queue_runs_no_more_at_once_than_its_limit() -> None:
    world = World(offer(slots=9, kinds=MANY, queues=frozenset({"*"})), queue_parallel={"slow": 2})
    world.submit("a", "b", queue="slow")
    world.submit("c", queue="slow", kind="shell")
    world.submit("other")
    assert sorted(world.started()) == ["a", "b", "other"]
    world.lose("b")
    assert world.started() == ["c"]


# Rates.


def test_a_queue_starts_no_more_in_a_second_than_its_rate() -> None:
    world = World(offer(slots=99), queue_rates={"default": Rate(10, burst=2)})
    world.submit(*(f"t{n}" for n in range(9)))
    assert world.started() == ["t0", "t1"]
    assert world.scheduler.seconds_to_next(world.now, 1) == pytest.approx(0.1)
    assert world.after(0.05).started() == []
    assert world.after(0.05).started() == ["t2"]
    assert world.after(60).started() == ["t3", "t4", "t5"], "a burst, and what a look may come late"


def test_a_rate_of_a_kind_holds_over_queues_and_leaves_other_kinds_alone() -> None:
    world = World(offer(slots=99, kinds=MANY, queues=frozenset({"*"})), kind_rates={"shell": Rate(1)})
    world.submit("a", kind="shell", queue="x")
    world.submit("b", kind="shell", queue="y")
    world.submit("c", "d")
    assert sorted(world.started()) == ["a", "c", "d"]
    assert world.after(1).started() == ["b"]


def test_nothing_is_spent_on_a_task_that_has_no_place() -> None:
    world = World(offer(slots=1), queue_rates={"default": Rate(1)})
    world.submit("a", "b")
    assert world.started() == ["a"]
    assert world.after(5).started() == []
    world.complete("a")
    assert world.started() == ["b"]


@given(st.floats(0.1, 1000), st.floats(1, 50), st.lists(st.floats(0, 5), max_size=50), st.sampled_from([0.25, 1.0]))
def test_starts_in_any_window_stay_below_burst_and_rate(
    per_s: float, burst: float, gaps: list[float], part: float
) -> None:
    bucket, now = TokenBucket(Rate(per_s, burst)), 0.0
    starts: list[float] = []
    for gap in gaps:
        now += gap
        while bucket.ready_at(now, part) <= now and len(starts) < 2000:
            bucket.take()
            starts.append(now)
    for first, begin in enumerate(starts[:50]):
        for last, end in list(enumerate(starts))[first:]:
            assert last - first + 1 <= burst + (end - begin + CATCH_UP_S) * per_s * part + 1.001


@given(st.floats(0.01, 1000), st.sampled_from([0.125, 0.5, 1.0]))
def test_the_moment_that_is_named_is_the_moment_it_opens(per_s: float, part: float) -> None:
    bucket, now = TokenBucket(Rate(per_s)), 1.7e9
    for _ in range(5):
        now = bucket.ready_at(now, part)
        assert bucket.ready_at(now, part) <= now + 1e-6
        bucket.take()


def test_a_rate_is_kept_although_each_look_comes_late() -> None:
    bucket, at, starts = TokenBucket(Rate(20, 1)), 1_000.0, 0
    while at < 1_010.0:
        ready = bucket.ready_at(at)
        if ready <= at:
            bucket.take()
            starts += 1
        else:
            at = ready + 0.04
    assert starts == pytest.approx(200, rel=0.02)


def test_what_nobody_waited_for_is_poured_away() -> None:
    bucket = TokenBucket(Rate(20, 2))
    for _ in range(2):
        assert bucket.ready_at(0.0) <= 0.0
        bucket.take()
    assert bucket.ready_at(0.0) > 0.0
    assert bucket.ready_at(0.1) <= 0.1
    bucket.take()
    bucket.ready_at(0.1)
    started = 0
    while bucket.ready_at(100.0) <= 100.0:
        bucket.take()
        started += 1
    assert started == 2
