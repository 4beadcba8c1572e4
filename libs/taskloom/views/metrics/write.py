"""A batch's sums into their tables."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import Cursor

from taskloom.views.metrics.fold import HOUR_S, Tally
from taskloom.views.metrics.sums import FIELDS, LARGEST, SECOND_FIELDS, SMALLEST, Hour, HourKey, SecondKey

SECONDS_KEPT_S: Final = 2 * HOUR_S
"""Single seconds are for the last hour's figures, and are kept twice as long."""


def _merged(name: str) -> str:
    # greatest and least pass over NULL.
    how = "greatest" if name in LARGEST else "least" if name in SMALLEST else ""
    return f"{name} = {how}(kept.{name}, excluded.{name})" if how else f"{name} = kept.{name} + excluded.{name}"


def _adding(table: str, keys: Mapping[str, str], fields: tuple[str, ...], where: str = "") -> str:
    arrays = [f"%({name})s::{kind}[]" for name, kind in keys.items()] + [f"%({name})s::bigint[]" for name in fields]
    columns = ", ".join((*keys, *fields))
    return (
        f"INSERT INTO {table} AS kept ({columns}) SELECT * FROM unnest({', '.join(arrays)}) AS new ({columns}) {where} "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {', '.join(map(_merged, fields))}"
    )


ADD_HOURS: Final = _adding(
    "metrics_hours",
    {"tenant_id": "text", "hour": "timestamptz", "kind": "text", "executor_id": "text"},
    FIELDS,
    # Hours that retention took away do not come back with events that are read anew.
    "WHERE hour >= coalesce((SELECT before FROM retired_hours WHERE table_name = 'metrics_hours'), '-infinity')",
)
ADD_TOTALS: Final = _adding("metrics_totals", {"tenant_id": "text", "kind": "text", "executor_id": "text"}, FIELDS)
ADD_SECONDS: Final = _adding("metrics_seconds", {"tenant_id": "text", "second": "bigint"}, SECOND_FIELDS)

FORGET: Final = "DELETE FROM metrics_seconds WHERE second < %(before)s"


def add(cursor: Cursor[Any], tally: Tally) -> None:
    """Adds a batch's sums, in the order of their keys: two projections then wait for each other, and never deadlock.

    Call it last in the transaction, since all projections write these few rows.
    """
    if tally.hours:
        _add_hours(cursor, ADD_HOURS, tally.hours)
        _add_hours(cursor, ADD_TOTALS, tally.totals())
    recent = sorted(key for key in tally.seconds if key.second > time.time() - SECONDS_KEPT_S)
    if recent:
        _add_seconds(cursor, recent, tally)


def forget(cursor: Cursor[Any]) -> None:
    """Takes away the seconds that nobody asks for any more."""
    cursor.execute(FORGET.encode(), {"before": int(time.time()) - SECONDS_KEPT_S})


def _add_hours(cursor: Cursor[Any], statement: str, sums: Mapping[HourKey, Hour]) -> None:
    keys = sorted(sums)
    cursor.execute(
        statement.encode(),
        {
            "tenant_id": [key.tenant_id for key in keys],
            "hour": [hour_at(key.hour) for key in keys],
            "kind": [key.kind for key in keys],
            "executor_id": [key.executor_id for key in keys],
            **{name: [getattr(sums[key], name) for key in keys] for name in FIELDS},
        },
    )


def _add_seconds(cursor: Cursor[Any], keys: list[SecondKey], tally: Tally) -> None:
    cursor.execute(
        ADD_SECONDS.encode(),
        {
            "tenant_id": [key.tenant_id for key in keys],
            "second": [key.second for key in keys],
            **{name: [getattr(tally.seconds[key], name) for key in keys] for name in SECOND_FIELDS},
        },
    )


def hour_at(hour: int) -> datetime:
    """The moment at which an hour begins."""
    return datetime.fromtimestamp(hour * HOUR_S, UTC)
