"""Reads of what was retired. Another tenant's looks like none."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, LiteralString

from msgspec import Struct

from taskloom.views.reading import Pool, row, rows

TASK: Final[LiteralString] = """
SELECT task_id, version, counted, retired_at FROM retired_tasks
WHERE task_id = %(task)s AND tenant_id = %(tenant)s AND restored_at IS NULL
"""

OF_TASKS: Final[LiteralString] = """
SELECT task_id, version, counted, retired_at FROM retired_tasks WHERE task_id = ANY(%(tasks)s) AND restored_at IS NULL
"""

PARTS: Final[LiteralString] = """
SELECT task_id, part, up_to, retired_at FROM retired_parts WHERE task_id = ANY(%(tasks)s)
"""

HOURS: Final[LiteralString] = "SELECT before FROM retired_hours WHERE table_name = %(table)s"


class Retired(Struct, frozen=True):
    """A task without rows. ``version``: that it had when they went; ``counted``: events in the metrics."""

    task_id: str
    version: int
    counted: int
    retired_at: datetime


class Part(Struct, frozen=True):
    """Of a task's output, or its traces, what is gone: all up to this seq, or number."""

    up_to: int
    retired_at: datetime


async def get(pool: Pool, tenant_id: str, task_id: str) -> Retired | None:
    """None for a task that has its rows, is unknown, or another tenant's."""
    found = await row(pool, TASK, {"tenant": tenant_id, "task": task_id})
    return None if found is None else Retired(*found)


async def of_tasks(pool: Pool, task_ids: Sequence[str]) -> dict[str, Retired]:
    """Those of the tasks that have no rows, of any tenant."""
    return {found[0]: Retired(*found) for found in await rows(pool, OF_TASKS, {"tasks": list(task_ids)})}


async def parts_of(pool: Pool, task_ids: Sequence[str]) -> dict[tuple[str, str], Part]:
    """What is gone of the tasks, of any tenant, by task id and ``output`` or ``traces``."""
    found = await rows(pool, PARTS, {"tasks": list(task_ids)})
    return {(task_id, part): Part(*rest) for task_id, part, *rest in found}


async def hours_before(pool: Pool) -> datetime | None:
    """Sums of hours before this time are gone; None when all are kept."""
    found = await row(pool, HOURS, {"table": "metrics_hours"})
    return None if found is None else found[0]
