-- How many partitions and shards the data was written with: one row, put in by the first writer. Both numbers decide where
-- a task's events and its open row lie, so a service that is started with others would look in the wrong place.
CREATE TABLE store_layout (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions int     NOT NULL,
    shards     int     NOT NULL
);
