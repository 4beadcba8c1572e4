-- Places that attempts hold of concurrency keys, queues, tenants and sessions (libs/taskloom/domain/scheduling/leases.py):
-- a row is put in before its attempt is assigned and goes in the transaction that stores the attempt's end, so the rows of
-- a limit are its places in use, over all orchestrators. There are never more of them than live attempts.
--   One index only: by limit. The few reads by partition, at a take-over, walk all of it.
CREATE TABLE leases (
    scope      text COLLATE "C" NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    task_id    text COLLATE "C" NOT NULL,
    attempt    bigint           NOT NULL,
    partition  int              NOT NULL,
    holder     text             NOT NULL,
    since      timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, tenant_id, name, task_id)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0,
    autovacuum_analyze_threshold = 50000, autovacuum_analyze_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- Orchestrators that found no place of a limit, since when, so that they take turns. Nothing depends on it but fairness:
-- what was not seen for 2 s is not looked at, and a crash of the server may empty it.
CREATE UNLOGGED TABLE lease_waits (
    scope      text COLLATE "C" NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    instance   text COLLATE "C" NOT NULL,
    since      timestamptz      NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz      NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, tenant_id, name, instance)
) WITH (
    fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, vacuum_truncate = off
);
