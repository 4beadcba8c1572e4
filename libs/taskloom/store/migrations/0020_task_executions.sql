-- One row a task, folded from its events (libs/taskloom/views/task_executions/fold.py). NULL stands for empty text, {},
-- [] and false: most columns of most tasks are empty, and an empty column then costs neither bytes nor time.
-- What the submission fixed comes first, what changes later follows. Ids compare by their bytes (COLLATE "C"): that is
-- faster than a language's rules, and the store's order.
CREATE TABLE task_executions (
    task_id             text COLLATE "C" PRIMARY KEY,
    tenant_id           text COLLATE "C" NOT NULL,
    user_id             text COLLATE "C",
    session_id          text COLLATE "C",
    name                text,
    kind                text NOT NULL,
    queue               text NOT NULL,
    priority            smallint NOT NULL,
    query               text,
    mode                text,
    context             json,
    metadata            jsonb,
    tags                jsonb,
    input               json,
    max_attempts        integer NOT NULL,
    created_at          timestamptz NOT NULL,
    run_at              timestamptz,
    deadline            timestamptz,
    callback_url        text,
    correlation_id      text,
    traceparent         text,

    version             integer NOT NULL,
    phase               text NOT NULL,
    state               text NOT NULL,
    status              text NOT NULL,
    attempt             integer NOT NULL,
    failures            integer,
    executor_id         text COLLATE "C",
    result              text,
    response            json,
    error               text,
    error_type          text,
    exit_code           integer,
    progress            double precision,
    progress_message    text,
    queued_at           timestamptz,
    started_at          timestamptz,
    completed_at        timestamptz,
    failed_at           timestamptz,
    updated_at          timestamptz NOT NULL,
    retry_at            timestamptz,
    overdue             boolean,
    is_paused           boolean,
    pause_requested_at  timestamptz,
    paused_at           timestamptz,
    pause_reason        text,
    paused_by           text,
    checkpoint          text,
    is_cancelled        boolean,
    cancel_requested_at timestamptz,
    cancel_reason       text,
    cancelled_by        text,
    was_paused          boolean,
    input_tokens        bigint,
    output_tokens       bigint,
    cost_usd            double precision,
    model_used          text,
    provider            text,
    output_last_seq     bigint,
    output_ends         json,
    output_chunks       bigint,
    output_bytes        bigint
) WITH (
    -- A row is updated a few times soon after its insert: room on its page keeps those updates off the indexes (HOT).
    fillfactor = 75,
    -- Dead versions are few and prunable; the default 20 % of a million rows would be a long vacuum all at once.
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.02
);

-- The list, newest first, and its cursor. No column of it ever changes.
CREATE INDEX task_executions_newest ON task_executions (tenant_id, created_at DESC, task_id DESC);

-- A session's tasks, oldest first, and the newest of them. No column of it ever changes.
CREATE INDEX task_executions_of_session ON task_executions (tenant_id, session_id, created_at, task_id);

-- Open tasks: lists by QUEUED, RUNNING, PAUSED, and queue statistics, however many ended ones there are. A row enters at
-- its insert and leaves at its end; a task that is over before its first write never enters.
CREATE INDEX task_executions_open ON task_executions (tenant_id, created_at DESC, task_id DESC) WHERE completed_at IS NULL;

-- Tasks that ended badly: the few FAILED, TIMEOUT, CANCELLED among many COMPLETED. `failed_at` and not `status` is the
-- condition, since a condition on a column that changes often would cost every change an entry in every index.
CREATE INDEX task_executions_failed ON task_executions (tenant_id, created_at DESC, task_id DESC) WHERE failed_at IS NOT NULL;

-- Tags and metadata: tasks without them, the most, cost nothing here.
CREATE INDEX task_executions_tags ON task_executions USING gin (tags jsonb_path_ops) WHERE tags IS NOT NULL;
CREATE INDEX task_executions_metadata ON task_executions USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;

-- Tasks by status, so that a list can say how many there are without counting a million rows. One set of rows for each
-- partition of the events topic: a partition has one writer, so two projections never wait for each other here.
CREATE TABLE task_counts (
    tenant_id text COLLATE "C"    NOT NULL,
    partition integer NOT NULL,
    status    text    NOT NULL,
    tasks     bigint  NOT NULL,
    PRIMARY KEY (tenant_id, partition, status)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
