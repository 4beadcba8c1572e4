-- The nodelink list: commands and containers that name their agent, open ones and those that ended lately, however many
-- ended long ago. One range of one index, since an open task ends at infinity. Other tasks cost nothing here.
CREATE INDEX task_executions_of_agents ON task_executions (tenant_id, (coalesce(completed_at, 'infinity'::timestamptz)))
    WHERE kind IN ('shell', 'docker') AND assigned_to IS NOT NULL;
