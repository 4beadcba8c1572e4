-- Aggregates that are no tasks (stored workflows, ...), each folded from its events as of ``version``.
CREATE TABLE entities (
    entity_id  text COLLATE "C" PRIMARY KEY,
    kind       text COLLATE "C" NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    version    bigint           NOT NULL,
    removed    boolean          NOT NULL,
    changed_at timestamptz      NOT NULL,
    -- JSON, as bytes: jsonb does not take every text.
    entity     bytea            NOT NULL
);

CREATE INDEX entities_by_name ON entities (tenant_id, kind, name) WHERE NOT removed;
