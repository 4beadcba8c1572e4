"""How far the projection is: offsets it has applied, written with the rows they led to, and how far that is behind."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, LiteralString

from msgspec import Struct
from psycopg import Cursor

from taskloom.errors import TaskloomError
from taskloom.views.reading import Pool, row

PROJECTION: Final = "views"

FRESH_S: Final = 0.25
"""``Lag`` asks the database at most this often."""

SILENT_AFTER_S: Final = 5.0
"""A projection that runs looks at its partitions every second; silence for this long counts as lag."""

TAKE: Final[LiteralString] = """
INSERT INTO projection_positions (projection, topic, partition, next_offset, end_offset, caught_up_at, checked_at)
SELECT %(projection)s, topic, partition, 0, 0, now(), now() FROM unnest(%(topics)s::text[], %(partitions)s::integer[])
    AS wanted (topic, partition)
ORDER BY topic, partition
ON CONFLICT DO NOTHING
"""

READ: Final[LiteralString] = """
SELECT position.topic, position.partition, position.next_offset
FROM projection_positions AS position
JOIN unnest(%(topics)s::text[], %(partitions)s::integer[]) AS wanted (topic, partition) USING (topic, partition)
WHERE position.projection = %(projection)s
"""

# The rows are locked in one order by all projections, so that two of them wait for each other and never deadlock.
MOVE: Final[LiteralString] = """
WITH moves AS (
    SELECT * FROM unnest(
        %(topics)s::text[], %(partitions)s::integer[], %(expected)s::bigint[], %(next)s::bigint[], %(end)s::bigint[],
        %(event_at)s::timestamptz[]
    ) AS move (topic, partition, expected, next_offset, end_offset, event_at)
), locked AS (
    SELECT position.projection, position.topic, position.partition, moves.next_offset, moves.end_offset, moves.event_at
    FROM projection_positions AS position JOIN moves USING (topic, partition)
    WHERE position.projection = %(projection)s AND position.next_offset = moves.expected
    ORDER BY position.topic, position.partition
    FOR UPDATE OF position
)
UPDATE projection_positions AS position SET
    next_offset = locked.next_offset,
    end_offset = greatest(locked.end_offset, locked.next_offset),
    event_at = coalesce(locked.event_at, position.event_at),
    caught_up_at = CASE WHEN locked.next_offset >= locked.end_offset THEN now() ELSE position.caught_up_at END,
    checked_at = now()
FROM locked
WHERE (position.projection, position.topic, position.partition) = (locked.projection, locked.topic, locked.partition)
"""

LAG: Final[LiteralString] = """
SELECT
    coalesce(max(CASE
        WHEN end_offset > next_offset THEN extract(epoch FROM now() - greatest(event_at, caught_up_at))
        WHEN checked_at < now() - make_interval(secs => %(silent_after_s)s) THEN extract(epoch FROM now() - checked_at)
        ELSE 0
    END), 0)::double precision,
    coalesce(sum(greatest(0, end_offset - next_offset)), 0)::bigint
FROM projection_positions
WHERE projection = %(projection)s AND topic = %(topic)s
"""


class Fenced(TaskloomError):
    """Another owner of a partition was here; nothing was written."""


class Place(Struct, frozen=True, order=True):
    topic: str
    partition: int


class Move(Struct, frozen=True):
    """A step of one partition, from the offset that was expected to the next one. ``event_at``: of its last event."""

    place: Place
    expected: int
    next_offset: int
    end_offset: int
    event_at: datetime | None = None


class Lag(Struct, frozen=True):
    """``ms``: at most so old is the oldest event that waits, 0 when none does. ``records`` is how many wait."""

    ms: float
    records: int


def take(cursor: Cursor[Any], places: Sequence[Place]) -> dict[Place, int]:
    """The next offset of each partition; 0 for one that was never read."""
    values = {
        "projection": PROJECTION,
        "topics": [place.topic for place in places],
        "partitions": [place.partition for place in places],
    }
    cursor.execute(TAKE, values)
    cursor.execute(READ, values)
    return {Place(topic, partition): offset for topic, partition, offset in cursor.fetchall()}


def move(cursor: Cursor[Any], moves: Sequence[Move]) -> None:
    """Steps forward, all or none.

    Raises:
        Fenced: a partition was not where it was expected.
    """
    values = {
        "projection": PROJECTION,
        "topics": [step.place.topic for step in moves],
        "partitions": [step.place.partition for step in moves],
        "expected": [step.expected for step in moves],
        "next": [step.next_offset for step in moves],
        "end": [step.end_offset for step in moves],
        "event_at": [step.event_at for step in moves],
    }
    cursor.execute(MOVE, values)
    if cursor.rowcount != len(moves):
        raise Fenced(f"{len(moves) - cursor.rowcount} of {len(moves)} partitions were moved by another projection")


class LagReader:
    """Answers how far the reads are behind, from memory for a quarter of a second."""

    def __init__(self, pool: Pool, events_topic: str) -> None:
        self._pool = pool
        self._topic = events_topic
        self._kept: tuple[float, Lag] = (-FRESH_S, Lag(0.0, 0))

    async def lag(self) -> Lag:
        """Raises as ``reading.rows``."""
        if time.monotonic() - self._kept[0] > FRESH_S:
            self._kept = (time.monotonic(), await read_lag(self._pool, self._topic))
        return self._kept[1]

    async def lag_ms(self) -> float:
        return (await self.lag()).ms


async def read_lag(pool: Pool, events_topic: str) -> Lag:
    """Lag of the slowest partition of the events topic, and the records waiting in all of them."""
    values: Mapping[str, Any] = {"projection": PROJECTION, "topic": events_topic, "silent_after_s": SILENT_AFTER_S}
    found = await row(pool, LAG, dict(values))
    return Lag(0.0, 0) if found is None else Lag(max(0.0, found[0] * 1000), int(found[1]))
