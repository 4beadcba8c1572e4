-- When a value was stored last: what an agent's report refers to was stored shortly before, so old rows are let go.
ALTER TABLE agent_values ADD COLUMN stored_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX agent_values_by_time ON agent_values (stored_at);
