-- One shard's events, in the columns that `eventsourcing` expects. notification_id is the position in the shard's log.
-- Rows are only ever added, and every query is made to walk one of the two indexes without statistics. Writers of one
-- shard wait for each other by an advisory lock, so that commit order is the order of positions; vacuum is not in the way.
CREATE TABLE events_{shard} (
    originator_id      text COLLATE "C" NOT NULL,
    originator_version bigint           NOT NULL,
    topic              text             NOT NULL,
    state              bytea            NOT NULL,
    notification_id    bigserial        NOT NULL,
    PRIMARY KEY (originator_id, originator_version)
);

CREATE UNIQUE INDEX events_{shard}_notification_id_idx ON events_{shard} (notification_id);

-- The newest snapshot of a task; it is replaced, so its pages keep room for that.
CREATE TABLE snapshots_{shard} (
    task_id text COLLATE "C" PRIMARY KEY,
    version bigint           NOT NULL,
    state   bytea            NOT NULL
) WITH (fillfactor = 80);
