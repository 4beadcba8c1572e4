"""Tasks that were given to an agent: commands and containers that name the executor they have to run on."""

from datetime import datetime
from typing import Final

from taskloom.views.reading import Pool, rows
from taskloom.views.task_executions.query import LIGHT, row_of
from taskloom.views.task_executions.row import Row

AGENT_KINDS: Final = ("shell", "docker")

# Literals where the partial index has them: the planner takes it only when its condition is plainly met. Materialized,
# since with the limit in view it would rather walk through the newest tasks until it has met enough that fit.
LIST: Final = f"""
WITH lately AS MATERIALIZED (
    SELECT {LIGHT} FROM task_executions
    WHERE tenant_id = %(tenant)s
        AND kind IN ('shell', 'docker') AND assigned_to IS NOT NULL
        AND coalesce(completed_at, 'infinity'::timestamptz) > %(ended_after)s
        AND deleted_at IS NULL
        AND (%(agent)s::text IS NULL OR assigned_to = %(agent)s::text)
)
SELECT * FROM lately ORDER BY created_at DESC, task_id DESC LIMIT %(limit)s
"""


async def list_of_agents(
    pool: Pool, tenant_id: str, agent_id: str | None, *, ended_after: datetime, limit: int
) -> list[Row]:
    """Open tasks and those that ended after ``ended_after``, newest first, without context, input and response.

    ``agent_id`` None: those of all agents.
    """
    values = {"tenant": tenant_id, "agent": agent_id, "ended_after": ended_after, "limit": limit}
    return [row_of(columns) for columns in await rows(pool, LIST, values)]
