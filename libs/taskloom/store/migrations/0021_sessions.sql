-- One row a session: sums over its tasks' rows (libs/taskloom/views/sessions/fold.py). What a task adds is written in the
-- transaction that writes its row, so each event counts once. The newest task is looked up when asked for, not kept.
CREATE TABLE sessions (
    tenant_id         text COLLATE "C"             NOT NULL,
    session_id        text COLLATE "C"             NOT NULL,
    user_id           text COLLATE "C"             NOT NULL,
    created_at        timestamptz      NOT NULL,
    updated_at        timestamptz      NOT NULL,
    last_completed_at timestamptz,
    task_count        bigint           NOT NULL,
    successful_tasks  bigint           NOT NULL,
    failed_tasks      bigint           NOT NULL,
    cancelled_tasks   bigint           NOT NULL,
    tokens_used       bigint           NOT NULL,
    cost_usd          double precision NOT NULL,
    PRIMARY KEY (tenant_id, session_id)
) WITH (
    -- Numbers change with every task and stand in no index: with room on the page the updates stay off the indexes.
    fillfactor = 75,
    autovacuum_vacuum_scale_factor = 0.05
);

-- The list, newest first. `created_at` changes only when an earlier task arrives late.
CREATE INDEX sessions_newest ON sessions (tenant_id, created_at DESC, session_id DESC);
