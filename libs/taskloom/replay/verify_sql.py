"""What ``verify`` asks the views. Sums are compared in one statement each, which sees one moment of a live system."""

from typing import Final

from taskloom.views.goals.write import GOAL_COLUMNS, STEP_COLUMNS, TRACE_COLUMNS
from taskloom.views.steps.query import FIELDS as STEP_FIELDS
from taskloom.views.task_executions.row import FIELDS

ROWS: Final = f"SELECT {', '.join(FIELDS)} FROM task_executions WHERE task_id = ANY(%(tasks)s)"

OPEN: Final = "SELECT task_id FROM open_tasks WHERE task_id = ANY(%(tasks)s)"

APPROVALS: Final = "SELECT task_id, approval FROM approvals WHERE task_id = ANY(%(tasks)s)"

STEPS: Final = f"SELECT task_id, {', '.join(STEP_FIELDS)} FROM task_execution_steps WHERE task_id = ANY(%(tasks)s)"

VARIABLES: Final = "SELECT task_id, name, value FROM run_variables WHERE task_id = ANY(%(tasks)s)"

GOALS: Final = f"SELECT {', '.join(GOAL_COLUMNS)} FROM goals WHERE task_id = ANY(%(tasks)s)"
GOAL_STEPS: Final = f"SELECT {', '.join(STEP_COLUMNS)} FROM goal_steps WHERE task_id = ANY(%(tasks)s)"
GOAL_TRACES: Final = f"SELECT {', '.join(TRACE_COLUMNS)} FROM goal_traces WHERE task_id = ANY(%(tasks)s)"

_HELD = (
    "approvals", "task_execution_steps", "run_variables", "goals", "goal_steps", "goal_traces", "task_outputs"
)  # fmt: skip
LEFT: Final = " UNION ".join(
    f"SELECT task_id, '{table}' FROM {table} WHERE task_id = ANY(%(tasks)s)" for table in _HELD
)

ENTITIES: Final = "SELECT entity_id, entity FROM entities WHERE entity_id = ANY(%(tasks)s)"

OUTPUTS: Final = """
SELECT task_id, attempt, count(*), max(seq), coalesce(sum(octet_length(body)), 0)::bigint
FROM task_outputs WHERE task_id = ANY(%(tasks)s) GROUP BY task_id, attempt
"""

SESSIONS: Final = """
WITH expected AS (
    SELECT
        tenant_id, session_id, min(created_at) AS created_at, max(updated_at) AS updated_at,
        max(completed_at) AS last_completed_at, count(*) AS task_count,
        count(*) FILTER (WHERE status = 'COMPLETED') AS successful_tasks,
        count(*) FILTER (WHERE status IN ('FAILED', 'TIMEOUT')) AS failed_tasks,
        count(*) FILTER (WHERE status = 'CANCELLED') AS cancelled_tasks,
        coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0) AS tokens_used,
        coalesce(sum(cost_usd), 0) AS cost_usd
    FROM task_executions AS task LEFT JOIN session_marks AS mark USING (tenant_id, session_id)
    WHERE session_id IS NOT NULL AND deleted_at IS NULL AND kind <> 'webhook'
        AND (mark.removed_at IS NULL OR task.created_at > mark.removed_at)
    GROUP BY tenant_id, session_id
)
SELECT tenant_id, session_id, compared.name, compared.stored, compared.expected
FROM sessions AS stored FULL JOIN expected USING (tenant_id, session_id)
CROSS JOIN LATERAL (VALUES
    ('created_at', stored.created_at::text, expected.created_at::text),
    ('updated_at', stored.updated_at::text, expected.updated_at::text),
    ('last_completed_at', stored.last_completed_at::text, expected.last_completed_at::text),
    ('task_count', stored.task_count::text, expected.task_count::text),
    ('successful_tasks', stored.successful_tasks::text, expected.successful_tasks::text),
    ('failed_tasks', stored.failed_tasks::text, expected.failed_tasks::text),
    ('cancelled_tasks', stored.cancelled_tasks::text, expected.cancelled_tasks::text),
    ('tokens_used', stored.tokens_used::text, expected.tokens_used::text),
    -- Sums of fractions depend on their order in the last digits.
    ('cost_usd', round(stored.cost_usd::numeric, 6)::text, round(expected.cost_usd::numeric, 6)::text)
) AS compared (name, stored, expected)
WHERE compared.stored IS DISTINCT FROM compared.expected
ORDER BY tenant_id, session_id
LIMIT %(limit)s
"""

COUNTS: Final = """
WITH stored AS (
    SELECT tenant_id, status, sum(tasks)::bigint AS tasks FROM task_counts GROUP BY tenant_id, status
), expected AS (
    SELECT tenant_id, status, count(*) AS tasks FROM task_executions
    WHERE deleted_at IS NULL AND kind <> 'webhook' GROUP BY tenant_id, status
)
SELECT tenant_id, status, coalesce(stored.tasks, 0), coalesce(expected.tasks, 0)
FROM stored FULL JOIN expected USING (tenant_id, status)
WHERE coalesce(stored.tasks, 0) <> coalesce(expected.tasks, 0)
"""

COUNT_ROWS: Final = "SELECT count(*) FROM task_executions"
ROW_IDS: Final = """
SELECT task_id FROM task_executions WHERE task_id > %(after)s::text COLLATE "C" ORDER BY task_id LIMIT %(limit)s
"""

MARKS: Final = """
SELECT '@session/' || tenant_id || '/' || session_id, title, removed_at FROM session_marks
WHERE (tenant_id, session_id) IN (SELECT * FROM unnest(%(tenants)s::text[], %(sessions)s::text[]))
"""

COUNT_MARKS: Final = "SELECT count(*) FROM session_marks"
MARK_IDS: Final = """
SELECT entity_id FROM (SELECT '@session/' || tenant_id || '/' || session_id AS entity_id FROM session_marks) AS marks
WHERE entity_id > %(after)s::text COLLATE "C" ORDER BY entity_id COLLATE "C" LIMIT %(limit)s
"""

COUNT_ENTITIES: Final = "SELECT count(*) FROM entities"
ENTITY_IDS: Final = """
SELECT entity_id FROM entities WHERE entity_id > %(after)s::text COLLATE "C" ORDER BY entity_id LIMIT %(limit)s
"""

COUNT_APPROVALS: Final = "SELECT count(*) FROM approvals"
APPROVAL_IDS: Final = """
SELECT DISTINCT task_id FROM approvals
WHERE task_id > %(after)s::text COLLATE "C" ORDER BY task_id LIMIT %(limit)s
"""

COUNT_STEPS: Final = "SELECT count(*) FROM task_execution_steps"
# Runs with a read row are looked at as tasks.
STEP_IDS: Final = """
SELECT DISTINCT task_id FROM task_execution_steps AS step
WHERE task_id > %(after)s::text COLLATE "C"
    AND NOT EXISTS (SELECT FROM task_executions AS task WHERE task.task_id = step.task_id)
ORDER BY task_id LIMIT %(limit)s
"""

COUNT_VARIABLES: Final = "SELECT count(*) FROM run_variables"
VARIABLE_IDS: Final = """
SELECT DISTINCT task_id FROM run_variables AS variable
WHERE task_id > %(after)s::text COLLATE "C"
    AND NOT EXISTS (SELECT FROM task_executions AS task WHERE task.task_id = variable.task_id)
ORDER BY task_id LIMIT %(limit)s
"""

COUNT_GOALS: Final = "SELECT (SELECT count(*) FROM goals) + (SELECT count(*) FROM goal_steps)"
# Goals with a read row are looked at as tasks.
GOAL_IDS: Final = """
SELECT DISTINCT task_id FROM (
    SELECT task_id FROM goals UNION ALL SELECT task_id FROM goal_steps UNION ALL SELECT task_id FROM goal_traces
) AS goal
WHERE task_id > %(after)s::text COLLATE "C"
    AND NOT EXISTS (SELECT FROM task_executions AS task WHERE task.task_id = goal.task_id)
ORDER BY task_id LIMIT %(limit)s
"""

COUNT_RETIRED: Final = "SELECT count(*) FROM retired_tasks"
RETIRED_IDS: Final = """
SELECT task_id FROM retired_tasks WHERE task_id > %(after)s::text COLLATE "C" ORDER BY task_id LIMIT %(limit)s
"""

COUNT_OPEN: Final = "SELECT count(*) FROM open_tasks"
OPEN_IDS: Final = """
SELECT task_id FROM open_tasks WHERE task_id > %(after)s::text COLLATE "C" ORDER BY task_id LIMIT %(limit)s
"""
