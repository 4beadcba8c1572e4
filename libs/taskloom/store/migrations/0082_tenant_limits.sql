-- What tenants may use where that was changed while the system runs (libs/taskloom/tenant_limits.py): written in the
-- transaction that stores the change's event. `overrides` is JSON, null where the settings hold again. `changed_in` is
-- the transaction that wrote the row: who follows the table asks for those that were not yet over at its last read.
CREATE TABLE tenant_limits (
    tenant_id  text COLLATE "C" PRIMARY KEY,
    version    bigint NOT NULL,
    overrides  bytea,
    changed_in xid8   NOT NULL
);
CREATE INDEX tenant_limits_by_change ON tenant_limits (changed_in);
