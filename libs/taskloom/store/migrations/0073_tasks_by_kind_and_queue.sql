-- Lists by kind and by queue, so that a kind or queue that is rare, or not there, is found or missed at once and not by
-- walking through a million rows. A task's kind never changes; its queue does by an update of its owner, seldom.
CREATE INDEX task_executions_of_kind ON task_executions (tenant_id, kind, created_at DESC, task_id DESC);
CREATE INDEX task_executions_of_queue ON task_executions (tenant_id, queue, created_at DESC, task_id DESC);
