"""Who runs next and where: keeps lines and leases in step with the states, and pairs ready tasks with free slots."""

from collections.abc import Iterable
from heapq import heapify, heappop, heapreplace

from msgspec import Struct

from taskloom.domain.scheduling.executors import ExecutorPool
from taskloom.domain.scheduling.match import requirement_of
from taskloom.domain.scheduling.queues import ReadyQueues
from taskloom.domain.task.state import TaskState


class Assignment(Struct, frozen=True):
    """A pairing that the task has yet to accept (``AssignAttempt``)."""

    task_id: str
    executor_id: str
    incarnation: str


class Scheduler:
    """Follows the states of the owned partitions' open tasks; holds nothing that cannot be rebuilt from them."""

    def __init__(self, pool: ExecutorPool) -> None:
        self.pool = pool
        self.ready = ReadyQueues()
        self._leases: dict[str, tuple[str, str, int]] = {}
        self.more = False

    def observe(self, state: TaskState) -> None:
        """Brings line and lease of one task in step with its new state."""
        task_id, live = state.task_id, state.live
        held = self._leases.get(task_id)
        wanted = None if live is None else (live.executor_id, live.incarnation, live.number)
        if held != wanted:
            if held is not None:
                self.pool.release(held[0], held[1], (task_id, held[2]))
                del self._leases[task_id]
            if wanted is not None:
                self.pool.lease(wanted[0], wanted[1], (task_id, wanted[2]))
                self._leases[task_id] = wanted
        if not state.dispatchable:
            self.ready.discard(task_id)
        elif task_id not in self.ready:
            queued_at = (state.queued_at or state.submitted_at).timestamp()
            self.ready.add(task_id, requirement_of(state.spec), state.spec.priority, queued_at)

    def forget(self, task_ids: Iterable[str]) -> None:
        """Drops tasks whose partition went to another owner."""
        for task_id in task_ids:
            self.ready.discard(task_id)
            held = self._leases.pop(task_id, None)
            if held is not None:
                self.pool.release(held[0], held[1], (task_id, held[2]))

    def assign(self, limit: int) -> list[Assignment]:
        """Takes up to ``limit`` ready tasks out of their lines and pairs them with executors, best rank first.

        A lease is held from here on; ``observe`` of the task's next state confirms or releases it. ``more`` says
        whether the limit cut the round short.
        """
        self.more = False
        if not self.ready:
            return []
        heads = [(rank, id(requirement), requirement) for rank, requirement in self.ready.heads()]
        heapify(heads)
        assignments: list[Assignment] = []
        while heads and len(assignments) < limit:
            _, tie, requirement = heads[0]
            offer = self.pool.best(requirement)
            if offer is None:
                heappop(heads)
                continue
            task_id = self.ready.take(requirement)
            self._hold(task_id, offer.executor_id, offer.incarnation)
            assignments.append(Assignment(task_id, offer.executor_id, offer.incarnation))
            following = self.ready.head(requirement)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, (following, tie, requirement))
        self.more = bool(heads)
        return assignments

    def _hold(self, task_id: str, executor_id: str, incarnation: str) -> None:
        self.pool.lease(executor_id, incarnation, (task_id, 0))
        self._leases[task_id] = (executor_id, incarnation, 0)
