from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.match import ExecutorOffer, Requirement, mismatches
from taskloom.domain.scheduling.queues import ReadyQueues
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from tests.unit.domain.scheduling.world import take_first
from tests.unit.domain.task.lives import submit

ALL_GATES = ["executor", "queue", "kind", "capability", "label"]
ECHO = Requirement("default", "echo")


def offer(executor_id: str = "ex-1", incarnation: str = "a", **fields: Any) -> ExecutorOffer:
    known: dict[str, Any] = {"kinds": frozenset({"echo"}), "queues": frozenset({"default"}), "slots": 1, **fields}
    return ExecutorOffer(executor_id, incarnation, **known)


def scheduler(*offers: ExecutorOffer) -> Scheduler:
    pool = ExecutorPool(partitions=1)
    pool.own([0])
    for each in offers:
        pool.hear(each)
    return Scheduler(pool)


def ready(task_id: str, **fields: Any) -> GivenTask:
    task = GivenTask(task_id)
    task.when(submit(**fields))
    return task


def drained(queues: ReadyQueues, now: float = 0) -> list[str]:
    """Takes everything out of all lines, best rank first."""
    return list(iter(lambda: take_first(queues, now), ""))


# Lines.


def test_higher_priority_goes_first_then_age_then_arrival() -> None:
    queues = ReadyQueues()
    for name, priority, at in [("old", 2, 1), ("late", 2, 5), ("urgent", 4, 9), ("later", 2, 5)]:
        queues.add(name, ECHO, priority, at)
    order = drained(queues)
    assert order == ["urgent", "old", "late", "later"]
    assert len(queues) == 0


def test_a_task_that_left_its_line_is_passed_over() -> None:
    queues = ReadyQueues()
    for name in "abc":
        queues.add(name, ECHO, 2, 0)
    queues.discard("a")
    queues.discard("unknown")
    assert take_first(queues) == "b"
    assert ("a" in queues, "c" in queues, len(queues)) == (False, True, 1)


def test_a_task_that_waits_already_moves_to_its_new_place() -> None:
    queues = ReadyQueues()
    queues.add("a", ECHO, 2, 0)
    queues.add("b", ECHO, 2, 1)
    queues.add("a", ECHO, 2, 2)
    assert drained(queues) == ["b", "a"]
    assert list(queues.lines()) == []


# Matching.


@pytest.mark.parametrize(
    ("requirement", "gates"),
    [
        (ECHO, []),
        (Requirement("default", "echo", "ex-1", ("gpu",), (("zone", "a"),)), []),
        (Requirement("default", "echo", "ex-2"), ["executor"]),
        (Requirement("slow", "echo"), ["queue"]),
        (Requirement("default", "shell"), ["kind"]),
        (Requirement("default", "echo", "", ("gpu", "ssd")), ["capability"]),
        (Requirement("default", "echo", "", (), (("zone", "b"),)), ["label"]),
        (
            Requirement("slow", "shell", "ex-2", ("x",), (("y", "z"),)),
            ["executor", "queue", "kind", "capability", "label"],
        ),
    ],
)
def test_every_gate_that_keeps_an_executor_away_is_named(requirement: Requirement, gates: list[str]) -> None:
    has = offer(capabilities=frozenset({"gpu"}), labels={"zone": "a"})
    assert mismatches(requirement, has) == gates


def test_an_executor_may_serve_every_queue() -> None:
    assert mismatches(Requirement("any", "echo"), offer(queues=frozenset({"*"}))) == []


# Pairing.


def test_tasks_go_to_free_slots_best_rank_first() -> None:
    it = scheduler(offer(slots=2))
    for name, priority in [("low", 1), ("high", 3), ("normal", 2)]:
        it.observe(ready(name, priority=priority).state)
    assert [a.task_id for a in it.assign(10, START)] == ["high", "normal"]
    assert it.assign(10, START) == []
    assert not it.more


def test_a_line_that_nobody_serves_does_not_block_another() -> None:
    it = scheduler(offer())
    it.observe(ready("stuck", kind="shell", priority=5).state)
    it.observe(ready("free", priority=1).state)
    assert [a.task_id for a in it.assign(10, START)] == ["free"]
    assert "stuck" in it.ready


def test_work_spreads_over_executors_by_their_free_share() -> None:
    it = scheduler(offer("ex-1", slots=4), offer("ex-2", slots=2))
    for number in range(6):
        it.observe(ready(f"t{number}").state)
    places = [a.executor_id for a in it.assign(10, START)]
    assert (places.count("ex-1"), places.count("ex-2")) == (4, 2)
    assert set(places[:2]) == {"ex-1", "ex-2"}


def test_a_round_that_was_cut_short_says_so() -> None:
    it = scheduler(offer(slots=10))
    for number in range(3):
        it.observe(ready(f"t{number}").state)
    assert len(it.assign(2, START)) == 2
    assert it.more
    assert len(it.assign(2, START)) == 1
    assert not it.more


def test_a_lease_is_released_by_every_end_of_its_attempt() -> None:
    ends: list[c.TaskCommand] = [
        c.ReportCompleted(1, "ex-1"),
        c.ReportFailed(1, "ex-1", error=ErrorInfo("X", "x")),
        c.ReportTimedOut(1, "ex-1", "start_to_close", 300),
        c.ReportDeclined(1, "ex-1"),
        c.LoseAttempt(1, "gone"),
    ]
    for end in ends:
        it, task = scheduler(offer()), ready("t")
        it.observe(task.state)
        assert len(it.assign(1, START)) == 1
        assert it.pool.best(ECHO) is None, "the slot is held as soon as the pairing is made"
        task.when(c.AssignAttempt("ex-1", "a"))
        it.observe(task.state)
        assert it.pool.leases_of("ex-1", "a") == {("t", 1)}
        assert task.when(end).events
        it.observe(task.state)
        assert it.pool.leases_of("ex-1", "a") == set(), end


def test_a_pairing_that_the_task_refused_frees_the_slot() -> None:
    it, task = scheduler(offer()), ready("t")
    it.observe(task.state)
    it.assign(1, START)
    task.when(c.PauseTask())
    it.observe(task.state)
    assert it.pool.best(ECHO) is not None
    assert "t" not in it.ready


def test_forgotten_tasks_leave_lines_and_slots() -> None:
    it = scheduler(offer())
    for name in "ab":
        it.observe(ready(name).state)
    it.assign(1, START)
    it.forget(["a", "b", "unknown"])
    assert len(it.ready) == 0
    assert it.pool.leases_of("ex-1", "a") == set()


@pytest.mark.parametrize("fields", [{"ready": False}, {"slots": 0}])
def test_an_executor_that_drains_or_is_full_gets_nothing(fields: dict[str, Any]) -> None:
    it = scheduler(offer(**fields))
    it.observe(ready("t").state)
    assert it.assign(1, START) == []


def test_a_refusal_holds_until_the_next_heartbeat() -> None:
    it = scheduler(offer())
    it.pool.refuse("ex-1")
    it.pool.refuse("unknown")
    assert it.pool.best(ECHO) is None
    it.pool.hear(offer())
    assert it.pool.best(ECHO) == offer()


# Executors.


def test_silence_is_counted_in_beats_and_a_sign_of_life_starts_anew() -> None:
    pool = ExecutorPool(1, lost_after_beats=3)
    pool.hear(offer())
    pool.lease("ex-1", "a", ("t", 1))
    assert [pool.beat(), pool.beat()] == [{}, {}]
    pool.hear(offer())
    assert [pool.beat(), pool.beat(), pool.beat()] == [{}, {}, {"ex-1": [("t", 1)]}]
    assert pool.beat() == {}


def test_another_incarnation_loses_the_attempts_of_the_one_before() -> None:
    pool = ExecutorPool(1)
    pool.hear(offer())
    pool.lease("ex-1", "a", ("t", 1))
    assert pool.hear(offer(incarnation="b")) == [("t", 1)]
    assert pool.leases_of("ex-1", "b") == set()
    assert pool.leases_of("ex-1", "a") == set()


def test_an_executor_that_says_good_bye_leaves_its_attempts() -> None:
    pool = ExecutorPool(1)
    pool.hear(offer())
    pool.lease("ex-1", "a", ("t", 1))
    assert pool.leave("ex-1", "other") == []
    assert pool.leave("ex-1", "a") == [("t", 1)]
    assert pool.leave("ex-1", "a") == []


def test_attempts_taken_over_wait_for_their_executor_as_long_as_any_other() -> None:
    pool = ExecutorPool(1, lost_after_beats=2)
    for executor_id in ("heard", "silent", "restarted"):
        pool.lease(executor_id, "a", (f"on-{executor_id}", 1))
    assert pool.beat() == {}
    assert pool.hear(offer("heard")) == []
    assert pool.leases_of("heard", "a") == {("on-heard", 1)}
    assert pool.hear(offer("restarted", "b")) == [("on-restarted", 1)]
    assert pool.beat() == {"silent": [("on-silent", 1)]}


def test_an_attempt_taken_over_that_ends_meanwhile_is_no_orphan_any_more() -> None:
    pool = ExecutorPool(1, lost_after_beats=1)
    pool.lease("ex-1", "a", ("t", 1))
    pool.release("ex-1", "a", ("t", 1))
    assert pool.beat() == {}


@given(
    st.sampled_from([1, 2, 4, 8, 16]),
    st.integers(1, 6),
    st.integers(0, 100),
    st.integers(0, 20),
    st.text("abc-", min_size=1, max_size=9),
)
def test_shares_of_all_orchestrators_fit_into_the_executor_and_nobody_starves(
    partitions: int, orchestrators: int, slots: int, prefetch: int, executor_id: str
) -> None:
    owned = [[p for p in range(partitions) if p % orchestrators == index] for index in range(orchestrators)]
    shares = []
    for ours in owned:
        pool = ExecutorPool(partitions)
        pool.hear(offer(executor_id, slots=slots, prefetch=prefetch))
        pool.own(ours)
        shares.append(next(iter(pool.standings())).usable)
    places = slots + prefetch
    busy = [share for share, ours in zip(shares, owned, strict=True) if ours]
    assert all(share >= (1 if places else 0) for share in busy)
    assert sum(shares) - sum(busy) == 0, "who owns nothing uses nothing"
    if places >= partitions:
        assert sum(shares) == places
    if len(busy) == 1:
        assert busy == [places]


def test_a_matching_is_forgotten_when_an_executor_changes_its_offer() -> None:
    it = scheduler(offer())
    shell = Requirement("default", "shell")
    assert it.pool.best(shell) is None
    it.pool.hear(offer(kinds=frozenset({"echo", "shell"})))
    assert it.pool.best(shell) is not None
    assert it.pool.leave("ex-1", "a") == []
    assert it.pool.best(shell) is None


def test_requirements_of_different_tasks_make_different_lines() -> None:
    it = scheduler()
    for index, (kind, queue) in enumerate(product(["echo", "shell"], ["default", "slow"])):
        it.observe(ready(f"t{index}", kind=kind, queue=queue).state)
    assert len(list(it.ready.lines())) == 4
