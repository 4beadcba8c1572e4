-- Secrets that all gateways share (services/gateway/shared_secrets.py), each made by the first gateway that needs it. With
-- `stream-ids` gone, ids of streams of many tasks that clients still hold are answered 400; nothing else depends on it.
CREATE TABLE gateway_secrets (
    name    text PRIMARY KEY,
    secret  bytea       NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
