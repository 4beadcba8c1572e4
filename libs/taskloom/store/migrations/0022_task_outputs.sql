-- What attempts wrote, whole. `seq` is one rising number a task over all its attempts (domain/values.py,
-- OUTPUT_SEQ_SPAN), so a chunk that comes twice meets its own key. Text is kept as UTF-8 bytes, since PostgreSQL's text
-- cannot hold every character a program may write (U+0000).
CREATE TABLE task_outputs (
    task_id text COLLATE "C"        NOT NULL,
    seq     bigint      NOT NULL,
    attempt integer     NOT NULL,
    stream  text        NOT NULL,
    at      timestamptz NOT NULL,
    is_text boolean     NOT NULL,
    body    bytea       NOT NULL,
    PRIMARY KEY (task_id, seq)
);

-- Uncompressed: at 20 MB/s compression would take a good part of a core from everything else.
ALTER TABLE task_outputs ALTER COLUMN body SET STORAGE EXTERNAL;
