-- Large values that agents have stored: a report of an agent may refer to these alone, so that nobody reads a value of
-- somebody else by naming its SHA-256.
CREATE TABLE agent_values (
    tenant_id text COLLATE "C" NOT NULL,
    digest    text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);
