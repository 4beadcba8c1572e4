"""The metrics' sums against those of all stored events. Beside a running system only what stands still is compared: a
sum that changed while the events were read belongs to an hour that is still being written."""

import time
from datetime import datetime
from typing import Any, Final

from msgspec import Struct, field

from taskloom.views.metrics.fold import HOUR_S, Tally
from taskloom.views.metrics.sums import FIELDS, SECOND_FIELDS, Hour, HourKey, Second, SecondKey
from taskloom.views.reading import Pool, rows

SECONDS_COMPARED_S: Final = HOUR_S

HOURS: Final = f"""
SELECT tenant_id, (extract(epoch FROM hour) / 3600)::bigint, kind, executor_id, {", ".join(FIELDS)} FROM metrics_hours
"""
TOTALS: Final = f"SELECT tenant_id, 0::bigint, kind, executor_id, {', '.join(FIELDS)} FROM metrics_totals"
SECONDS: Final = f"SELECT tenant_id, second, {', '.join(SECOND_FIELDS)} FROM metrics_seconds WHERE second > %(since)s"

NO_HOUR: Final = Hour()
NO_SECOND: Final = Second()


class Sums(Struct):
    """All sums as they stand in the tables, or as they should."""

    hours: dict[HourKey, Hour] = field(default_factory=dict)
    totals: dict[HourKey, Hour] = field(default_factory=dict)
    seconds: dict[SecondKey, Second] = field(default_factory=dict)


async def stored_sums(pool: Pool, since: int) -> Sums:
    """``since``: seconds up to here, counted from 1970, are left out."""
    return Sums(
        {HourKey(*found[:4]): Hour(*found[4:]) for found in await rows(pool, HOURS)},
        {HourKey(*found[:4]): Hour(*found[4:]) for found in await rows(pool, TOTALS)},
        {SecondKey(*found[:2]): Second(*found[2:]) for found in await rows(pool, SECONDS, {"since": since})},
    )


def first_second() -> int:
    """Single seconds are kept for a while only; those after this one are all there."""
    return int(time.time()) - SECONDS_COMPARED_S


def wrong_sums(
    before: Sums, stored: Sums, tally: Tally, since: int, kept_from: datetime | None = None
) -> list[tuple[str, str, Any, Any]]:
    """Subject, field, stored and expected value of each number that differs. ``before`` is what was stored before the
    events of ``tally`` were read. Hours before ``kept_from`` were retired: none is expected."""
    first_hour = 0 if kept_from is None else int(kept_from.timestamp()) // HOUR_S
    hours = {key: hour for key, hour in tally.hours.items() if key.hour >= first_hour}
    seconds = {key: second for key, second in tally.seconds.items() if key.second > since}
    found: list[tuple[str, str, Any, Any]] = []
    for compared in (
        (before.hours, stored.hours, hours, NO_HOUR, FIELDS),
        (before.totals, stored.totals, tally.totals(), NO_HOUR, FIELDS),
        (before.seconds, stored.seconds, seconds, NO_SECOND, SECOND_FIELDS),
    ):
        found += _wrong(*compared)
    return found


def _wrong(
    before: dict[Any, Any], stored: dict[Any, Any], expected: dict[Any, Any], none: Any, fields: tuple[str, ...]
) -> list[tuple[str, str, Any, Any]]:
    found = []
    for key in sorted({*stored, *expected}):
        there, due = stored.get(key, none), expected.get(key, none)
        if there == due or there != before.get(key, none):
            continue
        found += [
            (_subject(key), name, getattr(there, name), getattr(due, name))
            for name in fields
            if getattr(there, name) != getattr(due, name)
        ]
    return found


def _subject(key: HourKey | SecondKey) -> str:
    if isinstance(key, SecondKey):
        return f"metrics of tenant {key.tenant_id}, second {key.second}"
    when = time.strftime("%Y-%m-%dT%H:00Z", time.gmtime(key.hour * HOUR_S)) if key.hour else "all hours"
    return f"metrics of tenant {key.tenant_id}, {when}, {key.kind}, {key.executor_id or 'no executor'}"
