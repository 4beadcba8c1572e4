"""When a schedule is due: cron with a zone, an interval, or once. Pure; all times that go in and come out are UTC.

Cron is that of Debian (five fields; `cronsim`): a run at an hour that the clock skips happens right after the skip, one
at an hour that comes twice happens once, and ``*`` follows the clock as it goes.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from msgspec import Meta, Struct

from taskloom.domain.values import UtcTime

FIELDS: Final = 5
_ONE_MICROSECOND: Final = timedelta(microseconds=1)


class Timing(Struct, frozen=True, omit_defaults=True):
    """Exactly one of ``cron_expression``, ``interval_s`` and ``at``. Intervals count from ``anchor``.

    ``jitter_s``: each run begins up to so much later than it is due, always the same for the same due time.
    """

    cron_expression: str = ""
    timezone: str = "UTC"
    interval_s: Annotated[float, Meta(ge=1, le=366 * 86_400)] | None = None
    at: UtcTime | None = None
    start_at: UtcTime | None = None
    end_at: UtcTime | None = None
    jitter_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    anchor: UtcTime | None = None


class BadTiming(ValueError):
    """``field`` is what is wrong with it."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


def check(timing: Timing) -> None:
    """
    Raises:
        BadTiming: it never says when, or in a way that cannot be read.
    """
    given = (bool(timing.cron_expression), timing.interval_s is not None, timing.at is not None)
    if sum(given) != 1:
        raise BadTiming("send exactly one of cron_expression, interval_s and at", "cron_expression")
    zone = _zone(timing.timezone)
    if timing.cron_expression:
        if len(timing.cron_expression.split()) != FIELDS:
            message = f"{timing.cron_expression!r} has not five fields: minute hour day month weekday"
            raise BadTiming(message, "cron_expression")
        try:
            CronSim(timing.cron_expression, datetime(2024, 1, 1, tzinfo=zone))
        except CronSimError as error:
            raise BadTiming(f"{timing.cron_expression!r} is no cron expression: {error}", "cron_expression") from error
    if timing.start_at is not None and timing.end_at is not None and timing.end_at <= timing.start_at:
        raise BadTiming("it ends before it starts", "end_at")


def next_due(timing: Timing, after: datetime) -> datetime | None:
    """The first due time after that moment, None when there is none."""
    return next(due_times(timing, after), None)


def due_times(timing: Timing, after: datetime) -> Iterator[datetime]:
    """Due times after a moment, earliest first; without end where the timing has none."""
    if timing.start_at is not None and timing.start_at > after:
        after = timing.start_at - _ONE_MICROSECOND
    for due in _raw(timing, after):
        if timing.end_at is not None and due > timing.end_at:
            return
        yield due


def preview(timing: Timing, after: datetime, count: int) -> list[datetime]:
    """The next ``count`` due times."""
    return list(islice(due_times(timing, after), count))


def begins(timing: Timing, name: str, due: datetime) -> datetime:
    """When the run that is due then begins: the jitter of the schedule ``name`` is in it."""
    if not timing.jitter_s:
        return due
    digest = hashlib.blake2b(f"{name}/{due.isoformat()}".encode(), digest_size=8).digest()
    return due + timedelta(seconds=timing.jitter_s * int.from_bytes(digest) / 2**64)


def _raw(timing: Timing, after: datetime) -> Iterator[datetime]:
    if timing.at is not None:
        if timing.at > after:
            yield timing.at.astimezone(UTC)
    elif timing.interval_s is not None:
        yield from _every(timing.interval_s, timing.anchor or datetime(1970, 1, 1, tzinfo=UTC), after)
    else:
        yield from _cron(timing, after)


def _every(interval_s: float, anchor: datetime, after: datetime) -> Iterator[datetime]:
    number = max(0, int((after - anchor).total_seconds() // interval_s))
    while True:
        due = anchor + timedelta(seconds=interval_s * number)
        if due > after:
            yield due
        number += 1


def _cron(timing: Timing, after: datetime) -> Iterator[datetime]:
    # CronSim gives minutes after the one it starts in, also when that minute itself fits and lies after ``after``.
    for due in CronSim(timing.cron_expression, after.astimezone(_zone(timing.timezone))):
        yield due.astimezone(UTC)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise BadTiming(f"{name!r} is not an IANA time zone such as Europe/Berlin", "timezone") from error
