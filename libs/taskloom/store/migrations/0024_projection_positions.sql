-- How far each projection is in each partition it reads. `next_offset` is written in the transaction that writes the rows,
-- and only when it still is what the writer believed: a stale owner touches no row and writes nothing (I3).
-- `end_offset` is how far the partition was known to reach at `checked_at`; `event_at` the time of the last applied
-- event; at `caught_up_at` nothing was waiting.
CREATE TABLE projection_positions (
    projection   text    NOT NULL,
    topic        text    NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint  NOT NULL,
    end_offset   bigint  NOT NULL,
    event_at     timestamptz,
    caught_up_at timestamptz NOT NULL,
    checked_at   timestamptz NOT NULL,
    PRIMARY KEY (projection, topic, partition)
) WITH (
    -- A few rows, each written with every batch.
    fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000
);
