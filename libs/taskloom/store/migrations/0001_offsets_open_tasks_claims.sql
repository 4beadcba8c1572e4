-- One row per Kafka partition: who owns it (epoch), what was consumed, what was published. Written with every put, in
-- the transaction that stores the events, so the room on its page lets each update stay on it (HOT: no index is touched).
CREATE TABLE partition_offsets (
    partition   int    PRIMARY KEY,
    epoch       bigint NOT NULL,
    next_offset bigint NOT NULL,
    published   bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);

-- The tasks that have not ended, each with its next timer: what a new owner of a partition must know of it.
-- A queue-like table: a row comes and goes with each task, and its timer moves in between.
--   One index only, and due_at is not in it: moving a timer stays on its page (HOT), for which fillfactor leaves room.
--   Dead rows come at the rate of tasks, however few are open: so autovacuum goes by their number, never by a share, and
--   works without pauses. It never gives pages back at the end of the file: that locks the table, and they fill again.
CREATE TABLE open_tasks (
    partition int              NOT NULL,
    task_id   text COLLATE "C" NOT NULL,
    due_at    timestamptz,
    PRIMARY KEY (partition, task_id)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- Large values, each once, by the SHA-256 of its JSON. No tenant: a value is only reached through a task that names it.
CREATE TABLE claims (
    digest    bytea       PRIMARY KEY CHECK (length(digest) = 32),
    value     bytea       NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
);
