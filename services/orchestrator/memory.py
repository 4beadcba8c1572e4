"""The states that the owner of a partition keeps in memory: every open task, and the lately ended ones."""

from collections import OrderedDict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Final

from taskloom.domain.entities.ids import is_entity_id
from taskloom.domain.task.state import TaskState
from taskloom.wire.topics import partition_of

ENDED_RUNS_KEPT: Final = 200


class Memory:
    """States of owned partitions. Open tasks stay (admission bounds them); of the ended ones the newest ``ended_kept``,
    of workflows that ended badly, which keep their steps for a retry, the newest 200: others are read from the store.

    ``rows`` mirrors the open-task rows in PostgreSQL: task id to its stored due time.
    """

    def __init__(self, partitions: int, ended_kept: int) -> None:
        self._partitions = partitions
        self._ended_kept = ended_kept
        self._open: dict[str, TaskState] = {}
        self._ended: OrderedDict[str, TaskState] = OrderedDict()
        self._ended_runs: OrderedDict[str, None] = OrderedDict()
        self.rows: dict[str, datetime | None] = {}

    def get(self, task_id: str) -> TaskState | None:
        return self._open.get(task_id) or self._ended.get(task_id)

    def missing(self, task_ids: Iterable[str]) -> list[str]:
        return [name for name in dict.fromkeys(task_ids) if name not in self._open and name not in self._ended]

    def put(self, state: TaskState) -> None:
        if not state.ended:
            self._open[state.task_id] = state
            self._ended.pop(state.task_id, None)  # It was retried.
            self._ended_runs.pop(state.task_id, None)
            return
        self._open.pop(state.task_id, None)
        self._ended[state.task_id] = state
        self._ended.move_to_end(state.task_id)
        while len(self._ended) > self._ended_kept:
            gone, _ = self._ended.popitem(last=False)
            self._ended_runs.pop(gone, None)
        if state.run is not None:
            self._ended_runs[state.task_id] = None
            self._ended_runs.move_to_end(state.task_id)
            while len(self._ended_runs) > ENDED_RUNS_KEPT:
                self._ended.pop(self._ended_runs.popitem(last=False)[0], None)

    def open_states(self) -> Collection[TaskState]:
        return self._open.values()

    def drop_rows(self, partitions: Collection[int]) -> list[str]:
        """Forgets the rows of these partitions whose state is not in memory: timers of entities. Gives their ids."""
        gone = [name for name in self.rows if is_entity_id(name) and partition_of(name, self._partitions) in partitions]
        for name in gone:
            del self.rows[name]
        return gone

    def drop(self, partitions: Collection[int]) -> list[str]:
        """Forgets everything of these partitions; gives the task ids that were open."""
        gone = [name for name in self._open if partition_of(name, self._partitions) in partitions]
        for name in gone:
            del self._open[name]
            self.rows.pop(name, None)
        for name in [name for name in self._ended if partition_of(name, self._partitions) in partitions]:
            del self._ended[name]
            self._ended_runs.pop(name, None)
        return gone
