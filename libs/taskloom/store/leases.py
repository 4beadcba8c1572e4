"""Leases of limits in PostgreSQL: who takes one holds its limits' locks until the commit, so no two count too few.

Of the asker's partitions the rows are locked against a take-over: what an owner took before it lost a partition is seen
by the next one, which ends what belongs to no attempt (``settle_leases``), and afterwards it takes nothing more.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from zlib import crc32

import psycopg
from msgspec import structs
from psycopg.rows import TupleRow

from taskloom.domain.scheduling.leases import Holder, Limit, Occupied, Taken, Wish, grant, limits_of
from taskloom.store.batch import Lease

Cursor = psycopg.Cursor[TupleRow]

LOCKS: Final = 64
"""Advisory locks that limits share by their hash: few enough for the server's lock table, whatever the limits."""

# EvalPlanQual: a row that a take-over has just changed is looked at again when its lock is given, and then left out.
FENCE: Final = """
SELECT o.partition FROM partition_offsets AS o
JOIN unnest(%b::int[], %b::bigint[]) AS m (partition, epoch) ON o.partition = m.partition
WHERE o.epoch = m.epoch ORDER BY o.partition FOR SHARE OF o
"""

# 7461 is the first half of these keys. In the order given, the same for everybody.
LOCK_LIMITS: Final = "SELECT pg_advisory_xact_lock(7461, number) FROM unnest(%b::int[]) AS l (number)"

_WANTED: Final = "unnest(%b::text[], %b::text[], %b::text[]) WITH ORDINALITY AS w (scope, tenant_id, name, place)"

# Of those that wait only who was seen lately counts, and is older than the asker, if that waits at all.
SELECT_OCCUPIED: Final = f"""
SELECT w.place, l.taken, o.older, m.since IS NOT NULL, h.tasks, h.tenants, h.times FROM {_WANTED}
CROSS JOIN LATERAL (
    SELECT count(*) AS taken FROM leases AS l
    WHERE l.scope = w.scope AND l.tenant_id = w.tenant_id AND l.name = w.name
) AS l
LEFT JOIN LATERAL (
    SELECT since FROM lease_waits AS m
    WHERE m.scope = w.scope AND m.tenant_id = w.tenant_id AND m.name = w.name AND m.instance = %b::text
) AS m ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS older FROM lease_waits AS o
    WHERE o.scope = w.scope AND o.tenant_id = w.tenant_id AND o.name = w.name AND o.instance <> %b::text
        AND o.seen_at > clock_timestamp() - interval '2 s' AND (m.since IS NULL OR o.since < m.since)
) AS o
CROSS JOIN LATERAL (
    SELECT array_agg(task_id) AS tasks, array_agg(holder) AS tenants, array_agg(since) AS times FROM (
        SELECT task_id, holder, since FROM leases AS l
        WHERE l.scope = w.scope AND l.tenant_id = w.tenant_id AND l.name = w.name LIMIT 10
    ) AS ten
) AS h
"""

_ROWS: Final = """unnest(%b::text[], %b::text[], %b::text[], %b::text[]) AS w (scope, tenant_id, name, task_id)"""

SELECT_HAVING: Final = f"""
SELECT l.scope, l.tenant_id, l.name, l.task_id FROM {_ROWS}
CROSS JOIN LATERAL (
    SELECT * FROM leases AS l WHERE l.scope = w.scope AND l.tenant_id = w.tenant_id AND l.name = w.name
        AND l.task_id = w.task_id OFFSET 0
) AS l
"""

INSERT_LEASES: Final = """
INSERT INTO leases (scope, tenant_id, name, task_id, attempt, partition, holder)
SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[], %b::int[], %b::text[])
ON CONFLICT (scope, tenant_id, name, task_id)
DO UPDATE SET attempt = excluded.attempt, partition = excluded.partition,
    since = CASE WHEN leases.attempt = excluded.attempt THEN leases.since ELSE excluded.since END
"""

# By ctid, one index walk a row; sql.DELETE_OPEN says why.
DELETE_LEASES: Final = f"""
DELETE FROM leases WHERE ctid = ANY (ARRAY(
    SELECT f.ctid FROM {_ROWS}
    CROSS JOIN LATERAL (
        SELECT l.ctid FROM leases AS l WHERE l.scope = w.scope AND l.tenant_id = w.tenant_id AND l.name = w.name
            AND l.task_id = w.task_id OFFSET 0
    ) AS f
))
"""

DELETE_UNHELD: Final = """
DELETE FROM leases AS l WHERE l.partition = %b::int AND NOT EXISTS (
    SELECT FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[]) AS w (scope, tenant_id, name, task_id)
    WHERE l.scope = w.scope AND l.tenant_id = w.tenant_id AND l.name = w.name AND l.task_id = w.task_id
)
"""

INSERT_WAITS: Final = """
INSERT INTO lease_waits (scope, tenant_id, name, instance)
SELECT scope, tenant_id, name, %b::text
FROM unnest(%b::text[], %b::text[], %b::text[]) AS w (scope, tenant_id, name)
ON CONFLICT (scope, tenant_id, name, instance) DO UPDATE SET seen_at = excluded.seen_at
"""

SEE_WAITS: Final = """
UPDATE lease_waits AS o SET seen_at = clock_timestamp()
FROM unnest(%b::text[], %b::text[], %b::text[]) AS w (scope, tenant_id, name)
WHERE o.scope = w.scope AND o.tenant_id = w.tenant_id AND o.name = w.name AND o.instance = %b::text
"""

DELETE_WAITS: Final = """
DELETE FROM lease_waits AS o USING unnest(%b::text[], %b::text[], %b::text[]) AS w (scope, tenant_id, name)
WHERE o.scope = w.scope AND o.tenant_id = w.tenant_id AND o.name = w.name AND o.instance = %b::text
"""


# What orchestrators that are gone waited for; nobody looks at it any more.
DELETE_OLD_WAITS: Final = """
DELETE FROM lease_waits WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM lease_waits WHERE seen_at < clock_timestamp() - interval '1 minute' FOR UPDATE SKIP LOCKED
))
"""


def take_leases(cursor: Cursor, instance: str, epochs: Mapping[int, int], wishes: Sequence[Wish]) -> Taken:
    """Grants what fits, in the order of the wishes; to be called in a transaction. Asked again after a lost answer it
    grants the same. ``epochs``: those of the asker's partitions, by which it is known as their owner."""
    partitions = sorted({wish.partition for wish in wishes})
    _run(cursor, FENCE, partitions, [epochs.get(partition, 0) for partition in partitions])
    ours = {partition for (partition,) in cursor.fetchall()}
    fenced = frozenset(partitions) - ours
    wishes = [wish for wish in wishes if wish.partition in ours]
    if not wishes:
        return Taken(fenced=fenced)
    limits = limits_of(wishes)
    _run(cursor, LOCK_LIMITS, sorted({_lock_of(limit) for limit in limits}))
    occupied, waited = _occupied(cursor, instance, limits)
    having = _having(cursor, wishes)
    granted, full = grant(wishes, occupied, having)
    _insert(cursor, granted)
    if full:
        _run(cursor, INSERT_WAITS, instance, *_columns(full))
    if served := [limit for limit in waited if limit not in full]:
        _run(cursor, DELETE_WAITS, *_columns(served), instance)
    found = {limit: structs.replace(occupied[limit], taken=taken) for limit, taken in full.items()}
    return Taken(frozenset(wish.task_id for wish in granted), fenced, found)


def look_at_leases(
    cursor: Cursor, instance: str, limits: Sequence[Limit], gone: Sequence[Limit], waits: bool
) -> dict[Limit, Occupied]:
    """How these limits stand. ``waits``: that we still wait for them is to be noted too; ``gone``: what we no longer
    wait for. Needs no transaction: each statement stands for itself."""
    if gone:
        _run(cursor, DELETE_WAITS, *_columns(gone), instance)
    if waits:
        _run(cursor, SEE_WAITS, *_columns(limits), instance)
    return _occupied(cursor, instance, limits)[0]


def settle_leases(cursor: Cursor, partition: int, epoch: int, held: Sequence[Wish]) -> bool:
    """Makes the partition's leases those of its live attempts; gives whether it is still the caller's to say so."""
    _run(cursor, FENCE, [partition], [epoch])
    if not cursor.fetchall():
        return False
    rows = [Lease(limit, wish.task_id) for wish in held for limit, _ in wish.places]
    _run(cursor, DELETE_UNHELD, partition, *_columns_of_leases(rows))
    _insert(cursor, held)
    _run(cursor, DELETE_OLD_WAITS)
    return True


def end_leases(cursor: Cursor, ended: Sequence[Lease]) -> None:
    _run(cursor, DELETE_LEASES, *_columns_of_leases(sorted(ended)))


def _occupied(cursor: Cursor, instance: str, limits: Sequence[Limit]) -> tuple[dict[Limit, Occupied], list[Limit]]:
    """How they stand, and which of them the asker is noted to wait for."""
    _run(cursor, SELECT_OCCUPIED, *_columns(limits), instance, instance)
    rows = cursor.fetchall()
    occupied = {}
    for place, taken, older, _, *columns in rows:
        holders = (Holder(*each) for each in zip(*columns, strict=True)) if taken else ()
        occupied[limits[place - 1]] = Occupied(taken, older, tuple(holders))
    return occupied, [limits[place - 1] for place, _, _, waits, *_ in rows if waits]


def _having(cursor: Cursor, wishes: Sequence[Wish]) -> set[tuple[Limit, str]]:
    rows = [Lease(limit, wish.task_id) for wish in wishes for limit, _ in wish.places]
    names = {(_plain(row.limit), row.task_id): row for row in rows}
    _run(cursor, SELECT_HAVING, *_columns_of_leases(rows))
    found = (names[Limit(*row[:3]), row[3]] for row in cursor.fetchall())
    return {(lease.limit, lease.task_id) for lease in found}


def _insert(cursor: Cursor, wishes: Sequence[Wish]) -> None:
    rows = sorted(
        (*_plain(limit), w.task_id, w.attempt, w.partition, w.tenant_id) for w in wishes for limit, _ in w.places
    )
    if rows:
        _run(cursor, INSERT_LEASES, *(list(column) for column in zip(*rows, strict=True)))


def _columns(limits: Sequence[Limit] | Mapping[Limit, Any]) -> list[list[str]]:
    plain = [_plain(limit) for limit in limits]
    return [[limit.scope for limit in plain], [limit.tenant_id for limit in plain], [limit.name for limit in plain]]


def _columns_of_leases(rows: Sequence[Lease]) -> list[list[str]]:
    return [*_columns([row.limit for row in rows]), [row.task_id for row in rows]]


def _plain(limit: Limit) -> Limit:
    """Without the one character that PostgreSQL's text does not take."""
    return limit if "\0" not in limit.name else Limit(limit.scope, limit.tenant_id, limit.name.replace("\0", "\ufffd"))


def _lock_of(limit: Limit) -> int:
    return crc32("/".join(_plain(limit)).encode()) % LOCKS


def _run(cursor: Cursor, query: str, *parameters: Any) -> None:
    cursor.execute(query, parameters, prepare=True)
