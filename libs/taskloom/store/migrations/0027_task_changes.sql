-- What a client can change after the submission, beside columns that were there: a description, the executor that a task
-- has to run on, and whether it was taken out of the lists. A deleted row stays, so that an event that comes twice does
-- not bring it back; reads leave it out.
ALTER TABLE task_executions
    ADD COLUMN description text,
    ADD COLUMN assigned_to text COLLATE "C",
    ADD COLUMN deleted_at  timestamptz;

-- The tasks of an executor: those that have to run there. Most tasks name none.
CREATE INDEX task_executions_assigned ON task_executions (tenant_id, assigned_to, created_at DESC)
    WHERE assigned_to IS NOT NULL;
