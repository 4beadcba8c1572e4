-- Every mutating call, as the audit topic has it; ids rise with time. The tenant '' has the calls of who could not say
-- who they are. Old rows are taken away by the projection.
CREATE TABLE audit (
    tenant_id text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    at        timestamptz      NOT NULL,
    user_id   text COLLATE "C" NOT NULL,
    key_id    text COLLATE "C" NOT NULL,
    method    text COLLATE "C" NOT NULL,
    route     text COLLATE "C" NOT NULL,
    task_id   text COLLATE "C" NOT NULL,
    status    int              NOT NULL,
    -- JSON, as bytes: all of the entry.
    entry     bytea            NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_task ON audit (tenant_id, task_id, id) WHERE task_id <> '';
