-- The chat orchestrator's tables, as views of goals: its names and words. A goal that was deleted is in none of them.
-- Ids are texts, and step_index is a number, so that step 10 sorts behind step 2. A plan that was made anew has steps of
-- its own: plan_version tells them apart, and the last one holds.
CREATE VIEW task_execution AS
SELECT
    goal.task_id AS id,
    goal.user_id,
    goal.session_id AS thread_id,
    CASE
        WHEN task.state IN ('scheduled', 'waiting', 'ready', 'assigned') THEN 'pending'
        WHEN task.state IN ('pausing', 'paused') THEN 'paused'
        WHEN task.state IN ('running', 'retrying', 'cancelling') THEN 'running'
        WHEN task.state = 'completed' THEN 'completed'
        ELSE 'failed'
    END AS status,
    goal.goal,
    json_build_object(
        'steps', coalesce((
            SELECT json_agg(
                json_build_object(
                    'id', step.step_id, 'description', step.description, 'type', step.type, 'status', step.status,
                    'estimatedDuration', step.estimated_ms
                ) ORDER BY step.number)
            FROM goal_steps AS step WHERE step.task_id = goal.task_id AND step.plan = goal.plan
        ), '[]'::json),
        'totalSteps', goal.total_steps
    ) AS strategy,
    goal.current_step::text AS current_step,
    json_build_object(
        'summary', goal.summary,
        'findings', coalesce((
            SELECT json_object_agg(step.description, step.text ORDER BY step.plan, step.number)
            FROM goal_steps AS step
            WHERE step.task_id = goal.task_id AND step.status = 'completed' AND step.text <> ''
                AND step.ended > goal.summarized
        ), '{}'::json),
        'toolResults', coalesce((
            SELECT json_agg(
                json_build_object(
                    'toolName', (call ->> 'server') || '.' || (call ->> 'tool'), 'result', call -> 'result'
                ) ORDER BY step.plan, step.number, place)
            FROM goal_steps AS step CROSS JOIN json_array_elements(step.calls) WITH ORDINALITY AS made (call, place)
            WHERE step.task_id = goal.task_id AND step.status = 'completed' AND step.ended > goal.summarized
        ), '[]'::json),
        'messageHistory', coalesce(goal.asked -> 'history', '[]'::json)
    ) AS context,
    coalesce((
        SELECT json_agg(
            json_build_object(
                'toolName', (call ->> 'server') || '.' || (call ->> 'tool'), 'args', call -> 'args',
                'result', call -> 'result', 'timestamp', step.ended_at,
                'status', coalesce(call ->> 'status', 'success'), 'error', call ->> 'error'
            ) ORDER BY step.plan, step.number, place)
        FROM goal_steps AS step CROSS JOIN json_array_elements(step.calls) WITH ORDINALITY AS made (call, place)
        WHERE step.task_id = goal.task_id
    ), '[]'::json) AS tool_call_history,
    goal.checkpoints,
    greatest(goal.plan - 1, 0)::text AS retry_count,
    nullif(goal.last_error, '') AS last_error,
    CASE WHEN goal.ended_at IS NULL THEN goal.updated_at + make_interval(secs => (
        SELECT coalesce(sum(step.estimated_ms), 0) / 1000.0 FROM goal_steps AS step
        WHERE step.task_id = goal.task_id AND step.plan = goal.plan AND step.status IN ('pending', 'running')
    )) END AS estimated_completion,
    nullif(goal.asked ->> 'agent_id', '') AS agent_id,
    goal.asked -> 'model' AS chat_model,
    coalesce(goal.asked -> 'mentions', '[]'::json) AS mentions,
    goal.asked -> 'tools' AS allowed_mcp_servers,
    goal.asked -> 'tools' -> 'taskloom' -> 'tools' AS allowed_app_default_toolkit,
    goal.created_at,
    goal.updated_at,
    goal.ended_at AS completed_at
FROM goals AS goal JOIN task_executions AS task USING (task_id)
WHERE task.deleted_at IS NULL;

CREATE VIEW task_execution_step AS
SELECT
    step.task_id || '/' || step.plan || '.' || step.number AS id,
    step.task_id AS task_execution_id,
    step.plan AS plan_version,
    step.number AS step_index,
    step.description,
    step.type,
    step.status,
    json_build_object('server', step.server, 'tool', step.tool, 'args', step.args) AS input,
    json_build_object('text', step.text, 'toolCalls', step.calls) AS output,
    nullif(step.error, '') AS error,
    json_build_object(
        'promptTokens', coalesce((step.usage ->> 'input_tokens')::bigint, 0),
        'completionTokens', coalesce((step.usage ->> 'output_tokens')::bigint, 0),
        'totalTokens',
        coalesce((step.usage ->> 'input_tokens')::bigint, 0) + coalesce((step.usage ->> 'output_tokens')::bigint, 0)
    ) AS token_usage,
    step.started_at,
    step.ended_at AS completed_at,
    round(extract(epoch FROM step.ended_at - step.started_at) * 1000)::bigint::text AS duration,
    coalesce(step.started_at, goal.created_at) AS created_at
FROM goal_steps AS step
JOIN goals AS goal USING (task_id)
JOIN task_executions AS task USING (task_id)
WHERE task.deleted_at IS NULL;

CREATE VIEW task_execution_trace AS
SELECT
    trace.task_id || '/' || trace.number AS id,
    trace.task_id AS task_execution_id,
    CASE WHEN trace.step >= 0 THEN trace.task_id || '/' || trace.plan || '.' || trace.step END AS step_id,
    trace.type AS trace_type,
    trace.message,
    trace.metadata,
    trace.at AS "timestamp"
FROM goal_traces AS trace JOIN task_executions AS task USING (task_id)
WHERE task.deleted_at IS NULL;
