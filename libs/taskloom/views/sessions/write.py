"""What tasks add to sessions, into their table."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import Cursor

from taskloom.domain.entities.sessions import Session
from taskloom.views.copying import Target, copy_rows, micros, micros_or_none
from taskloom.views.sessions.fold import SessionKey, Share

_BESIDE: Final = Target(
    "session_shares",
    (
        "tenant_id",
        "session_id",
        "user_id",
        "created_at",
        "updated_at",
        "last_completed_at",
        "task_count",
        "successful_tasks",
        "failed_tasks",
        "cancelled_tasks",
        "tokens_used",
        "cost_usd",
    ),
    (*("text",) * 3, *("int8",) * 8, "float8"),
)

PREPARE: Final[LiteralString] = """
CREATE TEMPORARY TABLE IF NOT EXISTS session_shares ON COMMIT DELETE ROWS AS SELECT * FROM sessions WITH NO DATA
"""

# In the order of the key: two projections that add to the same sessions then wait for each other, and never deadlock.
MERGE: Final[LiteralString] = """
INSERT INTO sessions AS session (
    tenant_id, session_id, user_id, created_at, updated_at, last_completed_at,
    task_count, successful_tasks, failed_tasks, cancelled_tasks, tokens_used, cost_usd
)
SELECT
    tenant_id, session_id, user_id, created_at, updated_at, last_completed_at,
    task_count, successful_tasks, failed_tasks, cancelled_tasks, tokens_used, cost_usd
FROM session_shares
ORDER BY tenant_id, session_id
ON CONFLICT (tenant_id, session_id) DO UPDATE SET
    user_id = CASE
        WHEN (excluded.created_at, excluded.user_id) < (session.created_at, session.user_id) THEN excluded.user_id
        ELSE session.user_id
    END,
    created_at = least(session.created_at, excluded.created_at),
    updated_at = greatest(session.updated_at, excluded.updated_at),
    last_completed_at = greatest(session.last_completed_at, excluded.last_completed_at),
    task_count = session.task_count + excluded.task_count,
    successful_tasks = session.successful_tasks + excluded.successful_tasks,
    failed_tasks = session.failed_tasks + excluded.failed_tasks,
    cancelled_tasks = session.cancelled_tasks + excluded.cancelled_tasks,
    tokens_used = session.tokens_used + excluded.tokens_used,
    cost_usd = session.cost_usd + excluded.cost_usd
"""


# By statements of their own: each sees what was committed before the merge above took the session's row, and until the
# end of the transaction nobody else adds to it.
SUM_ANEW: Final[LiteralString] = """
UPDATE sessions AS session SET
    user_id = summed.user_id, created_at = summed.created_at, updated_at = summed.updated_at,
    last_completed_at = summed.last_completed_at
FROM (
    SELECT
        (array_agg(coalesce(user_id, '') ORDER BY created_at, coalesce(user_id, '')))[1] AS user_id,
        min(created_at) AS created_at, max(updated_at) AS updated_at, max(completed_at) AS last_completed_at
    FROM task_executions
    WHERE tenant_id = %(tenant)s AND session_id = %(session)s AND deleted_at IS NULL
        AND created_at > coalesce((
            SELECT removed_at FROM session_marks WHERE tenant_id = %(tenant)s AND session_id = %(session)s
        ), '-infinity')
    HAVING count(*) > 0
) AS summed
WHERE session.tenant_id = %(tenant)s AND session.session_id = %(session)s
"""

# A session may not be there yet, and a task of it on its way in another projection: with a row of ours in the place
# that one waits until we are done, and then sees the mark. What stays empty is dropped again.
HOLD: Final[LiteralString] = """
INSERT INTO sessions AS session (
    tenant_id, session_id, user_id, created_at, updated_at,
    task_count, successful_tasks, failed_tasks, cancelled_tasks, tokens_used, cost_usd
)
VALUES (%(tenant)s, %(session)s, '', %(at)s, %(at)s, 0, 0, 0, 0, 0, 0)
ON CONFLICT (tenant_id, session_id) DO UPDATE SET updated_at = session.updated_at
"""

MARK: Final[LiteralString] = """
INSERT INTO session_marks (tenant_id, session_id, title, removed_at)
VALUES (%(tenant)s, %(session)s, %(title)s, %(removed)s)
ON CONFLICT (tenant_id, session_id) DO UPDATE SET title = excluded.title, removed_at = excluded.removed_at
"""

REMOVED_ONCE: Final[LiteralString] = """
SELECT tenant_id, session_id
FROM session_marks JOIN unnest(%(tenants)s::text[], %(sessions)s::text[]) AS wanted (tenant_id, session_id)
    USING (tenant_id, session_id)
WHERE removed_at IS NOT NULL
ORDER BY tenant_id, session_id
"""

RECOUNT: Final[LiteralString] = """
UPDATE sessions AS session SET
    user_id = summed.user_id, created_at = coalesce(summed.created_at, session.created_at),
    updated_at = coalesce(summed.updated_at, session.updated_at), last_completed_at = summed.last_completed_at,
    task_count = summed.task_count, successful_tasks = summed.successful_tasks, failed_tasks = summed.failed_tasks,
    cancelled_tasks = summed.cancelled_tasks, tokens_used = summed.tokens_used, cost_usd = summed.cost_usd
FROM (
    SELECT
        coalesce((array_agg(coalesce(user_id, '') ORDER BY created_at, coalesce(user_id, '')))[1], '') AS user_id,
        min(created_at) AS created_at, max(updated_at) AS updated_at, max(completed_at) AS last_completed_at,
        count(*) AS task_count,
        count(*) FILTER (WHERE status = 'COMPLETED') AS successful_tasks,
        count(*) FILTER (WHERE status IN ('FAILED', 'TIMEOUT')) AS failed_tasks,
        count(*) FILTER (WHERE status = 'CANCELLED') AS cancelled_tasks,
        coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0) AS tokens_used,
        coalesce(sum(cost_usd), 0) AS cost_usd
    FROM task_executions
    WHERE tenant_id = %(tenant)s AND session_id = %(session)s AND deleted_at IS NULL
        AND created_at > (
            SELECT removed_at FROM session_marks WHERE tenant_id = %(tenant)s AND session_id = %(session)s
        )
) AS summed
WHERE session.tenant_id = %(tenant)s AND session.session_id = %(session)s
"""

DROP_EMPTY: Final[LiteralString] = """
DELETE FROM sessions WHERE tenant_id = %(tenant)s AND session_id = %(session)s AND task_count <= 0
"""


def prepare(cursor: Cursor[Any]) -> None:
    """Makes the session's temporary table; once a connection."""
    cursor.execute(PREPARE)


def add(cursor: Cursor[Any], shares: Mapping[SessionKey, Share]) -> None:
    """Adds what tasks contributed; a session that is not there comes into being."""
    if shares:
        copy_rows(cursor, _BESIDE, (_columns(key, share) for key, share in shares.items()))
        cursor.execute(MERGE)


def sum_anew(cursor: Cursor[Any], keys: Sequence[SessionKey]) -> None:
    """Puts right what ``add`` cannot take back: the times, and sessions that have no task any more are gone. Call it
    after ``add`` for the same tasks, in the same transaction."""
    if keys:
        values = [{"tenant": key.tenant_id, "session": key.session_id} for key in keys]
        cursor.executemany(SUM_ANEW, values)
        cursor.executemany(DROP_EMPTY, values)


def mark(cursor: Cursor[Any], marks: Mapping[SessionKey, tuple[Session, datetime]]) -> None:
    """Writes what was said of sessions, and when. Call ``recount`` for them after it, in the same transaction."""
    values = [
        {"tenant": key.tenant_id, "session": key.session_id, "title": said.title, "removed": said.removed_at, "at": at}
        for key, (said, at) in sorted(marks.items())
    ]
    if values:
        cursor.executemany(HOLD, values)
        cursor.executemany(MARK, values)


def recount(cursor: Cursor[Any], keys: Collection[SessionKey]) -> None:
    """Those of the sessions that were ever removed are summed anew from the tasks that came after. Few ever are, so
    this is one look into a small table; it has to follow every ``add``."""
    if not keys:
        return
    tenants, sessions = [key.tenant_id for key in keys], [key.session_id for key in keys]
    cursor.execute(REMOVED_ONCE, {"tenants": tenants, "sessions": sessions})
    values = [{"tenant": tenant, "session": session} for tenant, session in cursor.fetchall()]
    if values:
        cursor.executemany(RECOUNT, values)
        cursor.executemany(DROP_EMPTY, values)


def drop_empty(cursor: Cursor[Any], keys: Collection[SessionKey]) -> None:
    """Sessions that hold no task are none."""
    values = [{"tenant": key.tenant_id, "session": key.session_id} for key in sorted(keys)]
    if values:
        cursor.executemany(DROP_EMPTY, values)


def _columns(key: SessionKey, share: Share) -> tuple[Any, ...]:
    return (
        key.tenant_id,
        key.session_id,
        share.user_id,
        micros(share.created_at),
        micros(share.updated_at),
        micros_or_none(share.last_completed_at),
        share.task_count,
        share.successful_tasks,
        share.failed_tasks,
        share.cancelled_tasks,
        share.tokens_used,
        share.cost_usd,
    )
