"""Reads of the sums. Each is a few index ranges of one tenant's, however many tasks there were."""

from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import Struct, field

from taskloom.views.metrics.sums import FIELDS, LARGEST, SMALLEST, Hour
from taskloom.views.reading import Pool, row, rows

HOUR: Final = timedelta(hours=1)

# How many ran at the end of a second is what runs now less what came after it.
LAST_HOUR: Final = """
WITH moment AS (
    SELECT now() AS at, extract(epoch FROM now())::bigint AS second
), counted AS (
    SELECT coalesce(sum(tasks) FILTER (WHERE status = 'RUNNING'), 0) AS running
    FROM task_counts WHERE tenant_id = %(tenant)s
), seen AS (
    SELECT
        metrics_seconds.*, moment.second - metrics_seconds.second AS ago,
        coalesce(sum(running) OVER (
            ORDER BY metrics_seconds.second DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ), 0) AS later
    FROM metrics_seconds, moment
    WHERE tenant_id = %(tenant)s AND metrics_seconds.second > moment.second - 3600
), summed AS (
    SELECT
        max(greatest(-later, -later - running)) AS above, sum(completed) AS completed, sum(failed) AS failed,
        sum(timed) AS timed, sum(duration_us) AS duration_us, sum(sla_violated) AS sla_violated,
        sum(completed) FILTER (WHERE ago <= 60) AS last_minute
    FROM seen
), ever AS (
    SELECT coalesce(sum(completed + failed + cancelled + timed_out), 0) AS ended
    FROM metrics_totals WHERE tenant_id = %(tenant)s
)
SELECT
    moment.at, counted.running::bigint, (counted.running + greatest(0, coalesce(above, 0)))::bigint,
    ever.ended::bigint, coalesce(last_minute, 0)::bigint, coalesce(completed, 0)::bigint, coalesce(failed, 0)::bigint,
    coalesce(timed, 0)::bigint, coalesce(duration_us, 0)::bigint, coalesce(sla_violated, 0)::bigint
FROM moment, counted, summed, ever
"""


def _summed(name: str) -> str:
    how = "max" if name in LARGEST else "min" if name in SMALLEST else "sum"
    return f"{how}({name})::bigint"


_SUMS: Final = ", ".join(map(_summed, FIELDS))

BY_EACH: Final = f"""
SELECT hour, executor_id, kind, {_SUMS} FROM metrics_hours
WHERE tenant_id = %(tenant)s AND hour >= %(since)s
GROUP BY GROUPING SETS ((hour), (executor_id), (kind))
"""

SLA: Final = """
SELECT coalesce(sum(sla_met), 0)::bigint, coalesce(sum(sla_violated), 0)::bigint FROM metrics_hours
WHERE tenant_id = %(tenant)s AND hour >= %(since)s
"""

EXECUTORS: Final = f"""
SELECT executor_id, {_SUMS} FROM metrics_totals
WHERE tenant_id = %(tenant)s AND executor_id <> '' AND (%(executor)s::text IS NULL OR executor_id = %(executor)s::text)
GROUP BY executor_id
"""


class LastHour(Struct, frozen=True):
    """The database's time, what runs, the most that ran at the end of a second, ends ever; then of the last minute and
    hour. ``failed`` holds those that timed out; ``timed`` and ``duration_us`` are of completed tasks."""

    at: datetime
    running: int
    peak: int
    ended_ever: int
    completed_last_minute: int
    completed: int
    failed: int
    timed: int
    duration_us: int
    sla_violated: int


class Hours(Struct):
    """The same sums thrice: by hour, by executor ("" is none), by kind. What nothing happened in is absent."""

    hours: dict[datetime, Hour] = field(default_factory=dict)
    executors: dict[str, Hour] = field(default_factory=dict)
    kinds: dict[str, Hour] = field(default_factory=dict)


class Sla(Struct, frozen=True):
    met: int = 0
    violated: int = 0


async def last_hour(pool: Pool, tenant_id: str) -> LastHour:
    found = await row(pool, LAST_HOUR, {"tenant": tenant_id})
    assert found is not None
    return LastHour(*found)


async def hours_since(pool: Pool, tenant_id: str, since: datetime) -> Hours:
    """Sums of the hours that began at ``since`` or later."""
    found = Hours()
    for hour, executor_id, kind, *sums in await rows(pool, BY_EACH, {"tenant": tenant_id, "since": since}):
        key, group = _group(found, hour, executor_id, kind)
        group[key] = Hour(*sums)
    return found


async def sla_since(pool: Pool, tenant_id: str, since: datetime) -> Sla:
    found = await row(pool, SLA, {"tenant": tenant_id, "since": since})
    return Sla() if found is None else Sla(*found)


async def of_executors(pool: Pool, tenant_id: str, executor_id: str | None = None) -> dict[str, Hour]:
    """Over all time, what the tenant's attempts on each executor came to; of one executor when it is named."""
    values = {"tenant": tenant_id, "executor": executor_id}
    return {name: Hour(*sums) for name, *sums in await rows(pool, EXECUTORS, values)}


def first_hour(at: datetime, hours: int) -> datetime:
    """The first of so many hours, the one that ``at`` lies in being the last."""
    return at.replace(minute=0, second=0, microsecond=0) - (hours - 1) * HOUR


def _group(found: Hours, hour: Any, executor_id: Any, kind: Any) -> tuple[Any, dict[Any, Hour]]:
    if hour is not None:
        return hour, found.hours
    if executor_id is not None:
        return executor_id, found.executors
    return kind, found.kinds
