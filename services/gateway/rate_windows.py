"""Requests counted in PostgreSQL, in fixed windows of its clock: the one place that all gateways share."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from msgspec import Struct
from psycopg.errors import QueryCanceled

from taskloom.views.reading import Pool, TooSlow

WITHOUT_LIMIT: Final = 2**62

MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86_400

KEEP_DAYS: Final = 2

# The rows are locked in the order of their names, so that two gateways wait and do not deadlock. The clock is looked at
# under the lock, and a window never goes back: what waited over the end of a window counts in the new one.
TAKE: Final = """
WITH held AS MATERIALIZED (
    SELECT w.*, a.wanted, a.per_minute, a.per_hour, a.per_day
    FROM unnest(
        %(subjects)s::text[], %(wanted)s::bigint[], %(minutes)s::bigint[], %(hours)s::bigint[], %(days)s::bigint[]
    ) AS a (subject, wanted, per_minute, per_hour, per_day)
    JOIN rate_windows AS w USING (subject)
    ORDER BY w.subject
    FOR UPDATE OF w
), clock AS MATERIALIZED (
    SELECT h.subject, extract(epoch FROM clock_timestamp())::float8 AS now FROM held AS h
), current AS (
    SELECT h.*, c.now,
        greatest(h.minute, floor(c.now / 60)::bigint) AS m,
        greatest(h.hour, floor(c.now / 3600)::bigint) AS h,
        greatest(h.day, floor(c.now / 86400)::bigint) AS d
    FROM held AS h JOIN clock AS c USING (subject)
), used AS (
    SELECT *,
        CASE WHEN minute = m THEN minute_used ELSE 0 END AS mu,
        CASE WHEN hour = h THEN hour_used ELSE 0 END AS hu,
        CASE WHEN day = d THEN day_used ELSE 0 END AS du
    FROM current
), granted AS (
    SELECT *, greatest(0, least(wanted, per_minute - mu, per_hour - hu, per_day - du)) AS given FROM used
)
UPDATE rate_windows AS w
SET minute = g.m, minute_used = g.mu + g.given, hour = g.h, hour_used = g.hu + g.given, day = g.d,
    day_used = g.du + g.given
FROM granted AS g
WHERE w.subject = g.subject
RETURNING w.subject, g.given, w.minute_used, w.hour_used, w.day_used, g.now
"""

ADD: Final = """
INSERT INTO rate_windows (subject, minute, minute_used, hour, hour_used, day, day_used)
SELECT subject, 0, 0, 0, 0, 0, 0 FROM unnest(%(subjects)s::text[]) AS s (subject) ORDER BY subject
ON CONFLICT (subject) DO NOTHING
"""

FORGET: Final = """
DELETE FROM rate_windows WHERE day < floor(extract(epoch FROM clock_timestamp()) / 86400)::bigint - %(days)s
"""


class Plan(Struct, frozen=True):
    """Requests that a caller may send in each window; None: as many as it likes."""

    minute: int | None = None
    hour: int | None = None
    day: int | None = None

    @property
    def limits(self) -> bool:
        return (self.minute, self.hour, self.day) != (None, None, None)


class Asked(Struct, frozen=True):
    """``wanted`` requests at once, under one plan."""

    wanted: int
    plan: Plan


class Taken(Struct, frozen=True):
    """How many of the wanted may pass, what each window has used with them, and PostgreSQL's clock in Unix seconds."""

    given: int
    minute: int
    hour: int
    day: int
    now: float


class RateTable(Protocol):
    """Where requests are counted."""

    async def take(self, asked: Mapping[str, Asked]) -> dict[str, Taken]: ...

    async def forget_old(self) -> None: ...


class PostgresWindows:
    """``take`` is one statement for all subjects; a subject's very first request makes its row with two more."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(self, asked: Mapping[str, Asked]) -> dict[str, Taken]:
        """What passes, by subject.

        Raises:
            psycopg.OperationalError, TooSlow: PostgreSQL is away or slow; whether it counted is unknown.
        """
        try:
            taken = await self._take(asked)
            missing = {subject: each for subject, each in asked.items() if subject not in taken}
            if missing:
                await self._run(ADD, {"subjects": sorted(missing)})
                taken |= await self._take(missing)
            return taken
        except QueryCanceled as error:
            raise TooSlow from error

    async def forget_old(self) -> None:
        """Removes subjects that were not here for two days."""
        await self._run(FORGET, {"days": KEEP_DAYS})

    async def _take(self, asked: Mapping[str, Asked]) -> dict[str, Taken]:
        rows = await self._run(
            TAKE,
            {
                "subjects": list(asked),
                "wanted": [each.wanted for each in asked.values()],
                "minutes": [_limit(each.plan.minute) for each in asked.values()],
                "hours": [_limit(each.plan.hour) for each in asked.values()],
                "days": [_limit(each.plan.day) for each in asked.values()],
            },
        )
        return {str(subject): Taken(*numbers) for subject, *numbers in rows}

    async def _run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []


def _limit(limit: int | None) -> int:
    return WITHOUT_LIMIT if limit is None else limit
