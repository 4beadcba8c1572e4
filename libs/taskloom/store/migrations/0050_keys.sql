-- What an entity is found by where its tenant is not known: of an API key its SHA-256.
ALTER TABLE entities ADD COLUMN lookup text COLLATE "C";
CREATE INDEX entities_by_lookup ON entities (kind, lookup) WHERE lookup IS NOT NULL AND NOT removed;

-- When a key was last used, to the minute. Written by gateways, beside the events: it is no fact that anything rests on.
CREATE TABLE key_uses (
    tenant_id    text COLLATE "C" NOT NULL,
    key_id       text COLLATE "C" NOT NULL,
    last_used_at timestamptz      NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);
