"""What retention asks. Every statement is bounded: by the ids it is given, or by a limit of rows."""

from typing import Final

# Any number that no other lock of ours has (store/sql.py, store/leases.py).
LOCK: Final = "SELECT pg_try_advisory_lock(7462, 0)"
UNLOCK: Final = "SELECT pg_advisory_unlock(7462, 0)"

TENANTS: Final = "SELECT DISTINCT tenant_id FROM task_counts ORDER BY tenant_id"

# Along the list, oldest first. The task of a run's step goes with its run: it stands here only when that has no row.
# What was brought back is as old as that.
OLD: Final = """
SELECT task.created_at, task.task_id FROM task_executions AS task LEFT JOIN retired_tasks AS back USING (task_id)
WHERE task.tenant_id = %(tenant)s AND task.created_at < greatest(%(completed)s::timestamptz, %(failed)s::timestamptz)
    AND (task.created_at, task.task_id) > (%(after_at)s::timestamptz, %(after_id)s::text COLLATE "C")
    AND greatest(task.completed_at, back.restored_at)
        < CASE task.status WHEN 'COMPLETED' THEN %(completed)s::timestamptz ELSE %(failed)s::timestamptz END
    AND task.completed_at IS NOT NULL
    AND (strpos(task.task_id, '~') = 0 OR NOT EXISTS (
        SELECT FROM task_executions AS run WHERE run.task_id = split_part(task.task_id, '~', 1)
    ))
ORDER BY task.created_at, task.task_id LIMIT %(limit)s
"""

# The tasks of steps of runs: `<run>~<path>`; the character after ~ is 0x7f. Those of a run are one range of the index.
# LIMIT and OFFSET keep the planner from another way.
_OF_RUN: Final = """
    step.task_id > (run.task_id || '~') COLLATE "C" AND step.task_id < (run.task_id || chr(127)) COLLATE "C"
"""

FAMILIES: Final = f"""
SELECT run.task_id, bool_or(step.completed_at IS NULL)
FROM unnest(%(tasks)s::text[]) AS run (task_id) CROSS JOIN LATERAL (
    SELECT completed_at FROM task_executions AS step WHERE {_OF_RUN} OFFSET 0
) AS step
GROUP BY run.task_id
"""

STEPS_OF: Final = """
SELECT task_id FROM task_executions
WHERE task_id > %(after)s::text COLLATE "C" AND task_id < (%(run)s || chr(127)) COLLATE "C"
ORDER BY task_id LIMIT %(limit)s
"""

# Whose row the projection is writing just now is left for the next time. A run's row is the last of its family to go.
TAKE: Final = f"""
DELETE FROM task_executions WHERE task_id IN (
    SELECT task_id FROM task_executions
    WHERE task_id = ANY(%(tasks)s) AND completed_at IS NOT NULL
        AND NOT task_id = ANY(ARRAY(
            SELECT run.task_id FROM unnest(%(runs)s::text[]) AS run (task_id)
            CROSS JOIN LATERAL (SELECT FROM task_executions AS step WHERE {_OF_RUN} LIMIT 1) AS step
        ))
    FOR UPDATE SKIP LOCKED
)
RETURNING task_id, tenant_id, session_id, kind, status, version, attempt, deleted_at IS NOT NULL,
    created_at, updated_at, completed_at, coalesce(input_tokens, 0) + coalesce(output_tokens, 0), coalesce(cost_usd, 0)
"""

# All of a task's events that led to its row are in the metrics.
SET_STONES: Final = """
INSERT INTO retired_tasks AS stone (task_id, tenant_id, version, counted, retired_at)
SELECT task_id, tenant_id, version, version, now()
FROM unnest(%(tasks)s::text[], %(tenants)s::text[], %(versions)s::int[]) AS gone (task_id, tenant_id, version)
ON CONFLICT (task_id) DO UPDATE SET
    version = excluded.version, counted = excluded.counted, retired_at = excluded.retired_at,
    wanted = false, restored_at = NULL
"""

DETAILS: Final = {
    "approvals": ("approvals",),
    "steps": ("task_execution_steps",),
    "variables": ("run_variables",),
    "goals": ("goal_steps", "goals"),
    "traces": ("goal_traces",),
}
"""Tables that hold more of a task, by kind of row."""


def of_tasks(table: str) -> str:
    return f"DELETE FROM {table} WHERE task_id = ANY(%(tasks)s)"


def count_of_tasks(table: str) -> str:
    return f"SELECT count(*) FROM {table} WHERE task_id = ANY(%(tasks)s)"


ENDED_SINCE: Final = """
SELECT task_id FROM task_executions WHERE task_id = ANY(%(tasks)s) AND completed_at >= %(since)s
"""

COUNT_OUTPUT: Final = """
SELECT count(*), coalesce(sum(octet_length(body)), 0)::bigint FROM task_outputs WHERE task_id = ANY(%(tasks)s)
"""

# A task may have written gigabytes: so many pieces at a time. What a later attempt wrote, of which the row does not
# tell yet, stays.
TAKE_OUTPUT: Final = """
WITH ended AS (
    SELECT task_id, attempt::bigint * %(span)s AS up_to FROM task_executions
    WHERE task_id = ANY(%(tasks)s) AND completed_at IS NOT NULL FOR UPDATE SKIP LOCKED
), old AS (
    SELECT piece.task_id, piece.seq FROM ended JOIN task_outputs AS piece USING (task_id)
    WHERE piece.seq <= ended.up_to LIMIT %(limit)s
), gone AS (
    DELETE FROM task_outputs AS piece USING old WHERE piece.task_id = old.task_id AND piece.seq = old.seq
    RETURNING piece.task_id, octet_length(piece.body) AS size
), said AS (
    INSERT INTO retired_parts AS part (task_id, part, up_to, retired_at)
    SELECT task_id, 'output', up_to, now() FROM ended WHERE task_id IN (SELECT task_id FROM gone)
    ON CONFLICT (task_id, part) DO UPDATE SET
        up_to = greatest(part.up_to, excluded.up_to), retired_at = excluded.retired_at
)
SELECT count(*), coalesce(sum(size), 0)::bigint FROM gone
"""

TAKE_LATE_OUTPUT: Final = """
DELETE FROM task_outputs AS piece USING unnest(%(tasks)s::text[], %(up_to)s::bigint[]) AS gone (task_id, up_to)
WHERE piece.task_id = gone.task_id AND piece.seq <= gone.up_to
"""

# The task of a step is touched when its run has ended.
_RUN_IS_OVER: Final = """(strpos(task.task_id, '~') = 0 OR NOT EXISTS (
        SELECT FROM task_executions AS run
        WHERE run.task_id = split_part(task.task_id, '~', 1) AND run.completed_at IS NULL
    ))"""

OLD_OUTPUT: Final = f"""
SELECT task.created_at, task.task_id FROM task_executions AS task
CROSS JOIN LATERAL (SELECT FROM task_outputs AS piece WHERE piece.task_id = task.task_id LIMIT 1) AS piece
WHERE task.tenant_id = %(tenant)s AND task.created_at < %(before)s::timestamptz
    AND (task.created_at, task.task_id) > (%(after_at)s::timestamptz, %(after_id)s::text COLLATE "C")
    AND task.completed_at < %(before)s::timestamptz
    AND {_RUN_IS_OVER}
ORDER BY task.created_at, task.task_id LIMIT %(limit)s
"""

OLD_TRACES: Final = f"""
SELECT task.created_at, task.task_id FROM task_executions AS task
CROSS JOIN LATERAL (SELECT FROM goal_traces AS trace WHERE trace.task_id = task.task_id LIMIT 1) AS trace
WHERE task.tenant_id = %(tenant)s AND task.kind = 'goal' AND task.created_at < %(before)s::timestamptz
    AND (task.created_at, task.task_id) > (%(after_at)s::timestamptz, %(after_id)s::text COLLATE "C")
    AND task.completed_at < %(before)s::timestamptz
    AND {_RUN_IS_OVER}
ORDER BY task.created_at, task.task_id LIMIT %(limit)s
"""

TAKE_TRACES: Final = """
WITH ended AS (
    SELECT task_id FROM task_executions
    WHERE task_id = ANY(%(tasks)s) AND completed_at IS NOT NULL FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM goal_traces WHERE task_id IN (SELECT task_id FROM ended) RETURNING task_id, number
), said AS (
    INSERT INTO retired_parts AS part (task_id, part, up_to, retired_at)
    SELECT task_id, 'traces', max(number), now() FROM gone GROUP BY task_id
    ON CONFLICT (task_id, part) DO UPDATE SET
        up_to = greatest(part.up_to, excluded.up_to), retired_at = excluded.retired_at
)
SELECT count(*) FROM gone
"""

# In the order of the key, as the projection does; then what was taken from each, and the times anew.
LOCK_SESSIONS: Final = """
SELECT session.tenant_id, session.session_id, mark.removed_at
FROM sessions AS session LEFT JOIN session_marks AS mark USING (tenant_id, session_id)
JOIN unnest(%(tenants)s::text[], %(sessions)s::text[]) AS wanted (tenant_id, session_id) USING (tenant_id, session_id)
ORDER BY session.tenant_id, session.session_id FOR UPDATE OF session
"""

_LEFT: Final = """FROM task_executions AS task
        WHERE task.tenant_id = session.tenant_id AND task.session_id = session.session_id AND task.deleted_at IS NULL
            AND task.kind <> 'webhook' AND task.created_at > coalesce(%(removed)s::timestamptz, '-infinity')"""

# The latest times are looked for among all that is left only where one that went had them.
LESSEN: Final = f"""
UPDATE sessions AS session SET
    task_count = task_count - %(task_count)s, successful_tasks = successful_tasks - %(successful_tasks)s,
    failed_tasks = failed_tasks - %(failed_tasks)s, cancelled_tasks = cancelled_tasks - %(cancelled_tasks)s,
    tokens_used = tokens_used - %(tokens_used)s, cost_usd = cost_usd - %(cost_usd)s,
    (created_at, user_id) = (
        SELECT coalesce(min(first.created_at), session.created_at), coalesce(min(first.user_id), session.user_id) FROM (
            SELECT task.created_at, coalesce(task.user_id, '') AS user_id {_LEFT}
            ORDER BY task.created_at, coalesce(task.user_id, '') LIMIT 1
        ) AS first
    ),
    updated_at = CASE WHEN session.updated_at > %(updated_at)s THEN session.updated_at ELSE coalesce(
        (SELECT max(task.updated_at) {_LEFT}), session.updated_at
    ) END,
    last_completed_at = CASE
        WHEN session.last_completed_at > %(last_completed_at)s THEN session.last_completed_at
        ELSE (SELECT max(task.completed_at) {_LEFT})
    END
WHERE session.tenant_id = %(tenant)s AND session.session_id = %(session)s
"""

DROP_EMPTY: Final = """
DELETE FROM sessions WHERE tenant_id = %(tenant)s AND session_id = %(session)s AND task_count <= 0
"""

# Days and hours; months and sums over all time are kept.
_OLD_USAGE: Final = "length(period) IN (10, 13) AND period < %(before)s::text"
COUNT_USAGE: Final = f"SELECT tenant_id, count(*) FROM usage_ledger WHERE {_OLD_USAGE} GROUP BY tenant_id"
TAKE_USAGE: Final = f"""
WITH gone AS (
    DELETE FROM usage_ledger WHERE ctid = ANY(ARRAY(SELECT ctid FROM usage_ledger WHERE {_OLD_USAGE} LIMIT %(limit)s))
    RETURNING tenant_id
) SELECT tenant_id, count(*) FROM gone GROUP BY tenant_id
"""

KEEP_HOURS: Final = """
INSERT INTO retired_hours AS kept (table_name, before) VALUES ('metrics_hours', %(before)s)
ON CONFLICT (table_name) DO UPDATE SET before = greatest(kept.before, excluded.before)
"""
COUNT_METRICS: Final = "SELECT tenant_id, count(*) FROM metrics_hours WHERE hour < %(before)s GROUP BY tenant_id"
TAKE_METRICS: Final = """
WITH gone AS (
    DELETE FROM metrics_hours WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM metrics_hours WHERE hour < %(before)s LIMIT %(limit)s
    ))
    RETURNING tenant_id
) SELECT tenant_id, count(*) FROM gone GROUP BY tenant_id
"""

COUNT_AUDIT: Final = "SELECT tenant_id, count(*) FROM audit WHERE at < %(before)s GROUP BY tenant_id"
TAKE_AUDIT: Final = """
WITH gone AS (
    DELETE FROM audit WHERE ctid = ANY(ARRAY(SELECT ctid FROM audit WHERE at < %(before)s LIMIT %(limit)s))
    RETURNING tenant_id
) SELECT tenant_id, count(*) FROM gone GROUP BY tenant_id
"""
