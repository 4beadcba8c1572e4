"""Retired tasks: they have ended, have no rows, and all of their events are in the metrics."""

from collections.abc import Collection, Sequence

from taskloom.replay import verify_sql as sql
from taskloom.replay.verify_steps import Faults
from taskloom.views.reading import Pool, rows
from taskloom.views.retired.query import Retired
from taskloom.views.task_executions.row import Row


async def left_of(pool: Pool, task_ids: Sequence[str]) -> dict[str, list[str]]:
    """The tables, other than that of tasks, that hold something of these tasks, by task id."""
    found: dict[str, list[str]] = {}
    if task_ids:
        for task_id, table in await rows(pool, sql.LEFT, {"tasks": list(task_ids)}):
            found.setdefault(task_id, []).append(table)
    return found


def retired_faults(stone: Retired, stored: Row | None, expected: Row, left: Collection[str]) -> Faults:
    """What is stored and what should be, by where they differ; empty when all is well. ``expected``: what the task's
    events fold to."""
    faults: Faults = {}
    if stored is not None:
        faults["read row"] = ("a row", "none: it was retired")
    for table in sorted(left):
        faults[table] = ("rows", "none: it was retired")
    if not expected.ended:
        faults["retired"] = ("no rows", f"a row: it is {expected.state}")
    if stone.counted != expected.version:
        faults["counted"] = (stone.counted, expected.version)
    return faults
