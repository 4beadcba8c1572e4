"""When a schedule is due, above all where clocks are put forward and back."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskloom.domain.entities.due import BadTiming, Timing, begins, check, next_due, preview

MOMENTS = st.integers(946_684_800, 2_208_988_800).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(expression: str, zone: str = "UTC", **fields: object) -> Timing:
    return Timing(cron_expression=expression, timezone=zone, **fields)  # type: ignore[arg-type]


def test_cron_follows_the_clock_of_its_zone_through_the_year() -> None:
    nine = cron("0 9 * * *", "Europe/Berlin")
    assert next_due(nine, utc("2026-01-15T00:00")) == utc("2026-01-15T08:00")
    assert next_due(nine, utc("2026-07-15T00:00")) == utc("2026-07-15T07:00")


def test_a_time_that_the_clock_skips_runs_right_after_the_skip() -> None:
    # 2026-03-29: 02:00 becomes 03:00 in Berlin, which is 01:00 UTC.
    half_past_two = preview(cron("30 2 * * *", "Europe/Berlin"), utc("2026-03-28T12:00"), 2)
    assert half_past_two == [utc("2026-03-29T01:00"), utc("2026-03-30T00:30")]


def test_a_time_that_comes_twice_runs_once() -> None:
    # 2026-10-25: 03:00 becomes 02:00 in Berlin, so 02:30 comes at 00:30 and at 01:30 UTC.
    due = preview(cron("30 2 * * *", "Europe/Berlin"), utc("2026-10-24T12:00"), 2)
    assert due == [utc("2026-10-25T00:30"), utc("2026-10-26T01:30")]


def test_a_star_goes_on_through_the_hour_that_comes_twice() -> None:
    due = preview(cron("*/30 * * * *", "Europe/Berlin"), utc("2026-10-24T23:45"), 6)
    assert [after - before for before, after in pairwise(due)] == [timedelta(minutes=30)] * 5


@given(MOMENTS, st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 29 2 *", "15 10 * * 1-5"]))
def test_the_next_due_time_comes_after_the_moment_and_nothing_lies_between(at: datetime, expression: str) -> None:
    for zone in ("UTC", "America/New_York", "Asia/Kathmandu"):
        timing = cron(expression, zone)
        due = next_due(timing, at)
        assert due is not None
        assert due > at
        assert next_due(timing, due - timedelta(microseconds=1)) == due


@given(MOMENTS, st.floats(1, 100_000))
def test_an_interval_counts_from_its_anchor(at: datetime, interval_s: float) -> None:
    anchor = utc("2020-01-01T00:00")
    due = next_due(Timing(interval_s=interval_s, anchor=anchor), at)
    assert due is not None
    assert due > at
    rounds = (due - anchor).total_seconds() / interval_s
    assert abs(rounds - round(rounds)) < 1e-6
    assert due - at <= timedelta(seconds=interval_s + 1e-3) or due == anchor


def test_once_is_once() -> None:
    timing = Timing(at=utc("2026-05-01T12:00"))
    assert preview(timing, utc("2026-04-01T00:00"), 5) == [utc("2026-05-01T12:00")]
    assert next_due(timing, utc("2026-05-01T12:00")) is None


def test_nothing_is_due_before_its_start_or_after_its_end() -> None:
    hourly = cron("0 * * * *", start_at=utc("2026-01-01T10:00"), end_at=utc("2026-01-01T12:00"))
    assert preview(hourly, utc("2025-12-01T00:00"), 9) == [utc(f"2026-01-01T{hour}:00") for hour in (10, 11, 12)]


def test_jitter_is_the_same_each_time_and_differs_between_schedules() -> None:
    timing, due = cron("0 0 * * *", jitter_s=600), utc("2026-01-01T00:00")
    late = {begins(timing, f"s-{number}", due) - due for number in range(50)}
    assert begins(timing, "s-1", due) == begins(timing, "s-1", due)
    assert len(late) > 40
    assert all(timedelta() <= each < timedelta(seconds=600) for each in late)


@pytest.mark.parametrize(
    ("timing", "field"),
    [
        (Timing(), "cron_expression"),
        (cron("* * * * *", interval_s=5), "cron_expression"),
        (cron("61 * * * *"), "cron_expression"),
        (cron("0 0 31 2 *"), "cron_expression"),
        (cron("@daily"), "cron_expression"),
        (cron("0 0 0 * * *"), "cron_expression"),
        (cron("* * * * *", "Europe/Nowhere"), "timezone"),
        (cron("* * * * *", "../etc/passwd"), "timezone"),
        (cron("* * * * *", start_at=utc("2026-01-02T00:00"), end_at=utc("2026-01-01T00:00")), "end_at"),
    ],
)
def test_a_timing_that_never_says_when_names_its_field(timing: Timing, field: str) -> None:
    with pytest.raises(BadTiming) as bad:
        check(timing)
    assert bad.value.field == field
