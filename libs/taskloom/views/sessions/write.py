"""What tasks add to sessions, into their table."""

from collections.abc import Mapping
from typing import Any, Final, LiteralString

from psycopg import Cursor

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


def prepare(cursor: Cursor[Any]) -> None:
    """Makes the session's temporary table; once a connection."""
    cursor.execute(PREPARE)


def add(cursor: Cursor[Any], shares: Mapping[SessionKey, Share]) -> None:
    """Adds what tasks contributed; a session that is not there comes into being."""
    if shares:
        copy_rows(cursor, _BESIDE, (_columns(key, share) for key, share in shares.items()))
        cursor.execute(MERGE)


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
