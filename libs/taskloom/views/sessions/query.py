"""Reads of sessions; an unknown id and another tenant's look the same: None. Their tasks: task_executions.query."""

from datetime import datetime
from typing import Any, Final, LiteralString

from msgspec import Struct

from taskloom.views.reading import Pool, row, rows
from taskloom.views.task_executions.query import BadCursor as BadCursor  # noqa: PLC0414 - part of this module's names
from taskloom.views.task_executions.query import cursor_at, read_cursor
from taskloom.views.task_executions.words import like

_MATCHES: Final[LiteralString] = """
        tenant_id = %(tenant)s
        AND (%(user)s::text IS NULL OR user_id = %(user)s::text)
        AND (%(active)s::timestamptz IS NULL OR updated_at >= %(active)s::timestamptz)
        AND (%(after)s::timestamptz IS NULL OR created_at >= %(after)s::timestamptz)
        AND (%(before)s::timestamptz IS NULL OR created_at < %(before)s::timestamptz)
        AND (%(q)s::text IS NULL OR mark.title ILIKE %(q)s::text OR session_id ILIKE %(q)s::text)
"""

GET: Final[LiteralString] = """
SELECT
    session.session_id, session.tenant_id, session.user_id, session.created_at, session.updated_at,
    session.last_completed_at, session.task_count, session.successful_tasks, session.failed_tasks,
    session.cancelled_tasks, session.tokens_used, session.cost_usd,
    mark.removed_at, mark.title, latest.task_id, latest.query, latest.status, first.mode, first.context
FROM sessions AS session
LEFT JOIN session_marks AS mark USING (tenant_id, session_id)
LEFT JOIN LATERAL (
    SELECT task_id, query, status FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
        AND (mark.removed_at IS NULL OR task.created_at > mark.removed_at)
    ORDER BY created_at DESC, task_id DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT mode, context FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
        AND (mark.removed_at IS NULL OR task.created_at > mark.removed_at)
    ORDER BY created_at, task_id LIMIT 1
) AS first ON true
WHERE session.tenant_id = %(tenant)s AND session.session_id = %(session)s
"""

# The page is cut before the look-ups, so they run once for each session that is shown.
LIST: Final[LiteralString] = (
    """
SELECT
    session.session_id, session.tenant_id, session.user_id, session.created_at, session.updated_at,
    session.last_completed_at, session.task_count, session.successful_tasks, session.failed_tasks,
    session.cancelled_tasks, session.tokens_used, session.cost_usd,
    session.removed_at, session.title, latest.task_id, latest.query, latest.status, first.mode, first.context
FROM (
    SELECT sessions.*, mark.title, mark.removed_at
    FROM sessions LEFT JOIN session_marks AS mark USING (tenant_id, session_id)
    WHERE """
    + _MATCHES
    + """
        AND (%(cursor_at)s::timestamptz IS NULL
            OR (created_at, session_id) < (%(cursor_at)s::timestamptz, %(cursor_id)s::text))
    ORDER BY created_at DESC, session_id DESC LIMIT %(limit)s OFFSET %(offset)s
) AS session
LEFT JOIN LATERAL (
    SELECT task_id, query, status FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
        AND (session.removed_at IS NULL OR task.created_at > session.removed_at)
    ORDER BY created_at DESC, task_id DESC LIMIT 1
) AS latest ON true
LEFT JOIN LATERAL (
    SELECT mode, context FROM task_executions AS task
    WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
        AND (session.removed_at IS NULL OR task.created_at > session.removed_at)
    ORDER BY created_at, task_id LIMIT 1
) AS first ON true
ORDER BY session.created_at DESC, session.session_id DESC
"""
)

COUNT_UP_TO: Final = 100_000

COUNT: Final[LiteralString] = (
    """
SELECT count(*) FROM (
    SELECT FROM sessions LEFT JOIN session_marks AS mark USING (tenant_id, session_id)
    WHERE """
    + _MATCHES
    + """ LIMIT %(up_to)s
) AS counted
"""
)


class Filters(Struct, frozen=True, kw_only=True):
    """None does not narrow. ``q`` is looked for in title and id; ``active_since``: something happened since then."""

    user_id: str | None = None
    q: str | None = None
    active_since: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


class Session(Struct, frozen=True, kw_only=True):
    """A session and its newest task; ``context`` is its first task's. Tasks up to ``removed_at`` are no part of it."""

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
    removed_at: datetime | None = None
    title: str = ""
    latest_task_id: str = ""
    latest_task_query: str = ""
    latest_task_status: str = ""
    first_task_mode: str = ""
    context: dict[str, Any] = {}


class Page(Struct, frozen=True):
    """Newest first; ``next_cursor`` is None on the last page."""

    sessions: list[Session]
    total_count: int
    next_cursor: str | None = None


async def get(pool: Pool, tenant_id: str, session_id: str) -> Session | None:
    """The session, or None when it is unknown, or another tenant's."""
    found = await row(pool, GET, {"tenant": tenant_id, "session": session_id})
    return None if found is None else _session(found)


async def list_sessions(
    pool: Pool,
    tenant_id: str,
    filters: Filters | None = None,
    *,
    limit: int = 20,
    offset: int = 0,
    cursor: str | None = None,
) -> Page:
    """A page, newest first, and how many there are (counted up to 100,000).

    Raises:
        BadCursor: ``cursor`` is none of ours.
    """
    chosen = filters or Filters()
    at, after = read_cursor(cursor) if cursor else (None, None)
    values = {
        "tenant": tenant_id,
        "user": chosen.user_id,
        "active": chosen.active_since,
        "after": chosen.created_after,
        "before": chosen.created_before,
        "q": f"%{like(chosen.q)}%" if chosen.q else None,
        "cursor_at": at,
        "cursor_id": after,
        "limit": limit + 1,
        "offset": offset,
        "up_to": COUNT_UP_TO,
    }
    found = [_session(columns) for columns in await rows(pool, LIST, values)]
    counted = await row(pool, COUNT, values)
    assert counted is not None
    page = found[:limit]
    more = cursor_at(page[-1].created_at, page[-1].session_id) if len(found) > limit else None
    return Page(page, counted[0], more)


_EMPTY: Final[dict[str, Any]] = {
    **dict.fromkeys(("title", "latest_task_id", "latest_task_query", "latest_task_status", "first_task_mode"), ""),
    "context": {},
}


def _session(columns: tuple[Any, ...]) -> Session:
    named: dict[str, Any] = dict(zip(Session.__struct_fields__, columns, strict=True))
    for name, empty in _EMPTY.items():
        if named[name] is None:
            named[name] = empty
    return Session(**named)
