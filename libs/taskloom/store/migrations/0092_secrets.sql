-- Secrets of tenants (libs/taskloom/secrets.py). `sealed` is a Fernet token; the key is in no table. Written by gateways,
-- read by executors. They are no events: a secret that was removed is gone.
CREATE TABLE secrets (
    tenant_id  text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    sealed     bytea            NOT NULL,
    created_at timestamptz      NOT NULL DEFAULT now(),
    updated_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
