-- How many attempts a row of the ledger sums, and what a tenant used in a range of time: its hours are periods too, and
-- `session_id` may be `@key/<id>`, the usage of tasks that were submitted with an API key.
ALTER TABLE usage_ledger ADD COLUMN attempts bigint NOT NULL DEFAULT 0;
CREATE INDEX usage_ledger_by_period ON usage_ledger (tenant_id, period);
