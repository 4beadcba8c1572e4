"""A scheduler with a clock, and tasks that run through it in a few words."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.gates import Gate
from taskloom.domain.scheduling.health import Health
from taskloom.domain.scheduling.match import ExecutorOffer
from taskloom.domain.scheduling.policy import Policy
from taskloom.domain.scheduling.queues import ReadyQueues
from taskloom.domain.scheduling.scheduler import Assignment, Scheduler
from taskloom.domain.scheduling.why import explain
from taskloom.domain.task import commands as c
from taskloom.domain.values import ErrorInfo
from taskloom.testing.clock import START
from taskloom.testing.given import GivenTask
from tests.unit.domain.task.lives import submit


def take_first(queues: ReadyQueues, now: float = 0) -> str:
    """Takes the task of the best rank of all lines out; empty when none waits."""
    levels = [level for line in queues.lines() for level in tuple(line.levels.values())]
    ranks = [rank for level in levels if (rank := queues.rank(level, now))]
    return queues.take(min(ranks)[4]).task_id if ranks else ""


class World:
    """``rules`` are fields of ``Policy``. Time begins at ``START`` and moves by ``after``."""

    def __init__(self, *offers: ExecutorOffer, owned: Iterable[int] = (0,), partitions: int = 1, **rules: Any) -> None:
        policy = Policy(**rules)
        self.pool = ExecutorPool(partitions, health=Health(policy))
        self.pool.own(list(owned))
        for offer in offers:
            self.pool.hear(offer)
        self.scheduler = Scheduler(self.pool, policy)
        self.tasks: dict[str, GivenTask] = {}
        self.now: datetime = START

    def after(self, seconds: float) -> "World":
        self.now += timedelta(seconds=seconds)
        return self

    def submit(self, *task_ids: str, tenant: str = "default", **fields: Any) -> None:
        for task_id in task_ids:
            self.tasks[task_id] = GivenTask(task_id, tenant_id=tenant, at=self.now)
            self.tell(task_id, submit(**fields))

    def tell(self, task_id: str, command: c.TaskCommand, **caller: Any) -> None:
        """The task decides on a command now, and the scheduler sees its new state."""
        task = self.tasks[task_id]
        task.when(command, after_s=(self.now - task.clock.now).total_seconds(), **caller)
        self.scheduler.observe(task.state)

    def assign(self, limit: int = 100) -> list[Assignment]:
        """One round; every pairing is accepted by its task."""
        made = self.scheduler.assign(limit, self.now)
        for each in made:
            self.tell(each.task_id, c.AssignAttempt(each.executor_id, each.incarnation))
        return made

    def started(self, limit: int = 100) -> list[str]:
        """Ids of the tasks that one round let go, in their order."""
        return [each.task_id for each in self.assign(limit)]

    def place(self) -> str:
        """Where one round put its only task; empty when it put none."""
        made = self.assign()
        assert len(made) <= 1
        return made[0].executor_id if made else ""

    def complete(self, *task_ids: str) -> None:
        for task_id in task_ids:
            self._report(task_id, c.ReportCompleted)

    def fail(self, task_id: str, **error: Any) -> None:
        """A crash, unless ``error`` says otherwise."""
        self._report(task_id, c.ReportFailed, error=ErrorInfo("Boom", "boom", **{"fault": True, **error}))

    def lose(self, task_id: str) -> None:
        live = self.tasks[task_id].state.live
        assert live is not None
        self.tell(task_id, c.LoseAttempt(live.number, "gone"))

    def again(self, task_id: str) -> None:
        """The pause before a retry is over."""
        due = self.tasks[task_id].state.retry_at
        assert due is not None
        self.now = max(self.now, due)
        self.tell(task_id, c.FireTimers())

    def gates(self, task_id: str) -> dict[str, Gate]:
        return {gate.gate: gate for gate in self.why(task_id).gates}

    def why(self, task_id: str) -> Any:
        return explain(self.tasks[task_id].state, self.scheduler, self.now)

    def _report(self, task_id: str, report: Any, **fields: Any) -> None:
        live = self.tasks[task_id].state.live
        assert live is not None
        name = f"report-{task_id}-{live.number}"
        self.tell(task_id, report(live.number, live.executor_id, **fields), command_id=name)
