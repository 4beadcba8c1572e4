"""The owned tasks' timers: a heap over the due times that the states name. The rows behind it are ``open_tasks``."""

from datetime import datetime
from heapq import heappop, heappush


class Timers:
    """Next due time of each task. Setting costs O(log n); a time that was replaced is skipped when it comes up."""

    def __init__(self) -> None:
        self._due: dict[str, datetime] = {}
        self._heap: list[tuple[datetime, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def set(self, task_id: str, due: datetime | None) -> None:
        if due is None:
            self._due.pop(task_id, None)
        elif self._due.get(task_id) != due:
            self._due[task_id] = due
            heappush(self._heap, (due, task_id))
            if len(self._heap) > 2 * len(self._due) + 1024:
                self._heap = sorted((at, name) for name, at in self._due.items())

    def take_due(self, now: datetime, limit: int) -> list[str]:
        """Up to ``limit`` tasks whose time has come, earliest first. They count as unset until set again."""
        taken: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < limit:
            due, task_id = heappop(self._heap)
            if self._due.get(task_id) == due:
                del self._due[task_id]
                taken.append(task_id)
        return taken

    def seconds_to_next(self, now: datetime, at_most: float) -> float:
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        if not self._heap:
            return at_most
        return min(at_most, max(0.0, (self._heap[0][0] - now).total_seconds()))
