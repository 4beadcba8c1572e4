-- One row an approval that a task or a workflow's step asked for, folded from its task's events
-- (libs/taskloom/views/approvals/fold.py), with the columns that are searched.
CREATE TABLE approvals (
    approval_id  text COLLATE "C" PRIMARY KEY,
    tenant_id    text COLLATE "C" NOT NULL,
    task_id      text COLLATE "C" NOT NULL,
    status       text             NOT NULL,
    approvers    text[]           NOT NULL,
    requested_at timestamptz      NOT NULL,
    -- JSON, as bytes: jsonb does not take every text.
    approval     bytea            NOT NULL
);

CREATE INDEX approvals_of_task ON approvals (task_id);
CREATE INDEX approvals_newest ON approvals (tenant_id, requested_at DESC, approval_id DESC);
CREATE INDEX approvals_pending ON approvals (tenant_id, requested_at DESC, approval_id DESC) WHERE status = 'pending';
