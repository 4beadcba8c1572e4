-- The latest heartbeat of every executor that ever registered, as it came.
CREATE TABLE executors (
    executor_id text COLLATE "C" PRIMARY KEY,
    heard_at    timestamptz NOT NULL,
    heartbeat   json        NOT NULL
) WITH (
    -- A few rows, each written every few seconds for ever.
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
