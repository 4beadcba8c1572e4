"""Nodelink's words: statuses, Go's durations, times with nanoseconds. Pure."""

from datetime import UTC, datetime
from typing import Final

from taskloom.views.task_executions.row import Row

STATUSES: Final[dict[str, str]] = {
    **dict.fromkeys(("scheduled", "waiting", "ready"), "pending"),
    "assigned": "sent",
    **dict.fromkeys(("running", "retrying", "pausing", "paused"), "in_progress"),
    "completed": "completed",
    "failed": "failed",
    "timed_out": "timeout",
    "cancelled": "cancelled",
}
"""By fine state. A task that is being cancelled is what lies below that, until nothing of it runs any more."""

_HOUR_NS, _MINUTE_NS, _SECOND_NS = 3_600_000_000_000, 60_000_000_000, 1_000_000_000
_SMALL_UNITS: Final = ((1_000_000, "ms"), (1_000, "µs"), (1, "ns"))


def status_of(row: Row) -> str:
    """One of pending, sent, in_progress, completed, failed, timeout, cancelled."""
    return status_word(row.phase if row.state == "cancelling" else row.state)


def status_word(state: str) -> str:
    return STATUSES[state]


def go_duration(seconds: float) -> str:
    """As Go's ``time.Duration.String``: ``5m0s``, ``1h0m0s``, ``1.5s``, ``250ms``, ``0s``; not for negative ones."""
    nanoseconds = round(seconds * _SECOND_NS)
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < _SECOND_NS:
        size, unit = next(each for each in _SMALL_UNITS if nanoseconds >= each[0])
        return f"{_decimal(nanoseconds, size)}{unit}"
    hours, rest = divmod(nanoseconds, _HOUR_NS)
    minutes, rest = divmod(rest, _MINUTE_NS)
    text = f"{_decimal(rest, _SECOND_NS)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def rfc3339(at: datetime) -> str:
    """In UTC with nine digits: ``2026-11-21T17:45:00.123456000Z``."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def milliseconds(at: datetime) -> int:
    """Since 1970."""
    return int(at.timestamp() * 1000)


def _decimal(amount: int, unit: int) -> str:
    """``amount / unit`` without trailing zeros."""
    whole, rest = divmod(amount, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{str(rest).zfill(len(str(unit)) - 1).rstrip('0')}"
