-- The first answer to each request with an Idempotency-Key (services/gateway/first_answers.py). `scope` is the SHA-256
-- of who asked, the route and the key; `status` is NULL while the first request is in work. Losing the table changes no
-- task: ids and command ids are derived from the key.
CREATE TABLE first_answers (
    scope      bytea PRIMARY KEY CHECK (length(scope) = 32),
    body_hash  bytea       NOT NULL CHECK (length(body_hash) = 32),
    claim      uuid        NOT NULL,
    claimed_at timestamptz NOT NULL,
    status     smallint,
    headers    bytea,
    body       bytea
);
CREATE INDEX first_answers_old ON first_answers (claimed_at);
