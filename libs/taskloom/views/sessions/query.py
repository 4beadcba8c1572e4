"""Reads of sessions; an unknown id and another tenant's look the same: None. Their tasks: task_executions.query."""

from datetime import datetime
from typing import Any, Final, LiteralString

from msgspec import Struct

from taskloom.views.reading import Pool, row, rows

GET: Final[LiteralString] = """
SELECT
    session.session_id, session.tenant_id, session.user_id, session.created_at, session.updated_at,
    session.last_completed_at, session.task_count, session.successful_tasks, session.failed_tasks,
    session.cancelled_tasks, session.tokens_used, session.cost_usd,
    latest.task_id, latest.query, latest.status, first.mode, first.context
FROM sessions AS session
LEFT JOIN LATERAL (
    SELECT task_id, query, status FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
    ORDER BY created_at DESC, task_id DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT mode, context FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
    ORDER BY created_at, task_id LIMIT 1
) AS first ON true
WHERE session.tenant_id = %(tenant)s AND session.session_id = %(session)s
"""

# The page is cut before the look-ups, so they run once for each session that is shown.
LIST: Final[LiteralString] = """
SELECT
    session.session_id, session.tenant_id, session.user_id, session.created_at, session.updated_at,
    session.last_completed_at, session.task_count, session.successful_tasks, session.failed_tasks,
    session.cancelled_tasks, session.tokens_used, session.cost_usd,
    latest.task_id, latest.query, latest.status, first.mode, NULL
FROM (
    SELECT * FROM sessions
    WHERE tenant_id = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s::text)
    ORDER BY created_at DESC, session_id DESC LIMIT %(limit)s OFFSET %(offset)s
) AS session
LEFT JOIN LATERAL (
    SELECT task_id, query, status FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
    ORDER BY created_at DESC, task_id DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT mode FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
    ORDER BY created_at, task_id LIMIT 1
) AS first ON true
ORDER BY session.created_at DESC, session.session_id DESC
"""

COUNT_UP_TO: Final = 100_000

COUNT: Final[LiteralString] = """
SELECT count(*) FROM (
    SELECT FROM sessions
    WHERE tenant_id = %(tenant)s AND (%(user)s::text IS NULL OR user_id = %(user)s::text) LIMIT %(up_to)s
) AS counted
"""


class Session(Struct, frozen=True):
    """A session and its newest task. ``context`` is its first task's, in ``get`` only."""

    session_id: str
    tenant_id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    last_completed_at: datetime | None
    task_count: int
    successful_tasks: int
    failed_tasks: int
    cancelled_tasks: int
    tokens_used: int
    cost_usd: float
    latest_task_id: str
    latest_task_query: str
    latest_task_status: str
    first_task_mode: str
    context: dict[str, Any]


async def get(pool: Pool, tenant_id: str, session_id: str) -> Session | None:
    """The session, or None when it is unknown, or another tenant's."""
    found = await row(pool, GET, {"tenant": tenant_id, "session": session_id})
    return None if found is None else _session(found)


async def list_sessions(
    pool: Pool, tenant_id: str, *, user_id: str | None = None, limit: int = 20, offset: int = 0
) -> tuple[list[Session], int]:
    """A page, newest first, and how many there are (counted up to 100,000)."""
    values = {"tenant": tenant_id, "user": user_id, "limit": limit, "offset": offset, "up_to": COUNT_UP_TO}
    found = await rows(pool, LIST, values)
    counted = await row(pool, COUNT, values)
    assert counted is not None
    return [_session(columns) for columns in found], counted[0]


def _session(columns: tuple[Any, ...]) -> Session:
    *plain, task_id, query, status, mode, context = columns
    latest: list[Any] = [task_id or "", query or "", status or "", mode or "", context or {}]
    return Session(*plain, *latest)
