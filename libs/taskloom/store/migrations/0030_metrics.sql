-- Sums over events, written in the transaction that writes the rows (libs/taskloom/views/metrics). A column's meaning
-- stands in sums.py. The rows of the current hour are written with every batch and read rarely: room on their pages
-- keeps that off the index (HOT).
CREATE TABLE metrics_hours (
    tenant_id   text COLLATE "C" NOT NULL,
    hour        timestamptz NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    executor_id text COLLATE "C" NOT NULL,
    completed          bigint NOT NULL,
    failed             bigint NOT NULL,
    cancelled          bigint NOT NULL,
    timed_out          bigint NOT NULL,
    timed              bigint NOT NULL,
    duration_us        bigint NOT NULL,
    duration_max_us    bigint NOT NULL,
    duration_min_us    bigint,
    sla_met            bigint NOT NULL,
    sla_violated       bigint NOT NULL,
    attempts_completed bigint NOT NULL,
    attempts_failed    bigint NOT NULL,
    attempts_timed_out bigint NOT NULL,
    attempts_lost      bigint NOT NULL,
    attempts_cancelled bigint NOT NULL,
    attempts_timed     bigint NOT NULL,
    attempts_us        bigint NOT NULL,
    attempts_max_us    bigint NOT NULL,
    waits              bigint NOT NULL,
    wait_us            bigint NOT NULL,
    wait_max_us        bigint NOT NULL,
    measured           bigint NOT NULL,
    measured_us        bigint NOT NULL,
    samples            bigint NOT NULL,
    cpu_us             bigint NOT NULL,
    cpu_peak_milli     bigint NOT NULL,
    memory_kb          bigint NOT NULL,
    memory_peak_kb     bigint NOT NULL,
    runs               bigint NOT NULL,
    run_steps          bigint NOT NULL,
    PRIMARY KEY (tenant_id, hour, kind, executor_id)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- The same over all hours, so that nobody adds up years.
CREATE TABLE metrics_totals (
    tenant_id   text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    executor_id text COLLATE "C" NOT NULL,
    completed          bigint NOT NULL,
    failed             bigint NOT NULL,
    cancelled          bigint NOT NULL,
    timed_out          bigint NOT NULL,
    timed              bigint NOT NULL,
    duration_us        bigint NOT NULL,
    duration_max_us    bigint NOT NULL,
    duration_min_us    bigint,
    sla_met            bigint NOT NULL,
    sla_violated       bigint NOT NULL,
    attempts_completed bigint NOT NULL,
    attempts_failed    bigint NOT NULL,
    attempts_timed_out bigint NOT NULL,
    attempts_lost      bigint NOT NULL,
    attempts_cancelled bigint NOT NULL,
    attempts_timed     bigint NOT NULL,
    attempts_us        bigint NOT NULL,
    attempts_max_us    bigint NOT NULL,
    waits              bigint NOT NULL,
    wait_us            bigint NOT NULL,
    wait_max_us        bigint NOT NULL,
    measured           bigint NOT NULL,
    measured_us        bigint NOT NULL,
    samples            bigint NOT NULL,
    cpu_us             bigint NOT NULL,
    cpu_peak_milli     bigint NOT NULL,
    memory_kb          bigint NOT NULL,
    memory_peak_kb     bigint NOT NULL,
    runs               bigint NOT NULL,
    run_steps          bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, executor_id)
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Single seconds since 1970, for figures of the last minute and hour; the projection takes old ones away.
CREATE TABLE metrics_seconds (
    tenant_id text COLLATE "C" NOT NULL,
    second    bigint NOT NULL,
    running      bigint NOT NULL,
    completed    bigint NOT NULL,
    failed       bigint NOT NULL,
    cancelled    bigint NOT NULL,
    timed        bigint NOT NULL,
    duration_us  bigint NOT NULL,
    sla_violated bigint NOT NULL,
    PRIMARY KEY (tenant_id, second)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX metrics_seconds_old ON metrics_seconds (second);

-- When the attempt under way started, for its run time; NULL while none is.
ALTER TABLE task_executions ADD COLUMN attempt_started_at timestamptz;

