"""Many tasks and executors in any order, against a model that counts by looking at every task.

All tasks are of one tenant and one moment, so the model's order is priority, then arrival; while some have keys, which
take turns, only priority. Turns, ageing and deadlines have tests of their own.
"""

from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.match import ExecutorOffer, mismatches, requirement_of
from taskloom.domain.scheduling.policy import Policy
from taskloom.domain.scheduling.rebalance import moves
from taskloom.domain.scheduling.scheduler import Scheduler
from taskloom.domain.task import commands as c
from taskloom.domain.task.directives import RECALLED
from taskloom.domain.values import Resources
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from tests.unit.domain.task.lives import BOOM, submit

TASKS = st.integers(0, 7)
EXECUTORS = st.sampled_from(["ex-1", "ex-2"])
KINDS = st.sampled_from(["echo", "echo", "shell"])
LIMITS = st.sampled_from([None, {"key": "k", "limit": 1}, {"key": "k", "limit": 2}])
NEAR = st.sampled_from([None, None, {"to": "key", "key": "n", "wait_s": 0}])
CORES = st.sampled_from([0, 0, 2])
HAS = Resources(cpu_cores=3)
PARALLEL = 4


class Scheduling(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = ExecutorPool(partitions=1, lost_after_beats=3)
        self.pool.own([0])
        self.scheduler = Scheduler(self.pool, Policy(queue_parallel={"default": PARALLEL}))
        self.tasks: dict[int, GivenTask] = {}
        self.offers: dict[str, ExecutorOffer] = {}
        self.arrivals: dict[int, int] = {}
        self.arriving = count()

    @rule(number=TASKS, kind=KINDS, priority=st.integers(1, 5), concurrency=LIMITS, cores=CORES, near=NEAR)
    def submit(
        self,
        number: int,
        kind: str,
        priority: int,
        concurrency: dict[str, Any] | None,
        cores: int,
        near: dict[str, Any] | None,
    ) -> None:
        if number in self.tasks:
            return
        self.tasks[number] = GivenTask(f"t{number}")
        more: dict[str, Any] = {} if concurrency is None else {"concurrency": concurrency}
        more |= {} if near is None else {"affinity": near}
        more |= {"resources": {"cpu_cores": cores}} if cores else {}
        self.apply(number, submit(kind=kind, priority=priority, retry={"initial_s": 0, "max_attempts": 1000}, **more))

    @rule(
        executor_id=EXECUTORS,
        incarnation=st.sampled_from("ab"),
        slots=st.integers(0, 4),
        prefetch=st.sampled_from([0, 0, 2]),
        kind=KINDS,
    )
    def hear(self, executor_id: str, incarnation: str, slots: int, prefetch: int, kind: str) -> None:
        serves = (frozenset({kind}), frozenset({"default"}))
        offer = ExecutorOffer(executor_id, incarnation, *serves, slots=slots, prefetch=prefetch, resources=HAS)
        self.offers[executor_id] = offer
        self.lose(self.pool.hear(offer))

    @rule()
    def beat(self) -> None:
        for executor_id, leases in self.pool.beat().items():
            self.offers.pop(executor_id, None)
            self.lose(leases)

    @rule(executor_id=EXECUTORS)
    def leave(self, executor_id: str) -> None:
        offer = self.offers.pop(executor_id, None)
        if offer is not None:
            self.lose(self.pool.leave(executor_id, offer.incarnation))

    @rule(limit=st.integers(1, 5))
    def assign(self, limit: int) -> None:
        expected = self.best_task()
        waiting = [t for t in self.tasks.values() if t.state.dispatchable]
        assignments = self.scheduler.assign(limit, START)
        if all(t.state.spec.concurrency is None and t.state.spec.affinity is None for t in waiting):
            assert (assignments[0].task_id if assignments else None) == expected
        assert bool(assignments) == (expected is not None)
        priorities = [self.tasks[int(made.task_id[1:])].state.spec.priority for made in assignments]
        assert not assignments or priorities[0] == self.tasks[int(str(expected)[1:])].state.spec.priority
        assert len(assignments) <= limit
        for made in assignments:
            number = int(made.task_id[1:])
            offer = self.offers[made.executor_id]
            assert offer.incarnation == made.incarnation
            assert self.waits_and_fits(self.tasks[number]), "a gate was passed over"
            self.apply(number, c.AssignAttempt(made.executor_id, made.incarnation))
        if len(assignments) < limit:
            assert self.best_task() is None, "a task and a slot for it were left apart"

    @rule(limit=st.integers(1, 3), declines=st.booleans())
    def rebalance(self, limit: int, declines: bool) -> None:
        free = {name: offer.slots - self.used(offer) for name, offer in self.offers.items()}
        for _, target in self.scheduler.recalls.values():
            free[target] -= target in self.offers
        made = moves(self.scheduler, [t.state for t in self.tasks.values()], limit)
        assert len(made) <= limit
        for recall in made:
            state = self.tasks[int(recall.task_id[1:])].state
            source, target = self.scheduler.recalls[recall.task_id]
            free[target] -= 1
            assert state.phase == "assigned", "what has started moved"
            assert state.live is not None
            assert (state.live.number, state.live.executor_id) == (recall.attempt, source)
            assert not mismatches(requirement_of(state.spec), self.offers[target])
            assert free[target] >= 0, "a slot was promised twice"
            assert self.used(self.offers[source]) > self.offers[source].slots, "it had a slot where it was"
        if declines:
            for recall in made:
                answer = c.ReportDeclined(recall.attempt, recall.executor_id, RECALLED)
                self.apply(int(recall.task_id[1:]), answer)

    @rule(
        number=TASKS, how=st.sampled_from(["start", "complete", "fail", "decline", "pause", "resume", "cancel", "fire"])
    )
    def happen(self, number: int, how: str) -> None:
        task = self.tasks.get(number)
        if task is None:
            return
        live = task.state.live
        at = (task.state.attempts or 1, "ex-1" if live is None else live.executor_id)
        commands: dict[str, c.TaskCommand] = {
            "start": c.ReportStarted(*at),
            "complete": c.ReportCompleted(*at),
            "fail": c.ReportFailed(*at, error=BOOM),
            "decline": c.ReportDeclined(*at),
            "pause": c.PauseTask(),
            "resume": c.ResumeTask(),
            "cancel": c.CancelTask(),
            "fire": c.FireTimers(),
        }
        self.apply(number, commands[how])

    @invariant()
    def leases_are_the_live_attempts(self) -> None:
        live = [t.state for t in self.tasks.values() if t.state.live is not None]
        for executor_id, offer in self.offers.items():
            assert self.pool.leases_of(executor_id, offer.incarnation) == {
                (s.task_id, s.live.number)
                for s in live
                if s.live and (s.live.executor_id, s.live.incarnation) == (executor_id, offer.incarnation)
            }

    @invariant()
    def lines_hold_the_ready_tasks(self) -> None:
        waiting = {t.task_id for t in self.tasks.values() if t.state.dispatchable}
        assert len(self.scheduler.ready) == len(waiting)
        assert all(task_id in self.scheduler.ready for task_id in waiting)

    @invariant()
    def only_what_has_not_started_is_called_back(self) -> None:
        assigned = {t.task_id for t in self.tasks.values() if t.state.phase == "assigned"}
        assert self.scheduler.recalls.keys() <= assigned

    def best_task(self) -> str | None:
        """The waiting task that fits a free slot and comes first: by priority, then age, then arrival in its line."""
        fitting = [(self.rank(number), t.task_id) for number, t in self.tasks.items() if self.waits_and_fits(t)]
        return min(fitting)[1] if fitting else None

    def rank(self, number: int) -> tuple[int, float, int]:
        state = self.tasks[number].state
        assert state.queued_at is not None
        return -state.spec.priority, state.queued_at.timestamp(), self.arrivals[number]

    def waits_and_fits(self, task: GivenTask) -> bool:
        return task.state.dispatchable and self.fits(task)

    def fits(self, task: GivenTask) -> bool:
        requirement = requirement_of(task.state.spec)
        limit, live = task.state.spec.concurrency, [t.state for t in self.tasks.values() if t.state.live]
        if (
            limit is not None
            and [s.spec.concurrency and s.spec.concurrency.key for s in live].count(limit.key) >= limit.limit
        ):
            return False
        return len(live) < PARALLEL and any(
            not mismatches(requirement, offer)
            and self.used(offer) < offer.slots + offer.prefetch
            and self.cores(offer) + task.state.spec.resources.cpu_cores <= 3
            for offer in self.offers.values()
        )

    def cores(self, offer: ExecutorOffer) -> float:
        """Cores in use there, by this incarnation's attempts."""
        here = (offer.executor_id, offer.incarnation)
        live = [t.state for t in self.tasks.values() if t.state.live]
        return sum(
            s.spec.resources.cpu_cores for s in live if s.live and (s.live.executor_id, s.live.incarnation) == here
        )

    def used(self, offer: ExecutorOffer) -> int:
        places = [(t.state.live.executor_id, t.state.live.incarnation) for t in self.tasks.values() if t.state.live]
        return places.count((offer.executor_id, offer.incarnation))

    def lose(self, leases: list[tuple[str, int]]) -> None:
        for task_id, attempt in leases:
            number = int(task_id[1:])
            live = self.tasks[number].state.live
            assert live is not None
            assert live.number == attempt, "a lease outlived its attempt"
            self.apply(number, c.LoseAttempt(attempt, "gone"))

    def apply(self, number: int, command: c.TaskCommand) -> None:
        task = self.tasks[number]
        waited = bool(task.history) and task.state.dispatchable
        task.when(command)
        if task.state.dispatchable and not waited:
            self.arrivals[number] = next(self.arriving)
        self.scheduler.observe(self.tasks[number].state)


Scheduling.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestScheduling = Scheduling.TestCase
