"""Nodelink's vocabulary: what Go prints for a duration, times with nanoseconds, sweeps by the clock."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.gateway.nodelink.desk import Fresh, Retention
from services.gateway.nodelink.words import STATUSES, go_duration, milliseconds, rfc3339
from taskloom.views.task_executions.row import STATUSES as STATES

# What time.Duration.String gives, from Go's own tests (time_test.go, durationTests).
GO = [
    (0, "0s"),
    (1e-9, "1ns"),
    (1.1e-6, "1.1µs"),
    (2.2e-3, "2.2ms"),
    (3.3, "3.3s"),
    (245, "4m5s"),
    (245.001, "4m5.001s"),
    (18_367.001, "5h6m7.001s"),
    (480.000000001, "8m0.000000001s"),
]


@pytest.mark.parametrize(("seconds", "text"), GO)
def test_durations_read_as_go_prints_them(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(300, "5m0s"), (1, "1s"), (90, "1m30s"), (3600, "1h0m0s"), (1.5, "1.5s")]
)
def test_usual_time_limits_read_as_in_the_source(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text


def test_times_are_utc_with_nine_digits() -> None:
    at = datetime(2026, 11, 21, 19, 45, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    assert rfc3339(at) == "2026-11-21T17:45:00.123456000Z"
    assert datetime.fromisoformat(rfc3339(at)) == at
    assert milliseconds(at) == 1_795_283_100_123


def test_every_state_of_a_task_has_a_word() -> None:
    assert set(STATUSES) == set(STATES) - {"cancelling"}


def test_a_sweep_moves_on_every_five_minutes_and_leaves_thirty_at_least() -> None:
    retention = Retention(keep_s=1800, sweep_s=300)
    noon = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    assert retention.ended_after(noon) == noon - timedelta(minutes=30)
    assert retention.ended_after(noon + timedelta(minutes=4, seconds=59)) == noon - timedelta(minutes=30)
    assert retention.ended_after(noon + timedelta(minutes=5)) == noon - timedelta(minutes=25)


def test_a_list_waits_for_what_was_made_for_its_tenant_and_agent_only_and_not_for_ever() -> None:
    fresh = Fresh(wait_s=60)
    fresh.add("a", "agent1", "t-1")
    fresh.add("a", "agent2", "t-2")
    fresh.add("b", "agent1", "t-3")
    assert (fresh.of("a", None), fresh.of("a", "agent1")) == ({"t-1", "t-2"}, {"t-1"})
    fresh.seen("a", "t-1")
    assert fresh.of("a", "agent1") == set()
    late = Fresh(wait_s=0)
    late.add("a", "agent1", "t-1")
    assert late.of("a", None) == set()
