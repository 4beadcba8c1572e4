"""How a report is drawn."""

from io import StringIO
from typing import Any

import msgspec
import pytest
from rich.console import Console

from taskloom.cli.report import bar, drawn, sparkline
from taskloom.client.figures import Report

AT = "2026-01-01T12:00:00Z"


def report(**changes: Any) -> Report:
    hours = [(0, 0, 0.0), (4_000, 1, 0.5), (1_000, 0, 90.0)]
    told: dict[str, Any] = {
        "report_timestamp": AT,
        "hours": 3,
        "current_metrics": {
            "timestamp": AT, "concurrent_tasks": 12, "peak_concurrent_tasks": 34, "total_tasks_processed": 5_001,
            "tasks_per_minute": 7, "average_duration_seconds": 1.0, "failure_rate_percent": 0.0, "active_agents": 2,
            "sla_violations_last_hour": 0,
        },
        "agent_metrics": {
            "executor-1": {
                "total_tasks": 5_001, "successful_tasks": 5_000, "failed_tasks": 1, "success_rate_percent": 99.98,
                "average_duration_seconds": 1.0, "average_wait_seconds": 0.25,
            }
        },
        "resource_metrics": {
            "average_cpu_percent": 38.5, "peak_cpu_percent": 99.0, "average_memory_mb": 10.0, "peak_memory_mb": 20.0,
            "sample_count": 3,
        },
        "workflow_metrics": {
            "total_workflows": 3, "average_duration_seconds": 2.0, "average_step_count": 4.5,
            "longest_workflow_seconds": 61.0, "shortest_workflow_seconds": 1.0,
        },
        "sla_metrics": {"last_hour": 1, "last_24h": 2, "compliance_rate_24h": 99.5},
        "performance_trends": {
            "hourly_trends": [
                {
                    "timestamp": f"2026-01-01T1{number}:00:00Z", "completed_tasks": completed, "failed_tasks": failed,
                    "average_duration_seconds": duration, "success_rate_percent": 99.9,
                }
                for number, (completed, failed, duration) in enumerate(hours)
            ]
        },
    }  # fmt: skip
    return msgspec.convert({**told, **changes}, Report)


def text_of(shown: Any) -> str:
    out = StringIO()
    Console(file=out, width=120).print(shown)
    return out.getvalue()


def test_report_shows_hours_executors_and_deadlines() -> None:
    text = text_of(drawn(report()))
    for part in (
        "12 running",
        "34",
        "5,001",
        "4,000",
        "1 min 30 s",
        "executor-1",
        "99.98 %",
        "99.5 % met",
        "4.5 steps",
    ):
        assert part in text
    assert "38.5 % of a core" in text
    assert text.count("█" * 30) == 1


def test_hours_without_tasks_are_drawn_when_asked_for() -> None:
    def lines(every: bool) -> int:
        return text_of(drawn(report(), every=every)).count(":00 ")

    assert (lines(False), lines(True)) == (2, 3)


def test_quiet_system_says_so() -> None:
    text = text_of(drawn(report(agent_metrics={}, performance_trends={"hourly_trends": []})))
    assert "no task ended" in text
    assert "no executor has ended an attempt" in text


@pytest.mark.parametrize(
    ("values", "shown"), [([], ""), ([0, 0], "  "), ([1, 8, 0], "▁█ "), ([1, 1_000_000], "▁█"), ([4, 8], "▄█")]
)
def test_sparkline_is_as_high_as_the_value_and_never_hides_one(values: list[int], shown: str) -> None:
    assert sparkline(values) == shown


def test_bar_is_as_long_as_the_value_to_an_eighth() -> None:
    assert [bar(value, 16, 2) for value in (0, 1, 8, 12, 16)] == ["", "▏", "█", "█▌", "██"]
    assert bar(0, 0) == ""
