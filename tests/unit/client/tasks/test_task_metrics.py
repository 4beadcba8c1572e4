"""Figures worked out from tasks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskloom.client import answers as a
from taskloom.client.tasks import TaskMetrics
from taskloom.client.tasks.metrics import Counts, peak

AT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
COUNTS = Counts(running=1, processed=9, agents=2)


def ran(start_s: float, seconds: float | None, status: str = "COMPLETED", **fields: Any) -> a.TaskSummary:
    """A task that started so many seconds before the moment of the report."""
    start = AT - timedelta(seconds=start_s)
    known: dict[str, Any] = {
        "task_id": "t",
        "status": f"TASK_STATUS_{status}",
        "state": status.lower(),
        "kind": "echo",
        "queue": "default",
        "priority": 2,
        "attempt": 1,
        "created_at": start,
        "started_at": start,
        "completed_at": None if seconds is None else start + timedelta(seconds=seconds),
    }
    return a.TaskSummary(**{**known, **fields})


def test_system_metrics_look_at_a_minute_and_an_hour() -> None:
    tasks = [
        ran(30, 10),
        ran(600, 20),
        ran(300, 1, "FAILED"),
        ran(300, 1, "TIMEOUT"),
        ran(300, 1, "CANCELLED"),
        ran(20_000, 5),
        ran(10, None, "RUNNING"),
    ]

    told = TaskMetrics(sla_seconds=15).current(tasks, COUNTS, at=AT)

    assert told == {
        "timestamp": AT.isoformat(),
        "concurrent_tasks": 1,
        "peak_concurrent_tasks": 3,
        "total_tasks_processed": 9,
        "tasks_per_minute": 1,
        "average_duration_seconds": 15.0,
        "failure_rate_percent": 50.0,
        "active_agents": 2,
        "sla_violations_last_hour": 2,
        "complete": True,
    }


def test_nothing_that_ran_gives_zeros() -> None:
    metrics = TaskMetrics()
    told = metrics.current([], Counts(0, 0, 0), at=AT)

    assert {value for value in told.values() if value.__class__ in (int, float)} == {0}
    assert metrics.sla([], AT) == {"last_hour": 0, "last_24h": 0, "compliance_rate_24h": 100.0}
    assert metrics.trends([], AT) == {"hourly_trends": []}
    assert metrics.workflows([], [])["longest_workflow_seconds"] == 0.0


def test_peak_counts_what_ran_at_one_moment() -> None:
    assert peak([ran(100, 50), ran(50, 50)], AT) == 1
    assert peak([ran(100, 60), ran(50, 50), ran(45, None, "RUNNING")], AT) == 3


def test_trends_are_by_the_hour_in_which_tasks_ended() -> None:
    tasks = [ran(1_900, 200), ran(1_700, 100), ran(100, 50), ran(90, 10, "FAILED"), ran(80, 1, "CANCELLED")]

    told = TaskMetrics().trends(tasks, AT)["hourly_trends"]

    assert [(hour["timestamp"][11:16], hour["completed_tasks"], hour["failed_tasks"]) for hour in told] == [
        ("12:00", 3, 1)
    ]
    assert told[0]["success_rate_percent"] == 75.0
    earlier = TaskMetrics().trends([ran(4_000, 1), *tasks], AT)["hourly_trends"]
    assert [hour["timestamp"][11:16] for hour in earlier] == ["11:00", "12:00"]


def test_retention_limits_trends() -> None:
    assert TaskMetrics(metrics_retention_hours=1).trends([ran(4_000, 1)], AT) == {"hourly_trends": []}


def test_limits_must_be_above_zero() -> None:
    with pytest.raises(ValueError, match="sample_window_minutes"):
        TaskMetrics(sample_window_minutes=0)
