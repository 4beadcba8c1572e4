"""Every statement of the store but the schema's. Lists go in as binary arrays through ``unnest``: one statement each.

Each is meant to walk an index, never a table, whatever the planner knows; ``connect.py`` says why that needs saying.
``{shard}`` is the shard's number. Placeholders are psycopg's, ``%b`` being a binary one.
"""

from typing import Final

from msgspec import Struct

# --- what a shard's writer does ---------------------------------------------------------------------------------

MOVE_OFFSETS: Final = """
UPDATE partition_offsets AS o
SET next_offset = m.next_offset, published = greatest(o.published, m.published)
FROM unnest(%b::int[], %b::bigint[], %b::bigint[], %b::bigint[], %b::bigint[])
    AS m (partition, epoch, expected, next_offset, published)
WHERE o.partition = m.partition AND o.epoch = m.epoch AND o.next_offset = m.expected
RETURNING o.partition
"""

# The rows are given in the order of their digests: two writers that store the same values wait, and do not deadlock.
INSERT_CLAIMS: Final = """
INSERT INTO claims (digest, value)
SELECT decode(digest, 'hex'), value FROM unnest(%b::text[], %b::bytea[]) AS c (digest, value)
ON CONFLICT (digest) DO NOTHING
"""

# A row that would not change is left alone: most events move no timer, and an update leaves a dead row behind.
UPSERT_OPEN: Final = """
INSERT INTO open_tasks AS o (partition, task_id, due_at)
SELECT * FROM unnest(%b::int[], %b::text[], %b::timestamptz[])
ON CONFLICT (partition, task_id) DO UPDATE SET due_at = excluded.due_at WHERE o.due_at IS DISTINCT FROM excluded.due_at
"""

# By ctid, one index walk per row: a plain DELETE … USING unnest(…) may be planned as a join through the whole table.
# OFFSET 0 keeps the walk apart.
DELETE_OPEN: Final = """
DELETE FROM open_tasks
WHERE ctid = ANY (ARRAY(
    SELECT o.ctid FROM unnest(%b::int[], %b::text[]) AS c (partition, task_id)
    CROSS JOIN LATERAL (
        SELECT t.ctid FROM open_tasks AS t WHERE t.partition = c.partition AND t.task_id = c.task_id OFFSET 0
    ) AS o
))
"""

# Given in the order of the key, and a shard has its own rows: no two writers wait for each other.
ADD_USES: Final = """
INSERT INTO usage_ledger AS u (tenant_id, session_id, period, shard, tokens, cost_usd, attempts)
SELECT tenant_id, session_id, period, %b::int, tokens, cost_usd, attempts
FROM unnest(%b::text[], %b::text[], %b::text[], %b::bigint[], %b::float8[], %b::bigint[])
    AS n (tenant_id, session_id, period, tokens, cost_usd, attempts)
ON CONFLICT (tenant_id, session_id, period, shard)
DO UPDATE SET tokens = u.tokens + excluded.tokens, cost_usd = u.cost_usd + excluded.cost_usd,
    attempts = u.attempts + excluded.attempts
"""

PUT_LIMITS: Final = """
INSERT INTO tenant_limits AS l (tenant_id, version, overrides, changed_in)
SELECT tenant_id, version, overrides, pg_current_xact_id()
FROM unnest(%b::text[], %b::bigint[], %b::bytea[]) AS n (tenant_id, version, overrides)
ON CONFLICT (tenant_id)
DO UPDATE SET version = excluded.version, overrides = excluded.overrides, changed_in = excluded.changed_in
WHERE l.version < excluded.version
"""

UPSERT_SNAPSHOTS: Final = """
INSERT INTO snapshots_{shard} AS s (task_id, version, state)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::bytea[])
ON CONFLICT (task_id) DO UPDATE SET version = excluded.version, state = excluded.state
WHERE s.version < excluded.version
"""

# An advisory lock, not the table's: writers wait for each other alone, never for a vacuum or analyze (decision 0004).
# 7460 is the first half of our lock keys, the shard the second.
LOCK_EVENTS: Final = "SELECT pg_advisory_xact_lock(7460, {shard})"

INSERT_EVENTS: Final = """
INSERT INTO events_{shard} (originator_id, originator_version, topic, state)
SELECT * FROM unnest(%b::text[], %b::bigint[], %b::text[], %b::bytea[])
RETURNING notification_id
"""

# A partition that no one has ever owned has no events, so all of them are published up to the log's end.
TAKE_OVER: Final = """
INSERT INTO partition_offsets AS o (partition, epoch, next_offset, published)
SELECT %b::int, 1, 0, coalesce(max(notification_id), 0) FROM events_{shard}
ON CONFLICT (partition) DO UPDATE SET epoch = o.epoch + 1
RETURNING o.epoch, o.next_offset, o.published
"""

MARK_PUBLISHED: Final = """
UPDATE partition_offsets AS o
SET published = m.published
FROM unnest(%b::int[], %b::bigint[], %b::bigint[]) AS m (partition, epoch, published)
WHERE o.partition = m.partition AND o.epoch = m.epoch AND o.published < m.published
"""

INSERT_LAYOUT: Final = """
INSERT INTO store_layout (partitions, shards) VALUES (%b::int, %b::int) ON CONFLICT (only_row) DO NOTHING
"""

SELECT_LAYOUT: Final = "SELECT partitions, shards FROM store_layout"

SELECT_OFFSETS: Final = """
SELECT partition, epoch, next_offset FROM partition_offsets WHERE partition = ANY (%b::int[])
"""

SELECT_USES: Final = """
SELECT w.tenant_id, w.session_id, u.period, sum(u.tokens)::bigint, sum(u.cost_usd), sum(u.attempts)::bigint
FROM unnest(%b::text[], %b::text[]) AS w (tenant_id, session_id)
CROSS JOIN LATERAL (
    SELECT period, tokens, cost_usd, attempts FROM usage_ledger AS l
    WHERE l.tenant_id = w.tenant_id AND l.session_id = w.session_id AND l.period = ANY (%b::text[])
    OFFSET 0
) AS u
GROUP BY w.tenant_id, w.session_id, u.period
"""

SELECT_OPEN: Final = """
SELECT task_id, partition, due_at FROM open_tasks WHERE partition = %b::int ORDER BY task_id
"""

SELECT_SNAPSHOTS: Final = """
SELECT task_id, version, state FROM snapshots_{shard} WHERE task_id = ANY (%b::text[])
"""

# LATERAL with its own order holds the planner to one index walk per task. A plain join may read the whole table, since
# events tables have no statistics (see 0002_events.shard.sql) and it then takes them for 200 long streams.
SELECT_HISTORIES: Final = """
SELECT w.task_id, e.state
FROM unnest(%b::text[], %b::bigint[]) WITH ORDINALITY AS w (task_id, after, place)
CROSS JOIN LATERAL (
    SELECT originator_version, state FROM events_{shard}
    WHERE originator_id = w.task_id AND originator_version > w.after
    ORDER BY originator_version
) AS e
ORDER BY w.place, e.originator_version
"""

SELECT_STORED: Final = """
SELECT w.place, e.notification_id, e.state
FROM unnest(%b::text[], %b::bigint[]) WITH ORDINALITY AS w (task_id, version, place)
CROSS JOIN LATERAL (
    SELECT notification_id, state FROM events_{shard}
    WHERE originator_id = w.task_id AND originator_version = w.version
    OFFSET 0
) AS e
ORDER BY w.place
"""

SELECT_LOG: Final = """
SELECT notification_id, state FROM events_{shard} WHERE notification_id > %b::bigint
ORDER BY notification_id LIMIT %b::bigint
"""

MAX_POSITION: Final = "SELECT coalesce(max(notification_id), 0) FROM events_{shard}"

# --- what readers do --------------------------------------------------------------------------------------------

SELECT_EVENTS: Final = """
SELECT state FROM events_{shard}
WHERE originator_id = %b::text AND originator_version > %b::bigint AND originator_version <= %b::bigint
ORDER BY originator_version LIMIT %b::bigint
"""

# A part of the log, of which only the events that hold these bytes: what is not wanted is not sent.
SELECT_LOG_PART: Final = """
SELECT notification_id, state FROM events_{shard}
WHERE notification_id > %b::bigint AND notification_id <= %b::bigint AND position(%b::bytea IN state) > 0
ORDER BY notification_id LIMIT %b::bigint
"""

SELECT_FIRST: Final = """
SELECT e.state FROM unnest(%b::text[]) AS w (task_id)
CROSS JOIN LATERAL (
    SELECT state FROM events_{shard} WHERE originator_id = w.task_id AND originator_version = 1 OFFSET 0
) AS e
"""

# Steps from one task id to the next through the primary key, so that a task with many events costs no more than one.
SELECT_STREAMS: Final = """
WITH RECURSIVE walk (task_id) AS (
    (SELECT originator_id FROM events_{shard} WHERE originator_id > %b::text ORDER BY originator_id LIMIT 1)
    UNION ALL
    SELECT (SELECT originator_id FROM events_{shard} WHERE originator_id > walk.task_id ORDER BY originator_id LIMIT 1)
    FROM walk WHERE walk.task_id IS NOT NULL
)
SELECT task_id FROM walk WHERE task_id IS NOT NULL LIMIT %b::bigint
"""

# Whole streams one after the other, for a reader that goes through all of them.
SELECT_PAGE: Final = """
SELECT originator_id, originator_version, state FROM events_{shard}
WHERE (originator_id, originator_version) > (%b::text, %b::bigint)
ORDER BY originator_id, originator_version LIMIT %b::bigint
"""

COUNT_EVENTS: Final = """
SELECT count(*), count(*) FILTER (WHERE originator_version = 1 AND originator_id !~ '^@'),
    coalesce(max(notification_id), 0)
FROM events_{shard}
"""

COUNT_REST: Final = "SELECT (SELECT count(*) FROM open_tasks), (SELECT count(*) FROM claims)"

INSERT_CLAIM: Final = """
INSERT INTO claims (digest, value) VALUES (%b::bytea, %b::bytea) ON CONFLICT (digest) DO NOTHING
"""

SELECT_CLAIMS: Final = "SELECT digest, value FROM claims WHERE digest = ANY (%b::bytea[])"

SELECT_CLAIM: Final = "SELECT value FROM claims WHERE digest = %b::bytea"


class ShardSql(Struct, frozen=True):
    """The statements above that name a shard's tables, for one shard."""

    upsert_snapshots: str
    lock_events: str
    insert_events: str
    take_over: str
    select_snapshots: str
    select_histories: str
    select_stored: str
    select_log: str
    max_position: str
    select_events: str
    select_log_part: str
    select_first: str
    select_streams: str
    select_page: str
    count_events: str


def shard_sql(shard: int) -> ShardSql:
    return ShardSql(**{name: globals()[name.upper()].format(shard=int(shard)) for name in ShardSql.__struct_fields__})
