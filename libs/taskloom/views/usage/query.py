"""What a tenant used in a range of time, from the ledger that is written with the ends of attempts: it does not lag."""

from datetime import datetime, timedelta
from typing import Any, Final, Literal, LiteralString

from msgspec import Struct

from taskloom.domain.scheduling.quotas import KEY_SCOPE, day_of, hour_of
from taskloom.views.reading import Pool, row, rows

By = Literal["day", "hour", "session", "key"]

SERIES: Final[LiteralString] = """
SELECT period, sum(tokens)::bigint, sum(cost_usd), sum(attempts)::bigint FROM usage_ledger
WHERE tenant_id = %(tenant)s AND session_id = %(scope)s AND period >= %(first)s AND period <= %(last)s
    AND length(period) = length(%(first)s)
GROUP BY period ORDER BY period
"""

# Days alone: hours and months stand between them in the order of text.
BY_SCOPE: Final[LiteralString] = """
SELECT session_id, sum(tokens)::bigint, sum(cost_usd), sum(attempts)::bigint FROM usage_ledger
WHERE tenant_id = %(tenant)s AND period >= %(first)s AND period <= %(last)s AND length(period) = length(%(first)s)
    AND session_id <> '' AND starts_with(session_id, '@') = %(keys)s
GROUP BY session_id ORDER BY 3 DESC, 2 DESC, 1 LIMIT %(limit)s OFFSET %(offset)s
"""

COUNT: Final[LiteralString] = """
SELECT count(DISTINCT session_id) FROM usage_ledger
WHERE tenant_id = %(tenant)s AND period >= %(first)s AND period <= %(last)s AND length(period) = length(%(first)s)
    AND session_id <> '' AND starts_with(session_id, '@') = %(keys)s
"""

ENDED: Final[LiteralString] = """
SELECT date_trunc(%(unit)s, hour, 'UTC'), sum(completed + failed + cancelled + timed_out)::bigint,
    sum(completed)::bigint
FROM metrics_hours WHERE tenant_id = %(tenant)s AND hour >= %(since)s AND hour < %(until)s
GROUP BY 1
"""


class UsageFilter(Struct, frozen=True):
    """``since`` to before ``until``, whole periods both; one session or key of the tenant, or all of it."""

    by: By
    since: datetime
    until: datetime
    session_id: str = ""
    key_id: str = ""
    limit: int = 100
    offset: int = 0

    @property
    def scope(self) -> str:
        return f"{KEY_SCOPE}{self.key_id}" if self.key_id else self.session_id


class Sum(Struct, frozen=True):
    """``name``: a period, or the id of a session or key. ``attempts``: those that used something and have ended."""

    name: str
    tokens: int
    cost_usd: float
    attempts: int


class Ended(Struct, frozen=True):
    """Tasks that ended in a period, as the read tables have it."""

    ended: int
    completed: int


async def series(pool: Pool, tenant_id: str, chosen: UsageFilter) -> list[Sum]:
    """By period, in order; periods in which nothing was used are absent."""
    values = {"tenant": tenant_id, "scope": chosen.scope, **_periods(chosen)}
    return [Sum(*each) for each in await rows(pool, SERIES, values)]


async def by_scope(pool: Pool, tenant_id: str, chosen: UsageFilter) -> tuple[list[Sum], int]:
    """By session or key, the dearest first, and how many there are."""
    values = {"tenant": tenant_id, "keys": chosen.by == "key", **_periods(chosen)}
    counted = await row(pool, COUNT, values)
    found = await rows(pool, BY_SCOPE, {**values, "limit": chosen.limit, "offset": chosen.offset})
    return [Sum(name.removeprefix(KEY_SCOPE), *sums) for name, *sums in found], int(counted[0]) if counted else 0


async def ended(pool: Pool, tenant_id: str, chosen: UsageFilter) -> dict[datetime, Ended]:
    """By the beginning of the period, of the whole tenant."""
    values = {"tenant": tenant_id, "unit": chosen.by, "since": chosen.since, "until": chosen.until}
    return {at: Ended(*numbers) for at, *numbers in await rows(pool, ENDED, values)}


def _periods(chosen: UsageFilter) -> dict[str, Any]:
    """First and last period of the range."""
    name, length = (hour_of, timedelta(hours=1)) if chosen.by == "hour" else (day_of, timedelta(days=1))
    return {"first": name(chosen.since), "last": name(chosen.until - length)}
