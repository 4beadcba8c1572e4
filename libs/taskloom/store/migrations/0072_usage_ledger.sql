-- Tokens and money used by tenants and sessions, added up in the transaction that stores the ends of attempts
-- (libs/taskloom/domain/scheduling/quotas.py). `session_id` is empty for the tenant as a whole; `period` is a day, a month
-- or empty for all time, which alone sessions have. One set of rows for each shard: a shard has one writer, so writers
-- never wait for each other here. Only attempts that used something have rows.
CREATE TABLE usage_ledger (
    tenant_id  text COLLATE "C"  NOT NULL,
    session_id text COLLATE "C"  NOT NULL,
    period     text COLLATE "C"  NOT NULL,
    shard      int               NOT NULL,
    tokens     bigint            NOT NULL,
    cost_usd   double precision  NOT NULL,
    PRIMARY KEY (tenant_id, session_id, period, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 2000);
