"""Ready tasks, waiting in the owner's memory: one line for each requirement, by priority, then age."""

from collections.abc import Iterator
from heapq import heappop, heappush

from taskloom.domain.scheduling.match import Requirement

Rank = tuple[int, float, int]
"""Smaller goes first: minus priority, time of queueing (Unix seconds), arrival."""


class ReadyQueues:
    """Lines of ready tasks. Adding and taking cost O(log n); leaving is lazy, paid when the line is next looked at."""

    def __init__(self) -> None:
        self._lines: dict[Requirement, list[tuple[Rank, str]]] = {}
        self._waiting: dict[str, tuple[Requirement, Rank]] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._waiting

    def add(self, task_id: str, requirement: Requirement, priority: int, queued_at: float) -> None:
        """Puts a task into its line; a task that waits already moves to its new place."""
        self._arrivals += 1
        rank = (-priority, queued_at, self._arrivals)
        self._waiting[task_id] = (requirement, rank)
        heappush(self._lines.setdefault(requirement, []), (rank, task_id))

    def discard(self, task_id: str) -> None:
        self._waiting.pop(task_id, None)

    def heads(self) -> Iterator[tuple[Rank, Requirement]]:
        """The first rank of every line that is not empty; lines that became empty are dropped."""
        for requirement in list(self._lines):
            rank = self.head(requirement)
            if rank is not None:
                yield rank, requirement

    def head(self, requirement: Requirement) -> Rank | None:
        """Rank of the line's first task, None when nobody waits there."""
        line = self._lines.get(requirement, [])
        while line and self._waiting.get(line[0][1]) != (requirement, line[0][0]):
            heappop(line)
        if line:
            return line[0][0]
        self._lines.pop(requirement, None)
        return None

    def take(self, requirement: Requirement) -> str:
        """Removes and gives the line's first task; call ``head`` before."""
        _, task_id = heappop(self._lines[requirement])
        del self._waiting[task_id]
        return task_id

    def ahead_of(self, task_id: str, limit: int = 10) -> tuple[int, list[str]]:
        """How many tasks of the same line go first, and up to ``limit`` of them. Costs a walk through the line."""
        found = self._waiting.get(task_id)
        if found is None:
            return 0, []
        requirement, rank = found
        first = [
            (other, name)
            for other, name in self._lines.get(requirement, [])
            if other < rank and self._waiting.get(name) == (requirement, other)
        ]
        return len(first), [name for _, name in sorted(first)[:limit]]
