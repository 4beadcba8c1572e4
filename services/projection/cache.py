"""Rows of open tasks in memory, so that the next event of a task needs no read."""

from collections import OrderedDict
from collections.abc import Iterable

from taskloom.views.steps.shape import Shapes
from taskloom.views.task_executions.row import Row


class RowCache:
    """The most recently changed rows, at most ``limit``; the one unchanged for longest falls out and is read again.

    Holds only what is committed. An ended task is not kept: hardly an event follows its end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._retired: OrderedDict[str, Row] = OrderedDict()
        self.shapes = Shapes()
        """Those of workflows' runs, by which their events are read."""

    def get(self, task_id: str) -> Row | None:
        return self._rows.get(task_id)

    def put(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._rows.pop(row.task_id, None)
            if row.completed_at is None:
                self._rows[row.task_id] = row
        while len(self._rows) > self._limit:
            self._rows.popitem(last=False)

    def retired(self, task_id: str, version: int) -> Row | None:
        """What the events of a retired task lead to, up to this version; it is in no table."""
        row = self._retired.get(task_id)
        return row if row is not None and row.version == version else None

    def put_retired(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._retired.pop(row.task_id, None)
            self._retired[row.task_id] = row
        while len(self._retired) > self._limit:
            self._retired.popitem(last=False)

    def clear(self) -> None:
        self._rows.clear()
        self._retired.clear()

    def __len__(self) -> int:
        return len(self._rows)
